"""What an inner loss must be, and what it expects of a model."""

from typing import Any
import warnings

import keras

from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import samples


def resolve_loss(loss: Any) -> Any:
  """The inner loss, cross entropy of integer labels by default."""
  if loss is None:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  try:
    resolved = keras.losses.get(loss)
  except ValueError as error:
    raise ValueError(
      "`inner_loss` must be a Keras loss, its name or a function. "
      f"Received: inner_loss={loss!r}"
    ) from error
  if not isinstance(loss, str) or isinstance(resolved, keras.losses.Loss):
    return resolved
  # For some names Keras has functions, which do not tell what they expect.
  name = "".join(part.capitalize() for part in resolved.__name__.split("_"))
  return getattr(keras.losses, name, lambda: resolved)()


def warn_of_probabilities(loss: Any, model: keras.Model) -> None:
  """Warns if `loss` takes logits, and `model` ends in a softmax."""
  last = model.layers[-1] if model.layers else None
  softmax = isinstance(last, keras.layers.Softmax) or (
    getattr(last, "activation", None) is keras.activations.softmax
  )
  logits = functional.takes_labels(loss) and samples.from_logits(loss)
  if softmax and logits:
    warnings.warn(
      f"The inner loss takes logits, and {model.name!r} ends in a softmax: "
      "leave that out, or give keras.losses.SparseCategoricalCrossentropy() as "
      "`inner_loss`, which takes probabilities.",
      stacklevel=4,
    )


def check_likelihood(loss: Any) -> None:
  """Checks that draws of a learner with this inner loss can be averaged."""
  name = getattr(loss, "__name__", type(loss).__name__).lower()
  probabilities = "crossentropy" in name.replace("_", "")
  if probabilities and not functional.takes_labels(loss):
    raise ValueError(
      "Learners with several draws average probabilities of classes, for which "
      "`inner_loss` must take integer labels: leave it out, or use "
      "keras.losses.SparseCategoricalCrossentropy. "
      f"Received: inner_loss={loss!r}"
    )


def check_labels(loss: Any) -> None:
  """Checks that `loss` is one of integer labels."""
  if not functional.takes_labels(loss):
    raise ValueError(
      "`inner_loss` must take integer labels, as what is generated is a "
      "classifier: leave it out. "
      f"Received: inner_loss={loss!r}"
    )


def check_prior(prior: str, loss: Any) -> None:
  """Checks a prior of `BMAML`, and that its likelihood is that of the loss."""
  settings.check_choice("prior", prior, ("hierarchical", "flat"))
  known = isinstance(loss, keras.losses.MeanSquaredError)
  if prior == "hierarchical" and not (known or functional.takes_labels(loss)):
    raise ValueError(
      "`prior='hierarchical'` has a Gaussian likelihood, which belongs to "
      "inner_loss='mse', or that of integer labels: use prior='flat' with "
      f"another loss. Received: inner_loss={loss!r}"
    )
