"""The learner under test: small models, fixed tasks and shared graphs."""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import layers
from tfmeta import models
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context

WAYS, SHOTS, QUERY_SHOTS, TASKS = 3, 2, 2, 4

INPUT_SHAPES = {
  "mlp": (6,),
  "conv": (8, 8, 1),
  "conv4": (16, 16, 1),
  "embeddings": (6,),
}


def mlp(outputs: int = WAYS) -> keras.Model:
  """Builds an MLP with one hidden layer of 16 units."""
  return models.mlp(INPUT_SHAPES["mlp"], outputs=outputs, hidden=(16,))


def conv(outputs: int = WAYS) -> keras.Model:
  """Builds a network of two convolutional blocks with 4 filters and a head.

  It has the layers that matter to a learner (convolution, batch normalization,
  max pooling) and takes half the time of `conv4` to trace. Convolutions have no
  bias: its gradient before batch normalization is round-off only.
  """
  inputs = x = keras.Input(INPUT_SHAPES["conv"])
  for _ in range(2):
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    x = layers.MaxPooling2D()(x)
  outputs = keras.layers.Dense(outputs)(keras.layers.Flatten()(x))
  return keras.Model(inputs, outputs, name="conv")


def conv4(outputs: int = WAYS) -> keras.Model:
  """Builds the four-block network of the papers, with 4 filters."""
  return models.conv4(INPUT_SHAPES["conv4"], ways=outputs, filters=4)


def embeddings(outputs: int = WAYS) -> keras.Model:
  """Builds a linear head on vectors that are scaled to length 1."""
  return models.embedding_head(INPUT_SHAPES["embeddings"][0], ways=outputs)


BACKBONES: dict[str, Callable[..., keras.Model]] = {
  "mlp": mlp,
  "conv": conv,
  "conv4": conv4,
  "embeddings": embeddings,
}


