"""Published settings, and those a data set needs, as values of flags.

What the command line says goes before a preset, and a preset before the
defaults of its data set. Published inner learning rates belong to the reduction
of the released code: there the classification loss that the inner gradient is
taken of is the sum over the support set divided by the shots, here
`sum_over_ways`.
"""

from typing import Any

# Applied whenever the data set is chosen.
DATASETS: dict[str, dict[str, Any]] = {
  "sinusoid": {
    "ways": None,
    "shots": 10,
    "query_shots": 10,
    "train_query_shots": 10,
    "inner_learning_rate": 0.01,
    "meta_batch_size": 25,
    "learning_rate": 0.001,
    "steps_per_epoch": 1000,
    "epochs": 30,
    "steps_per_execution": 100,
    "learning_rate_decay": "none",
  },
}

_MAML_CODE = "github.com/cbfinn/maml (main.py), a7f45f1"
_REPTILE_CODE = "github.com/openai/supervised-reptile (README), 8f2b71c"

_MAML_PLUS_PLUS_CODE = (
  "github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch, 8696470"
)

_MAML_OMNIGLOT = {
  "dataset": "omniglot",
  "filters": 64,
  "rotations": "per_task",
  "pooling": "stride",
  "scale": False,
  "head_input": "mean",
  "inner_loss_reduction": "sum_over_ways",
  "learning_rate": 0.001,
  "learning_rate_decay": "none",
  "steps_per_epoch": 500,
  "epochs": 120,
}

_MAML_5_WAYS = {
  **_MAML_OMNIGLOT,
  "ways": 5,
  "meta_batch_size": 32,
  "inner_steps": 1,
  "eval_inner_steps": 3,
  "inner_learning_rate": 0.4,
}

_MAML_20_WAYS = {
  **_MAML_OMNIGLOT,
  "ways": 20,
  "meta_batch_size": 16,
  "inner_steps": 5,
  "eval_inner_steps": 5,
  "inner_learning_rate": 0.1,
}

_MAML = {
  "omniglot_5way_1shot": {**_MAML_5_WAYS, "shots": 1, "train_query_shots": 1},
  "omniglot_5way_5shot": {**_MAML_5_WAYS, "shots": 5, "train_query_shots": 5},
  "omniglot_20way_1shot": {**_MAML_20_WAYS, "shots": 1, "train_query_shots": 1},
  "omniglot_20way_5shot": {**_MAML_20_WAYS, "shots": 5, "train_query_shots": 5},
  "sinusoid_10shot": {
    "dataset": "sinusoid",
    "shots": 10,
    "query_shots": 10,
    "hidden": [40, 40],
    "inner_steps": 1,
    "inner_learning_rate": 0.01,
    "meta_batch_size": 25,
    "learning_rate": 0.001,
    "epochs": 70,
  },
}

_REPTILE_5_WAYS = {
  "dataset": "omniglot",
  "ways": 5,
  "filters": 64,
  "pooling": "stride",
  "train_shots": 10,
  "train_query_shots": 1,
  "inner_optimizer": "adam",
  "inner_learning_rate": 0.001,
  "inner_steps": 5,
  "support_batch_size": 10,
  "eval_inner_steps": 50,
  "meta_batch_size": 5,
  "optimizer": "sgd",
  "learning_rate": 1.0,
  "learning_rate_decay": "linear",
  "steps_per_epoch": 1000,
  "epochs": 100,
}

_REPTILE_20_WAYS = {
  **_REPTILE_5_WAYS,
  "ways": 20,
  "inner_learning_rate": 0.0005,
  "inner_steps": 10,
  "support_batch_size": 20,
  "epochs": 200,
}

# The inner rates of the code belong to the mean over the support set.
_MAML_PLUS_PLUS = {
  "pooling": "max",
  "inner_steps": 5,
  "inner_learning_rate": 0.1,
  "normalization": "per_step_transductive",
  "learning_rate": 0.001,
  "steps_per_epoch": 500,
  "validation_tasks": 600,
}

_MAML_PLUS_PLUS_OMNIGLOT = {
  **_MAML_PLUS_PLUS,
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

_MAML_PLUS_PLUS_MINI_IMAGENET = {
  **_MAML_PLUS_PLUS,
  "dataset": "mini_imagenet",
  "size": 84,
  "channels": 3,
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

_MAML_PLUS_PLUS_PRESETS = {
  **{
    f"omniglot_{ways}way_{shots}shot": {
      **_MAML_PLUS_PLUS_OMNIGLOT,
      "ways": ways,
      "shots": shots,
    }
    for ways in (5, 20)
    for shots in (1, 5)
  },
  **{
    f"mini_imagenet_5way_{shots}shot": {
      **_MAML_PLUS_PLUS_MINI_IMAGENET,
      "shots": shots,
    }
    for shots in (1, 5)
  },
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
  "maml": _MAML,
  "fomaml": _MAML,
  "anil": {},
  "meta_sgd": {},
  "maml_plus_plus": _MAML_PLUS_PLUS_PRESETS,
  "reptile": {
    "omniglot_5way_1shot": {**_REPTILE_5_WAYS, "shots": 1},
    "omniglot_5way_5shot": {**_REPTILE_5_WAYS, "shots": 5},
    "omniglot_20way_1shot": {**_REPTILE_20_WAYS, "shots": 1},
    "omniglot_20way_5shot": {**_REPTILE_20_WAYS, "shots": 5},
  },
}

SOURCES = {
  "maml": _MAML_CODE,
  "fomaml": _MAML_CODE,
  "maml_plus_plus": _MAML_PLUS_PLUS_CODE,
  "reptile": _REPTILE_CODE,
}
