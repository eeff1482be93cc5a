"""The same tasks and initial weights for every contender, in NumPy alone."""

import dataclasses
import itertools

import numpy as np

HIDDEN = 40
ADAM_LEARNING_RATE = 1e-3
ADAM_EPSILON = 1e-7  # Keras's default.
SGD_LEARNING_RATE = 1e-2
NORM_EPSILON = 1e-3  # Keras's default.


@dataclasses.dataclass(frozen=True)
class Case:
  """A training run that all contenders repeat.

  Attributes:
    tasks: Tasks per outer update.
    inner_steps: Gradient steps per task.
    inner_learning_rate: Their size.
    ways: Classes of a task; `None` for the sinusoids.
    shots: Support examples per class (of the function, in regression).
    query_shots: Query examples per class (of the function, in regression).
    first_order: Whether second derivatives are dropped.
    adam: Whether the outer optimizer is Adam; SGD otherwise, which unlike Adam
      does not blow up the rounding errors of small gradients.
    dtype: Of inputs and weights.
    image: Height, width and channels of images.
    filters: Of each convolution.
    learner: Of tfmeta; the other contenders have MAML alone.
    replicas: Logical CPUs that share the tasks, of tfmeta.
  """

  tasks: int
  inner_steps: int
  inner_learning_rate: float
  ways: int | None
  shots: int
  query_shots: int
  first_order: bool = False
  adam: bool = True
  dtype: str = "float32"
  image: tuple[int, int, int] = (28, 28, 1)
  filters: int = 64
  learner: str = "MAML"
  replicas: int = 1


_CONV4 = Case(
  tasks=8,
  inner_steps=5,
  inner_learning_rate=0.01,
  ways=5,
  shots=1,
  query_shots=15,
)
CASES = {
  "sinusoid": Case(
    tasks=25,
    inner_steps=1,
    inner_learning_rate=0.01,
    ways=None,
    shots=10,
    query_shots=10,
  ),
  "conv4": _CONV4,
  "conv4_first_order": dataclasses.replace(_CONV4, first_order=True),
  "conv4_84": dataclasses.replace(
    _CONV4, tasks=4, image=(84, 84, 3), filters=32
  ),
  # Of the size of those that LEO's authors published.
  "embeddings": dataclasses.replace(_CONV4, tasks=12, image=(640,)),
}


def make_tasks(case: Case, *, seed: int = 0) -> dict[str, np.ndarray]:
  """Support and query sets, `[T, S, ...]` and `[T, Q, ...]`."""
  random = np.random.default_rng(seed)
  x, y = (_sinusoids if case.ways is None else _images)(case, random)
  support = case.shots * (case.ways or 1)
  return {
    "support_x": x[:, :support],
    "support_y": y[:, :support],
    "query_x": x[:, support:],
    "query_y": y[:, support:],
  }


def make_weights(case: Case, *, seed: int = 1) -> list[np.ndarray]:
  """Initial weights (Glorot), in the order and layout of Keras."""
  weights = _weights(case, np.random.default_rng(seed))
  return [w.astype(case.dtype) for w in weights]


def _weights(case, random):
  if case.ways is None:
    sizes = [1, HIDDEN, HIDDEN, 1]
    layers = [_dense(random, *pair) for pair in itertools.pairwise(sizes)]
    return [w for layer in layers for w in layer]
  weights = []
  height, width, channels = case.image
  filters = case.filters
  for inputs in (channels, filters, filters, filters):
    weights += [
      _glorot(random, (3, 3, inputs, filters), 9 * inputs, 9 * filters),
      np.zeros(filters),
      np.ones(filters),
      np.zeros(filters),
    ]
  features = (height // 16) * (width // 16) * filters
  return [*weights, *_dense(random, features, case.ways)]


def _sinusoids(case, random):
  shape = (case.tasks, case.shots + case.query_shots, 1)
  amplitude = random.uniform(0.1, 5.0, (case.tasks, 1, 1))
  phase = random.uniform(0.0, np.pi, (case.tasks, 1, 1))
  x = random.uniform(-5.0, 5.0, shape)
  y = amplitude * np.sin(x - phase)
  return x.astype(case.dtype), y.astype(case.dtype)


def _images(case, random):
  """A random picture per class, and noisy copies of it."""
  examples = case.shots + case.query_shots
  classes = random.uniform(size=(case.tasks, 1, case.ways, *case.image))
  shape = (case.tasks, examples, case.ways, *case.image)
  x = classes + 0.5 * random.normal(size=shape)
  y = np.broadcast_to(np.arange(case.ways), shape[:3])
  count = examples * case.ways
  x = x.reshape(case.tasks, count, *case.image).astype(case.dtype)
  return x, y.reshape(case.tasks, count).astype("int32")


def _dense(random, inputs, outputs):
  kernel = _glorot(random, (inputs, outputs), inputs, outputs)
  return [kernel, np.zeros(outputs)]


def _glorot(random, shape, fan_in, fan_out):
  limit = np.sqrt(6 / (fan_in + fan_out))
  return random.uniform(-limit, limit, shape)
