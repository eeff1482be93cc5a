"""Trains policies that adapt to a new task by a few policy gradients.

  python -m trainers.rl
  python -m trainers.rl --learner=promp --workdir=runs/promp
  python -m trainers.rl --environment=half_cheetah_velocity --horizon=100
  python -m trainers.rl --preset=maml_navigation --workdir=runs/published

The first command trains MAML on the navigation of a point toward goals that it
cannot see, and the joint policy beside it. trainers/README.md lists the
published results of the presets.
"""

from collections.abc import Sequence

from absl import flags as absl_flags

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option
from trainers.run.policies import configuration

SOURCE = (
  "github.com/cbfinn/maml_rl (0230481), github.com/jonasrothfuss/ProMP "
  "(93914e3), github.com/jaesik817/bmaml_rl (3f19dd6)"
)

_MAML = {
  "learner": "maml",
  "credit": "log_likelihood",
  "episodes": 20,
  "inner_steps": 1,
  "hidden": [100, 100],
  "activation": "relu",
  "optimizer": "trust_region",
  "max_divergence": 0.01,
  "curvature_episodes": 0,
}

_LOCOMOTION = {
  **_MAML,
  "inner_learning_rate": 0.1,
  "horizon": 200,
  "meta_batch_size": 40,
  "epochs": 80,
}

_PROMP = {
  "learner": "promp",
  "credit": "lvc",
  "episodes": 20,
  "inner_steps": 1,
  "inner_learning_rate": 0.1,
  "hidden": [64, 64],
  "activation": "tanh",
  "clip_ratio": 0.3,
  "proximal_epochs": 5,
  "divergence_penalty": 5e-4,
  "optimizer": "adam",
  "learning_rate": 1e-3,
  "meta_batch_size": 40,
}

_BMAML = {
  "learner": "bmaml",
  "credit": "log_likelihood",
  "num_particles": 5,
  "episodes": 10,
  "inner_learning_rate": 0.1,
  "hidden": [100, 100],
  "activation": "relu",
  "meta_batch_size": 20,
  "environment": "navigation",
}

PRESETS = {
  "maml_navigation": {
    **_MAML,
    "environment": "navigation",
    "inner_learning_rate": 0.5,
    "meta_batch_size": 20,
  },
  **{
    f"maml_{name}": {**_LOCOMOTION, "environment": name}
    for name in configuration.ENVIRONMENTS
    if name != "navigation"
  },
  **{
    f"promp_{name}": {
      **_PROMP,
      "environment": name,
      "horizon": 100 if name.startswith("half_cheetah") else 200,
      "epochs": 100,
    }
    for name in ("half_cheetah_direction", "half_cheetah_velocity")
  },
  "bmaml_navigation": {
    **_BMAML,
    "meta_loss": "return",
    "temperature": 1.0,
    "optimizer": "trust_region",
    "curvature_episodes": 0,
  },
  "bmaml_navigation_chaser": {
    **_BMAML,
    "meta_loss": "chaser",
    "temperature": 0.1,
    "optimizer": "adam",
    "learning_rate": 0.01,
  },
}


def options() -> list[option.Option]:
  """Returns the flags of this trainer."""
  return option.of_fields(configuration.PolicyConfiguration)


def read(
  flag_values: absl_flags.FlagValues,
) -> configuration.PolicyConfiguration:
  """Returns the configuration that the parsed flags make.

  Raises:
    ValueError: If a value is wrong, or if a flag on the command line would have
      no effect in this run.
  """
  defaults, preset, given = flags.values_of(options(), PRESETS, flag_values)
  values = {**defaults, **preset, **given}
  values["hidden"] = flags.whole_numbers("hidden", values["hidden"])
  config = configuration.PolicyConfiguration(**values)
  flags.check_used(options(), config, given)
  return config


def main(_: Sequence[str]) -> None:
  """Runs what the flags say."""
  config = read(absl_flags.FLAGS)
  # TensorFlow loads here: --help stays quick.
  from trainers.run.policies import training

  training.run(config)


if __name__ == "__main__":
  flags.define_options(options(), PRESETS, SOURCE, absl_flags.FLAGS)
  command_line.run(main)
