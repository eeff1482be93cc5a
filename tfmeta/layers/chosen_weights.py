"""A choice of some of the weights of a model, by layer or by variable."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from tfmeta.layers import copying

Choice = str | Sequence[str] | Callable[[Any], bool]


def chosen_weights(model: keras.Model, name: str, choice: Choice) -> list[bool]:
  """Which of the trainable variables of `model` are chosen.

  Args:
    model: A built model.
    name: Name of the argument, for messages.
    choice: `"head"`, the last layer that has trainable weights; a list of paths
      or unique names of layers; or a function from a variable to a boolean.

  Raises:
    ValueError: If no weight is chosen or a layer is unknown.
  """
  if callable(choice):
    mask = [bool(choice(v)) for v in model.trainable_variables]
  else:
    layers = _layers(model, name, choice)
    chosen = {id(v) for layer in layers for v in layer.weights}
    mask = [id(v) in chosen for v in model.trainable_variables]
  if not any(mask):
    raise ValueError(
      f"`{name}` must choose at least one trainable weight of the model. "
      f"Received: {name}={choice!r}, which chooses none of "
      f"{[v.path for v in model.trainable_variables]}"
    )
  return mask


def _layers(
  model: keras.Model, argument: str, choice: str | Sequence[str]
) -> list[keras.layers.Layer]:
  found = [
    (path, layer)
    for path, layer in copying.walk(model)
    if layer.trainable_weights and not isinstance(layer, keras.Model)
  ]
  if choice == "head":
    last = model.trainable_variables[-1]
    return [x for _, x in found if any(v is last for v in x.trainable_weights)]
  names = [choice] if isinstance(choice, str) else choice
  if not isinstance(names, list | tuple):
    names = []
  chosen = [[x for p, x in found if name in (p, x.name)] for name in names]
  if not chosen or any(len(layers) != 1 for layers in chosen):
    paths = ", ".join(path for path, _ in found)
    raise ValueError(
      f"`{argument}` must be 'head', paths or unique names of layers with "
      f"trainable weights ({paths}), or a function from a variable to a "
      f"boolean. Received: {argument}={choice!r}"
    )
  return [layer for layers in chosen for layer in layers]
