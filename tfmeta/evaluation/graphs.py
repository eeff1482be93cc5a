"""The graph that measured a learner, kept for its next evaluation."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_NAME = "_evaluation_graph"


class _Kept:
  """A graph and what it was traced for.

  Keras and TensorFlow look for parts of a model among its attributes. An object
  of this class is none.
  """

  def __init__(self, key: Any, graph: Any):
    self.key = key
    self.graph = graph


def kept(learner: Any, options: Any, trace: Callable[[], Any]) -> Any:
  """Returns the graph of the last call if nothing has changed, or traces it.

  Only the last graph is kept. As in `keras.Model.predict`, layers must not
  change in ways that their configuration does not show.

  Args:
    learner: A `MetaLearner`.
    options: What the graph depends on in addition to the learner. Equal options
      must have equal representations.
    trace: Function that returns the graph.
  """
  key = _key(learner, options)
  # Keras would track the graph if it were set as an attribute.
  attributes = vars(learner)
  known = attributes.get(_NAME)
  if known is None or key is None or known.key != key:
    known = attributes[_NAME] = _Kept(key, trace())
  return known.graph


def _key(learner: Any, options: Any) -> str | None:
  try:
    config = learner.get_config()
  except NotImplementedError:  # A learner whose configuration is not known.
    return None
  strategy = type(tf.distribute.get_strategy()).__name__
  return repr((config, strategy, options))
