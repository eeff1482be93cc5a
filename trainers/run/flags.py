"""The flags of a trainer, and the run configuration that they make."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import flags

from trainers.run import configuration
from trainers.run import data_sets
from trainers.run import option

# Counts the flags as those of the trainer, so that its --help shows them.
flags.disclaim_key_flags()

FIRST_ORDER = option.Option(
  "first_order",
  bool,
  False,
  "Whether the outer gradient treats inner gradients as constants, which saves "
  "the second derivatives.",
)

INNER_CLIPNORM = option.Option(
  "inner_clipnorm",
  float,
  None,
  "The largest norm, above 0, of the gradient of an inner step, over all "
  "weights together. Default: no limit.",
)

SUPPORT_BATCH_SIZE = option.Option(
  "support_batch_size",
  int,
  None,
  "Number of support examples in each inner step. Default: all.",
)

# Options of the inner loop. Without a value, the learner has its default, and
# the configuration of earlier runs stays the same.
INNER_OPTIONS = (
  option.Option(
    "inner_optimizer",
    str,
    None,
    "Optimizer of the inner loop. Default: sgd. The moments of Adam start at 0 "
    "in each task.",
    choices=("adam", "sgd"),
  ),
  INNER_CLIPNORM,
  SUPPORT_BATCH_SIZE,
)


@dataclasses.dataclass(frozen=True)
class Trainer:
  """What one trainer adds to the machinery that all of them share.

  Attributes:
    name: Name of the module, as in `python -m trainers.NAME`.
    algorithm: Name of the learner in `tfmeta`.
    options: Flags that are constructor arguments of this learner alone.
    shared: Names of flags of all trainers that are also constructor arguments
      of this learner alone.
    defaults: Defaults of shared flags that differ from those of
      `Configuration`.
    choices: Values of shared flags that differ from those of `Configuration`.
    why_unused: For shared flags, a further function like
      `Option.why_unused`.
    presets: Published values of flags, by the name of the preset.
    source: Where the presets come from.
  """

  name: str
  algorithm: str
  options: tuple[option.Option, ...] = ()
  shared: tuple[str, ...] = ()
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  choices: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  why_unused: Mapping[str, Callable[[Any], str | None]] = dataclasses.field(
    default_factory=dict
  )
  presets: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  source: str = ""


class _ChoiceParser(flags.EnumParser):
  """Parser of a choice, with a sentence of its own for some wrong values."""

  def __init__(self, choices: Iterable[str], refused: Mapping[str, str]):
    super().__init__(list(choices))
    self._refused = refused

  def parse(self, argument: str) -> str:
    """Returns `argument`, if it is one of the choices."""
    if argument in self._refused:
      raise ValueError(f"{self._refused[argument]}.")
    return super().parse(argument)


def define(trainer: Trainer, flag_values: flags.FlagValues) -> None:
  """Defines all flags of a trainer, `--preset` included if it has any."""
  define_options(
    _all_options(trainer), trainer.presets, trainer.source, flag_values
  )


def define_options(
  options: Iterable[option.Option],
  presets: Mapping[str, Any],
  source: str,
  flag_values: flags.FlagValues,
) -> None:
  """Defines flags, and `--preset` if there are presets."""
  for one in options:
    _define_option(one, flag_values)
  if presets:
    flags.DEFINE_enum(
      "preset",
      None,
      sorted(presets),
      "Published values for the other flags; those that are given too override "
      f"it. Source: {source}.",
      flag_values=flag_values,
    )


def read(
  trainer: Trainer, flag_values: flags.FlagValues
) -> configuration.Configuration:
  """Returns the configuration that the parsed flags of a trainer make.

  The command line overrides the preset, which overrides the defaults of the
  data set, which override those of the trainer.

  Raises:
    ValueError: If a value is wrong, or if a flag on the command line would have
      no effect in this run.
  """
  all_options = _all_options(trainer)
  defaults, preset, given = values_of(all_options, trainer.presets, flag_values)
  dataset = {**defaults, **preset, **given}["dataset"]
  brought = data_sets.defaults_of(dataset, trainer.name)
  config = _configuration(trainer, {**defaults, **brought, **preset, **given})
  check_used(all_options, config, given)
  return config


def values_of(
  options: Iterable[option.Option],
  presets: Mapping[str, Mapping[str, Any]],
  flag_values: flags.FlagValues,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
  """Returns the defaults, the values of the preset, and those that are given.

  Lists of whole numbers are still texts.
  """
  given = {
    one.name: flag_values[one.name].value
    for one in options
    if flag_values[one.name].present
  }
  preset = {}
  if presets and flag_values["preset"].value:
    preset = dict(presets[flag_values["preset"].value])
  defaults = {one.name: flag_values[one.name].default for one in options}
  return defaults, preset, given


def _configuration(trainer, values) -> configuration.Configuration:
  values["hidden"] = whole_numbers("hidden", values["hidden"])
  own = {name: values[name] for name in trainer.shared}
  own.update({one.name: values.pop(one.name) for one in trainer.options})
  # An argument that is left out has the default of the learner.
  own = {name: value for name, value in own.items() if value is not None}
  return configuration.Configuration(trainer.algorithm, own=own, **values)


def check_used(
  all_options: Iterable[option.Option], config: Any, given: Mapping[str, Any]
) -> None:
  """Refuses flags that the user has given and that would change nothing."""
  for one in all_options:
    reason = one.why_unused(config) if one.name in given else None
    if reason:
      raise ValueError(
        f"`{one.name}` would have no effect here: {reason}. Leave it out. "
        f"Received: --{one.name}={_text(given[one.name])}"
      )


def _all_options(trainer: Trainer) -> list[option.Option]:
  """Returns the shared flags, as the trainer changes them, and its own."""
  defaults = {"workdir": f"runs/{trainer.name}", **trainer.defaults}
  shared = option.of_fields(configuration.Configuration)
  unknown = {*defaults, *trainer.choices, *trainer.why_unused}
  unknown -= {one.name for one in shared}
  if unknown:
    raise TypeError(f"There are no such flags. Received: {sorted(unknown)}")
  changed = [
    dataclasses.replace(
      one,
      default=defaults.get(one.name, one.default),
      choices=trainer.choices.get(one.name, one.choices),
      why_unused=trainer.why_unused.get(one.name, one.why_unused),
    )
    for one in shared
  ]
  return [*changed, *trainer.options]


def _define_option(one: option.Option, flag_values: flags.FlagValues) -> None:
  if one.choices:
    parser = _ChoiceParser(one.choices, one.refused)
    flags.DEFINE(
      parser,
      one.name,
      one.default,
      f"<{'|'.join(one.choices)}>: {one.help}",
      flag_values=flag_values,
      serializer=flags.ArgumentSerializer(),
    )
    return
  define_flag = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    list: flags.DEFINE_list,
  }[one.kind]
  default = one.default
  if one.kind is list and default is not None:
    default = [str(value) for value in default]
  define_flag(one.name, default, one.help, flag_values=flag_values)


def whole_numbers(name: str, texts: Iterable[Any]) -> list[int]:
  """Returns the values of a flag as integers.

  Raises:
    ValueError: If one is not a whole number.
  """
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise ValueError(
      f"`{name}` must be whole numbers separated by commas. "
      f"Received: --{name}={_text(texts)}"
    ) from None


def _text(value) -> str:
  """Returns `value` as it is written on the command line."""
  if isinstance(value, list | tuple):
    return ",".join(map(str, value))
  return str(value).lower() if isinstance(value, bool) else str(value)
