"""What a task is: how many classes and examples, and how they are handed on."""

import dataclasses

import numpy as np
import tensorflow as tf

TaskElement = tuple[dict[str, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class TaskSpec:
  """The size of a task: classes, support examples and query examples.

  Attributes:
    ways: Integer >= 1, classes in a task; labels are in `[0, ways)`. `None`
      (default) for regression, where a task is one function.
    shots: Integer >= 1, support examples per class (of the function, in
      regression). Default 1.
    query_shots: Integer >= 1, query examples per class (of the function, in
      regression). Default 15.

  Raises:
    TypeError: If one of them is not an integer.
    ValueError: If one of them is below 1.

  Example:
    >>> TaskSpec(ways=5, shots=1, query_shots=15).query_size
    75
  """

  ways: int | None = None
  shots: int = 1
  query_shots: int = 15

  def __post_init__(self) -> None:
    for name in ("ways", "shots", "query_shots"):
      value = getattr(self, name)
      if name == "ways" and value is None:
        continue
      object.__setattr__(self, name, check_positive(name, value))

  @property
  def examples_per_class(self) -> int:
    """Examples a class gives to a task: support and query together."""
    return self.shots + self.query_shots

  @property
  def support_size(self) -> int:
    """Support examples of a task, S = ways * shots (shots in regression)."""
    return (self.ways or 1) * self.shots

  @property
  def query_size(self) -> int:
    """Query examples of a task, Q = ways * query_shots (see `support_size`)."""
    return (self.ways or 1) * self.query_shots


def to_element(x: tf.Tensor, y: tf.Tensor, spec: TaskSpec) -> TaskElement:
  """Makes a task's dataset element of its examples, support first.

  Args:
    x: `[S + Q, ...]` inputs, the support examples before the query examples.
    y: `[S + Q, ...]` their labels or targets.
    spec: A `TaskSpec`.

  Returns:
    `({"support_x": [S, ...], "support_y": [S, ...], "query_x": [Q, ...]},
    query_y)`, with `query_y` `[Q, ...]`: the pair (inputs, target) that Keras
    takes for one example, before tasks are batched.
  """
  size = spec.support_size
  inputs = {"support_x": x[:size], "support_y": y[:size], "query_x": x[size:]}
  return inputs, y[size:]


def check_spec(spec: object) -> None:
  """Refuses what is no `TaskSpec`."""
  if not isinstance(spec, TaskSpec):
    raise TypeError(
      "`spec` must be a tfmeta.TaskSpec, as in TaskSpec(ways=5, shots=1). "
      f"Received: spec={spec!r}"
    )


def check_has_ways(spec: TaskSpec) -> int:
  """Returns the ways of a `TaskSpec`, and refuses one that has none."""
  check_spec(spec)
  if spec.ways is None:
    raise ValueError(
      "These tasks are classifications, so `ways` must be given, as in "
      f"TaskSpec(ways=5, shots=1). Received: spec={spec}"
    )
  return spec.ways


def check_has_no_ways(spec: TaskSpec) -> None:
  """Refuses what is no `TaskSpec` of a regression."""
  check_spec(spec)
  if spec.ways is not None:
    raise ValueError(
      "These tasks are regressions and have no classes, so `ways` must be "
      f"None. Received: spec={spec}"
    )


def check_positive(name: str, value: object) -> int:
  """Returns `value`, an integer of at least 1, and refuses any other."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}")
  if value < 1:
    raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
  return int(value)
