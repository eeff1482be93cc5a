"""The flags that all trainers share, and the settings they make."""

from typing import Any

from absl import flags

from trainers import presets
from trainers.run import dataset_defaults
from trainers.run import settings

# The flags count as the trainer's own, so that its --help shows them.
flags.disclaim_key_flags()


def define(trainer, *, flag_values=flags.FLAGS, **defaults) -> None:
  """Defines a flag for each option, `--preset` and `--workdir`.

  Args:
    trainer: Name of the trainer's module, which presets go by.
    flag_values: Where to define them.
    **defaults: In place of those of `Settings`.
  """
  defaults.setdefault("workdir", f"runs/{trainer}")
  for option in settings.options():
    default = defaults.pop(option.name, option.default)
    _define_option(option, default, flag_values)
  if defaults:
    raise TypeError(f"There are no such options. Received: {sorted(defaults)}")
  if names := sorted(presets.PRESETS[trainer]):
    flags.DEFINE_enum(
      "preset",
      None,
      names,
      "Published settings; other flags given beside it go before it. "
      f"Source: {presets.SOURCES[trainer]}.",
      flag_values=flag_values,
    )


def define_particles(flag_values) -> None:
  """Defines the flags of learners that have particles."""
  flags.DEFINE_integer(
    "num_particles", 5, "Initial weights to learn.", flag_values=flag_values
  )
  flags.DEFINE_enum(
    "particle_weights",
    "all",
    ["all", "head"],
    "What each particle has of its own: all weights, or those of the head.",
    flag_values=flag_values,
  )
  define_first_order(flag_values)


def define_first_order(flag_values) -> None:
  """Defines the flag of learners that can do without second derivatives."""
  flags.DEFINE_bool(
    "first_order",
    False,
    "Whether inner gradients are constants to the outer one.",
    flag_values=flag_values,
  )


def read(
  trainer, algorithm, *, own=(), shared=(), flag_values=flags.FLAGS
) -> settings.Settings:
  """Settings from the command line, the preset, the data set, the defaults.

  Args:
    trainer: Name of the trainer's module.
    algorithm: Name of the learner in `tfmeta`.
    own: Names of the trainer's own flags, arguments of that learner alone.
    shared: Names of flags of all trainers that are arguments of that learner.
    flag_values: Where they were defined.
  """
  names = [option.name for option in settings.options()]
  values: dict[str, Any] = {
    name: flag_values[name].value for name in [*names, *own]
  }
  chosen = {}
  if presets.PRESETS[trainer]:
    chosen = presets.PRESETS[trainer].get(str(flag_values["preset"].value), {})
  dataset = {**values, **chosen, **_given(flag_values, ["dataset"])}["dataset"]
  for layer in (dataset_defaults.of_run(trainer, dataset), chosen):
    values.update({k: v for k, v in layer.items() if k in values})
  values.update(_given(flag_values, values))
  values["hidden"] = _whole_numbers("hidden", values["hidden"])
  own_values = {name: values[name] for name in shared}
  own_values.update({name: values.pop(name) for name in own})
  arguments = {k: v for k, v in own_values.items() if v is not None}
  return settings.Settings(algorithm, own=arguments, **values)


def _whole_numbers(name, texts) -> list[int]:
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise ValueError(
      f"--{name} must be whole numbers with commas between them. "
      f"Received: --{name}={','.join(map(str, texts))}"
    ) from None


def _given(flag_values, names) -> dict[str, Any]:
  """Values of those flags that the command line sets."""
  return {
    name: flag_values[name].value for name in names if flag_values[name].present
  }


def _define_option(option, default, flag_values):
  help_text, choices = option.metadata["help"], option.metadata["choices"]
  if choices:
    flags.DEFINE_enum(
      option.name, default, choices, help_text, flag_values=flag_values
    )
    return
  kinds = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    list: flags.DEFINE_list,
  }
  kind = settings.kind_of(option)
  if kind is list:
    default = [str(value) for value in default]
  kinds[kind](option.name, default, help_text, flag_values=flag_values)
