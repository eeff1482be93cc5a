"""The size of a task, and the dataset element that holds one task."""

import dataclasses

import tensorflow as tf

from tfmeta import arguments

TaskElement = tuple[dict[str, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class TaskSpec:
  """The size of a task: its classes, support examples and query examples.

  Attributes:
    ways: Integer >= 1, the number of classes in a task; labels are in `[0,
      ways)`. `None` means regression, where a task is a function. Defaults to
      `None`.
    shots: Integer >= 1, support examples per class. In regression, support
      examples of the function. Defaults to 1.
    query_shots: Integer >= 1, query examples per class. In regression, query
      examples of the function. Defaults to 15.

  Raises:
    TypeError: If a value is not an integer.
    ValueError: If a value is below 1.

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
      value = arguments.check_integer(name, value, least=1)
      # A frozen dataclass refuses plain assignment.
      object.__setattr__(self, name, value)

  @property
  def examples_per_class(self) -> int:
    """Number of examples of one class in a task, support and query together."""
    return self.shots + self.query_shots

  @property
  def support_size(self) -> int:
    """Number of support examples in a task, S = ways * shots.

    In regression, S = shots.
    """
    return (self.ways or 1) * self.shots

  @property
  def query_size(self) -> int:
    """Number of query examples in a task, Q = ways * query_shots.

    In regression, Q = query_shots.
    """
    return (self.ways or 1) * self.query_shots


def to_element(
  x: tf.Tensor, y: tf.Tensor, spec: TaskSpec, *, leading: int = 0
) -> TaskElement:
  """Returns the dataset element of a task, given its examples.

  Args:
    x: `[S + Q, ...]` inputs, the support examples before the query examples.
    y: `[S + Q, ...]` labels or targets, in the order of `x`.
    spec: A `TaskSpec`.
    leading: Number of axes before the examples: 1 for a block of tasks.
      Defaults to 0.

  Returns:
    `({"support_x": [S, ...], "support_y": [S, ...], "query_x": [Q, ...]},
    query_y [Q, ...])`. Keras reads this pair as the input and the target of one
    example, before tasks are batched.
  """
  axes = (slice(None),) * leading
  support = (*axes, slice(None, spec.support_size))
  query = (*axes, slice(spec.support_size, None))
  inputs = {
    "support_x": x[support],
    "support_y": y[support],
    "query_x": x[query],
  }
  return inputs, y[query]


def check_spec(spec: object) -> None:
  """Raises a `TypeError` if `spec` is not a `TaskSpec`."""
  if not isinstance(spec, TaskSpec):
    raise TypeError(
      "`spec` must be a tfmeta.TaskSpec, such as TaskSpec(ways=5, shots=1). "
      f"Received: spec={spec!r}"
    )


def check_has_ways(spec: TaskSpec) -> int:
  """Returns `spec.ways`, if `spec` is a `TaskSpec` for classification.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `spec.ways` is `None`.
  """
  check_spec(spec)
  if spec.ways is None:
    raise ValueError(
      "These tasks are classifications, so `ways` must be set, as in "
      f"TaskSpec(ways=5, shots=1). Received: spec={spec}"
    )
  return spec.ways


def check_has_no_ways(spec: TaskSpec) -> None:
  """Checks that `spec` is a `TaskSpec` for regression.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If `spec.ways` is set.
  """
  check_spec(spec)
  if spec.ways is not None:
    raise ValueError(
      "These tasks are regressions without classes, so `ways` must be None. "
      f"Received: spec={spec}"
    )