def gaussian_tasks(
  backbone: str, *, tasks: int = TASKS, shots: int = SHOTS, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Samples classification tasks of 3 ways whose classes are Gaussians.

  Each task has class means of its own, from a standard normal distribution;
  examples lie around their class mean with a standard deviation of 0.5.

  Args:
    backbone: Key of `BACKBONES`, which decides the shape of an example.
    tasks: Number of tasks T. Defaults to 4.
    shots: Support examples of each class. Defaults to 2.
    seed: Seed of the random numbers; equal seeds give equal tasks.

  Returns:
    The inputs of a learner, `support_x` `[T, S, ...]` float32, `support_y`
    `[T, S]` int32 and `query_x` `[T, Q, ...]` float32, and the query labels
    `[T, Q]` int32.
  """
  random = np.random.default_rng(seed)
  shape = INPUT_SHAPES[backbone]
  means = random.normal(size=(tasks, WAYS, *shape))
  support_y = np.tile(np.arange(WAYS), (tasks, shots))
  query_y = np.tile(np.arange(WAYS), (tasks, QUERY_SHOTS))

  def sample(labels: np.ndarray) -> np.ndarray:
    at = np.stack([m[y] for m, y in zip(means, labels, strict=True)])
    return (at + 0.5 * random.normal(size=at.shape)).astype("float32")

  inputs = {
    "support_x": sample(support_y),
    "support_y": support_y.astype("int32"),
    "query_x": sample(query_y),
  }
  return inputs, query_y.astype("int32")


@dataclasses.dataclass(frozen=True)
class Subject:
  """A learner class on one backbone, which the questions of an exam share.

  Tracing takes most of the time of an exam. The questions therefore share
  graphs. `reuse` returns one learner, which keeps its graphs and is reset to
  its initial values. `once` keeps a result that several questions compare with.

  Attributes:
    learner_class: The class under test.
    init_kwargs: Its arguments besides the model.
    backbone: Key of `BACKBONES`.
    optimizer: Function that makes the outer optimizer.
    draws: Whether only training, or only prediction, samples weights, so that
      their losses differ.
  """

  learner_class: type
  init_kwargs: dict[str, Any]
  backbone: str
  optimizer: Callable[[], keras.optimizers.Optimizer]
  draws: bool = False
  _reused: dict[str, Any] = dataclasses.field(default_factory=dict)
  _results: dict[str, Any] = dataclasses.field(default_factory=dict)
  _traces: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )

  def make(self, compile_kwargs: Any = None, **overrides: Any) -> Any:
    """Makes a compiled learner, with the same weights every time.

    Args:
      compile_kwargs: Arguments of `compile` that replace those of the exam.
      **overrides: Arguments of the learner that replace `init_kwargs`.
    """
    keras.utils.set_random_seed(1)
    learner = self.learner_class(
      BACKBONES[self.backbone](), **{**self.init_kwargs, **overrides}
    )
    learner.compile(
      **{
        "optimizer": self.optimizer(),
        "metrics": ["accuracy"],
        "jit_compile": False,
        **(compile_kwargs or {}),
      }
    )
    return learner

  def reuse(self, name: str = "adam") -> Any:
    """Returns the learner that all questions share; its graphs are kept.

    All its variables and those of its optimizer are reset to their initial
    values.

    Args:
      name: `"adam"` for a learner with the optimizer of the subject, `"sgd"`
        for one with plain gradient descent.
    """
    if name not in self._reused:
      plain = {"optimizer": keras.optimizers.SGD(0.1)}
      learner = self.make(plain if name == "sgd" else None)
      learner.optimizer.build(learner.trainable_variables)
      self._count_traces(name, learner)
      variables = [*learner.variables, *learner.optimizer.variables]
      first = [np.array(v) for v in variables]
      self._reused[name] = (learner, variables, first)
    learner, variables, first = self._reused[name]
    for variable, value in zip(variables, first, strict=True):
      variable.assign(value)
    return learner

  def once(self, name: str, compute: Callable[[], Any]) -> Any:
    """Returns what `compute` returned the first time `name` was asked for."""
    if name not in self._results:
      self._results[name] = compute()
    return self._results[name]

  def traces(self, name: str = "adam") -> int:
    """Returns how often the training step of `reuse(name)` has been traced."""
    return self._traces[name]

  def _count_traces(self, name: str, learner: Any) -> None:
    original = learner.train_step

    def counting(data: Any) -> Any:
      self._traces[name] += not tf.executing_eagerly()
      return original(data)

    # Keras would track the function as a part of the model.
    object.__setattr__(learner, "train_step", counting)

  def tasks(self, **kwargs: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns `gaussian_tasks` that fit the backbone."""
    return gaussian_tasks(self.backbone, **kwargs)

  def dataset(
    self, batch: int = TASKS, *, drop_remainder: bool = False, **kwargs: Any
  ) -> tf.data.Dataset:
    """Returns the fixed tasks as a finite data set, in batches.

    Args:
      batch: Number of tasks in a batch.
      drop_remainder: Whether all batches are of that size, so that a graph
        knows it in advance. Defaults to `False`.
      **kwargs: Arguments of `gaussian_tasks`.
    """
    slices = tf.data.Dataset.from_tensor_slices(self.tasks(**kwargs))
    return slices.batch(batch, drop_remainder=drop_remainder)


def values(learner: keras.Model) -> list[np.ndarray]:
  """Returns copies of the learner's variables, without the optimizer's."""
  return [np.array(v) for v in learner.variables]


def predictions(
  learner: keras.Model,
  inputs: dict[str, np.ndarray],
  context: Context = EVALUATION,
) -> np.ndarray:
  """Returns predictions computed eagerly and task by task, without a trace."""
  with run_eagerly(learner):
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    return np.array(learner(tensors, training=False, context=context))


@contextlib.contextmanager
def run_eagerly(learner: Any) -> Iterator[None]:
  """Makes `learner` run eagerly and task by task: without a trace.

  Inside the `with`, `fit` and `evaluate` do so too. Afterwards the learner has
  the graphs again that it had before.
  """
  own = {
    "run_eagerly": True,
    "task_map": "unroll",
    "train_function": None,
    "test_function": None,
  }
  kept = {name: getattr(learner, name) for name in own}
  try:
    for name, value in own.items():
      setattr(learner, name, value)
    yield
  finally:
    for name, value in kept.items():
      setattr(learner, name, value)
