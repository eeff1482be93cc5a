"""Tasks and initial weights that are the same for every contender.

This file needs NumPy only, so that PyTorch and JAX can run in an environment
that has no TensorFlow.
"""

import dataclasses
import itertools

import numpy as np

HIDDEN = 40
ADAM_LEARNING_RATE = 1e-3
SGD_LEARNING_RATE = 1e-2

# Keras's defaults, which differ from those of PyTorch.
ADAM_EPSILON = 1e-7
NORM_EPSILON = 1e-3


# Classes of tfmeta that are measured.
LEARNERS = (
  "MAML",
  "FOMAML",
  "ANIL",
  "MetaSGD",
  "MAMLPlusPlus",
  "Reptile",
  "IMAML",
  "ProtoNet",
  "PLATIPUS",
  "EMAML",
  "BMAML",
)
# Prototypes are those of classes.
NOT_FOR = (("sinusoid", "ProtoNet"),)

# Data sets, and the case that consumes their tasks.
CONSUMERS = {"glyphs": "conv4", "omniglot": "conv4", "sinusoid": "sinusoid"}


@dataclasses.dataclass(frozen=True)
class Case:
  """A training run that every contender repeats.

  Attributes:
    tasks: Tasks per outer update.
    inner_steps: Gradient steps per task.
    inner_learning_rate: Learning rate of these steps.
    ways: Classes of a task, or `None` for sinusoids.
    shots: Support examples per class, or per function in regression.
    query_shots: Query examples per class, or per function in regression.
    first_order: Whether second derivatives are dropped.
    adam: Whether the outer optimizer is Adam. Otherwise it is SGD, which does
      not amplify the rounding errors of small gradients as Adam does.
    dtype: Type of inputs and weights.
    image: Height, width and channels of images.
    filters: Filters of each convolution.
    learner: Class of tfmeta to train. The other contenders implement MAML only.
    replicas: Logical CPUs that share the tasks. Only tfmeta supports more than
      one.
    configured: 1 if the contender `tfmeta_fit` calls `tfmeta.configure`, else
      0.
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
  configured: int = 1


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
  # The embeddings that LEO's authors published have 640 numbers.
  "embeddings": dataclasses.replace(_CONV4, tasks=12, image=(640,)),
}


def make_tasks(case: Case, *, seed: int = 0) -> dict[str, np.ndarray]:
  """Returns support sets `[T, S, ...]` and query sets `[T, Q, ...]`."""
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
  """Returns initial weights (Glorot) in the order and layout of Keras."""
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
  # Each of the four blocks has a kernel, a bias, a scale and a shift.
  for inputs in (channels, filters, filters, filters):
    weights += [
      _glorot(random, (3, 3, inputs, filters), 9 * inputs, 9 * filters),
      np.zeros(filters),
      np.ones(filters),
      np.zeros(filters),
    ]
  # Each block halves height and width, rounding down.
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
  """Samples a random picture for each class and adds noise to copies of it."""
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
