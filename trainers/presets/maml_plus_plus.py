"""MAML++'s settings, those of its released code."""

SOURCE = "github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch, 8696470"

# The inner rates of the code belong to the mean over the support set.
_SHARED = {
  "pooling": "max",
  "inner_steps": 5,
  "inner_learning_rate": 0.1,
  "normalization": "per_step_transductive",
  "learning_rate": 0.001,
  "steps_per_epoch": 500,
  "validation_tasks": 600,
}

_OMNIGLOT = {
  **_SHARED,
  "dataset": "omniglot",
  "filters": 64,
  "rotations": "per_task",
  "query_shots": 1,
  "train_query_shots": 1,
  "meta_batch_size": 8,
  "multi_step_epochs": 10,
  "epochs": 100,
  "learning_rate_decay": "cosine",
  "final_learning_rate": 1e-5,
}

_MINI_IMAGENET = {
  **_SHARED,
  "dataset": "mini_imagenet",
  "filters": 48,
  "ways": 5,
  "query_shots": 15,
  "train_query_shots": 15,
  "meta_batch_size": 2,
  "multi_step_epochs": 15,
  "epochs": 100,
  "learning_rate_decay": "none",
  "clipvalue": 10.0,
}

PRESETS = {
  **{
    f"omniglot_{ways}way_{shots}shot": {
      **_OMNIGLOT,
      "ways": ways,
      "shots": shots,
    }
    for ways in (5, 20)
    for shots in (1, 5)
  },
  **{
    f"mini_imagenet_5way_{shots}shot": {
      **_MINI_IMAGENET,
      "shots": shots,
    }
    for shots in (1, 5)
  },
}
