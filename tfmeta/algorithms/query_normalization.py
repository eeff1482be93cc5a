"""Which statistics normalize the queries of a learner that is trained.

A transductive learner normalizes queries by each other's statistics. It is
trained to see all queries of a task at once, so it loses accuracy if few are
asked for together. The statistics of the support set, under the adapted
weights, can take the place of these statistics without training anew.
"""

from typing import Any
import warnings

import keras

from tfmeta import arguments
from tfmeta import layers
from tfmeta.algorithms.context import EVALUATION
from tfmeta.algorithms.context import Context

NORMALIZATIONS = ("transductive", "support_stats", "none")


def resolved(
  value: str | None, model: keras.Model, choices: tuple[str, ...]
) -> str:
  """Returns the normalization of queries, whose default fits the model.

  Args:
    value: The normalization that the user chose, or `None`.
    model: The model of the learner.
    choices: What the learner offers. The first one is the default if the model
      has batch normalization.

  Raises:
    ValueError: If `value` is none of `choices`.
  """
  if value is None:
    value = choices[0] if layers.has_batch_normalization(model) else "none"
  return arguments.check_choice("normalization", value, choices)


def context_for(learner: Any, normalization: str | None) -> Context:
  """Returns the context in which `learner` predicts with a normalization.

  Args:
    learner: A `MetaLearner`.
    normalization: `"support_stats"`; or the normalization that the learner has,
      which `None` stands for too. A model without batch normalization predicts
      the same with each.

  Raises:
    ValueError: If the learner was not trained for the normalization, or if its
      class does not say that it uses the context.
  """
  own = learner.normalization
  if normalization in (None, own):
    return EVALUATION
  choices = (own, "support_stats")
  arguments.check_choice("normalization", normalization, choices)
  if not layers.has_batch_normalization(learner.model):
    return EVALUATION
  if not learner.transductive:
    raise ValueError(
      "`normalization` can replace that of a transductive learner only, and "
      f"this learner was made with normalization={own!r}, under which queries "
      "do not depend on each other. "
      f"Received: normalization={normalization!r}"
    )
  if not learner.takes_weights:
    raise ValueError(
      f"{type(learner).__name__} does not say that its methods use their "
      "context. If they do, set `takes_weights = True` in the class. Received: "
      f"normalization={normalization!r}"
    )
  return EVALUATION.replace(normalization=normalization)


def check_default(context: Context) -> None:
  """Checks that an export of another format keeps the normalization."""
  if context.normalization is not None:
    raise ValueError(
      "`normalization` applies to the signatures that a SavedModel of a "
      "learner has by default; learner.to_model(weights).export(...) writes "
      f"other formats. Received: normalization={context.normalization!r}"
    )


def warn_of_single_queries(learner: Any, normalization: str | None) -> None:
  """Warns that a learner predicts worse if few queries come at once.

  Args:
    learner: A transductive learner; there is nothing to say about another one.
    normalization: The normalization that the user chose, or `None`.
  """
  own = learner.normalization
  if (
    normalization is None
    and learner.transductive
    and layers.has_batch_normalization(learner.model)
  ):
    warnings.warn(
      f"normalization={own!r} normalizes queries by each other, so the "
      "exported model is less accurate if few queries come at once. For single "
      'queries, pass normalization="support_stats"; '
      f'normalization="{own}" keeps this one without a warning. '
      "tfmeta.evaluate(..., queries_at_once=1) measures the difference.",
      stacklevel=3,
    )
