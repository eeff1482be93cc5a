"""LEO's settings, those of its released code."""

SOURCE = "github.com/google-deepmind/leo (README, config.py), f4084ad"

# What differs between the settings that were tuned for each data set.
_TUNED = {
  "mini_imagenet_5way_1shot": {
    "shots": 1,
    "learning_rate": 2.739071e-4,
    "l2": 3.623413e-10,
    "orthogonality": 0.188103,
    "dropout_rate": 0.307651,
    "kl_weight": 0.756143,
    "encoder_penalty": 5.756821e-6,
  },
  "mini_imagenet_5way_5shot": {
    "shots": 5,
    "learning_rate": 4.102361e-4,
    "l2": 8.540338e-9,
    "orthogonality": 1.523998e-3,
    "dropout_rate": 0.300299,
    "kl_weight": 0.466387,
    "encoder_penalty": 2.661608e-7,
  },
  "tiered_imagenet_5way_1shot": {
    "shots": 1,
    "learning_rate": 8.659053e-4,
    "l2": 4.148858e-10,
    "orthogonality": 5.451078e-3,
    "dropout_rate": 0.475126,
    "kl_weight": 2.034189e-3,
    "encoder_penalty": 8.302962e-5,
  },
  "tiered_imagenet_5way_5shot": {
    "shots": 5,
    "learning_rate": 6.110314e-4,
    "l2": 1.690399e-10,
    "orthogonality": 2.481216e-2,
    "dropout_rate": 0.415158,
    "kl_weight": 1.622811,
    "encoder_penalty": 2.672450e-5,
  },
}

PRESETS = {
  name: {
    "ways": 5,
    "train_query_shots": 15,
    "meta_batch_size": 12,
    "inner_steps": 5,
    "inner_learning_rate": 1.0,
    "inner_loss_reduction": "sum",
    "finetuning_steps": 5,
    "finetuning_learning_rate": 0.001,
    "num_latents": 64,
    "variant": "release",
    "spread": "release",
    "clipvalue": 0.1,
    "clipnorm": 0.1,
    "learning_rate_decay": "none",
    "validation_tasks": 2000,
    "steps_per_epoch": 1000,
    "epochs": 100,
    **tuned,
  }
  for name, tuned in _TUNED.items()
}
