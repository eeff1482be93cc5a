"""What an exam of a learner is held on: small models and fixed tasks."""

import collections
from collections.abc import Callable
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta import models

WAYS, SHOTS, QUERY_SHOTS, TASKS = 3, 2, 2, 4

INPUT_SHAPES = {"mlp": (6,), "conv4": (16, 16, 1), "embeddings": (6,)}


def mlp(outputs: int = WAYS) -> keras.Model:
  """A small MLP."""
  return models.mlp(INPUT_SHAPES["mlp"], outputs=outputs, hidden=(16,))


def conv4(outputs: int = WAYS) -> keras.Model:
  """The four-block network with few filters."""
  return models.conv4(INPUT_SHAPES["conv4"], ways=outputs, filters=4)


def embeddings(outputs: int = WAYS) -> keras.Model:
  """A linear head on vectors of length 1."""
  return models.embedding_head(INPUT_SHAPES["embeddings"][0], ways=outputs)


BACKBONES: dict[str, Callable[..., keras.Model]] = {
  "mlp": mlp,
  "conv4": conv4,
  "embeddings": embeddings,
}


def gaussian_tasks(
  backbone: str, *, tasks: int = TASKS, shots: int = SHOTS, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Tasks whose classes are Gaussians around means drawn for each task."""
  random = np.random.default_rng(seed)
  shape = INPUT_SHAPES[backbone]
  means = random.normal(size=(tasks, WAYS, *shape))
  support_y = np.tile(np.arange(WAYS), (tasks, shots))
  query_y = np.tile(np.arange(WAYS), (tasks, QUERY_SHOTS))

  def draw(labels: np.ndarray) -> np.ndarray:
    at = np.stack([m[y] for m, y in zip(means, labels, strict=True)])
    return (at + 0.5 * random.normal(size=at.shape)).astype("float32")

  inputs = {
    "support_x": draw(support_y),
    "support_y": support_y.astype("int32"),
    "query_x": draw(query_y),
  }
  return inputs, query_y.astype("int32")


@dataclasses.dataclass(frozen=True)
class Subject:
  """A learner on a backbone, to be made anew for each question.

  Attributes:
    learner_class: The class under test.
    init_kwargs: Its arguments besides the model.
    backbone: A key of `BACKBONES`.
    optimizer: Makes the outer optimizer.
    draws: Whether training draws what predictions do without, or otherwise.
  """

  learner_class: type
  init_kwargs: dict[str, Any]
  backbone: str
  optimizer: Callable[[], keras.optimizers.Optimizer]
  draws: bool = False
  _reused: dict[str, Any] = dataclasses.field(default_factory=dict)
  _traces: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )

  def make(self, compile_kwargs: Any = None, **overrides: Any) -> Any:
    """A compiled learner; the same weights every time."""
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
    """As `make`, but one learner for all questions, whose graphs are kept.

    All its variables, and those of its optimizer, are what they were first.

    Args:
      name: `"adam"` for the optimizer of the subject, `"sgd"` for a plain one.
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

  def traces(self, name: str = "adam") -> int:
    """How often the training step of `reuse(name)` has been traced so far."""
    return self._traces[name]

  def _count_traces(self, name: str, learner: Any) -> None:
    original = learner.train_step

    def counting(data: Any) -> Any:
      self._traces[name] += 1
      return original(data)

    object.__setattr__(learner, "train_step", counting)

  def tasks(self, **kwargs: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fixed tasks that fit the backbone."""
    return gaussian_tasks(self.backbone, **kwargs)

  def dataset(self, batch: int = TASKS, **kwargs: Any) -> tf.data.Dataset:
    """The fixed tasks as a finite data set, in batches."""
    return tf.data.Dataset.from_tensor_slices(self.tasks(**kwargs)).batch(batch)


def values(learner: keras.Model) -> list[np.ndarray]:
  """Copies of all variables of the learner itself (not its optimizer)."""
  return [np.array(v) for v in learner.variables]
