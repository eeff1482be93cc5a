"""Whether a model is still the one that its learner was made of.

Learners keep rates, particles or masks for each trainable variable, and Keras
keeps compiled functions. Both would be wrong, without a word, after a layer was
frozen, unfrozen or converted.
"""

from collections.abc import Callable
import functools
from typing import Any

import keras
import tensorflow as tf


class TrainedVariables:
  """The trainable variables of a model when its learner was made.

  Args:
    model: A built model.
  """

  def __init__(self, model: keras.Model):
    self._variables = list(model.trainable_variables)

  def check(self, learner: Any) -> None:
    """Checks that the model of `learner` has the same trainable variables."""
    now = learner.model.trainable_variables
    if [id(v) for v in now] == [id(v) for v in self._variables]:
      return
    more = _without(now, self._variables)
    fewer = _without(self._variables, now)
    raise ValueError(
      f"The model {learner.model.name!r} must keep the trainable weights that "
      f"it had when this {type(learner).__name__} was made: make a new learner "
      "after a layer was frozen, unfrozen, replaced, quantized or given LoRA. "
      f"Received: new trainable weights {more}, missing ones {fewer}"
    )


def needs_unchanged_model(method: Callable[..., Any]) -> Any:
  """Makes a method of a learner check the model's trainable variables.

  Args:
    method: A method of a learner with the attribute `trained_variables`.
  """

  # AutoGraph mistakes such a function for another one. Learners do not need it,
  # because their control flow in Python depends on no tensors.
  @tf.autograph.experimental.do_not_convert
  @functools.wraps(method)
  def checked_method(self: Any, *args: Any, **kwargs: Any) -> Any:
    self.trained_variables.check(self)
    return method(self, *args, **kwargs)

  return checked_method


def _without(variables: list[Any], others: list[Any]) -> list[str]:
  known = {id(v) for v in others}
  return [v.path for v in variables if id(v) not in known]
