"""Choice of some trainable weights of a model, by layer or by variable."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from tfmeta.layers import copying

WeightChoice = str | Sequence[str] | Callable[[Any], bool]


def chosen_mask(
  model: keras.Model, name: str, choice: WeightChoice
) -> list[bool]:
  """Returns which trainable variables of `model` a choice selects.

  Args:
    model: A built model.
    name: Name of the argument that holds the choice, for error messages.
    choice: `"head"` chooses the last layer that has trainable weights. A path
      (`"block/dense"`) or unique name of a layer, or a list of them, chooses
      these layers. A function from a variable to a boolean chooses the
      variables for which it is true.

  Returns:
    One boolean for each of `model.trainable_variables`.

  Raises:
    ValueError: If no weight is chosen, or if a layer is unknown, ambiguous or
      without trainable weights.
  """
  if callable(choice):
    mask = [bool(choice(v)) for v in model.trainable_variables]
  else:
    layers = _chosen_layers(model, name, choice)
    # Variables are compared by identity: `==` would compare their values.
    chosen = {id(v) for layer in layers for v in layer.weights}
    mask = [id(v) in chosen for v in model.trainable_variables]
  if not any(mask):
    raise ValueError(
      f"`{name}` must choose at least one trainable weight of the model "
      f"({', '.join(v.path for v in model.trainable_variables)}). "
      f"Received: {name}={choice!r}"
    )
  return mask


def _chosen_layers(
  model: keras.Model, argument: str, choice: str | Sequence[str]
) -> list[keras.layers.Layer]:
  # A nested model is no candidate, because "head" must mean its last layer.
  candidates = [
    (path, layer)
    for path, layer in copying.walk(model)
    if layer.trainable_weights and not isinstance(layer, keras.Model)
  ]
  if choice == "head":
    # The last variable belongs to the last layer, even in a model of a custom
    # class, which need not list its layers in the order of their calls.
    last = model.trainable_variables[-1]
    return [
      layer
      for _, layer in candidates
      if any(v is last for v in layer.trainable_weights)
    ]
  names = [choice] if isinstance(choice, str) else choice
  if not isinstance(names, list | tuple):
    names = []
  matches = [
    [layer for path, layer in candidates if name in (path, layer.name)]
    for name in names
  ]
  if not matches or any(len(layers) != 1 for layers in matches):
    paths = ", ".join(path for path, _ in candidates)
    raise ValueError(
      f"`{argument}` must be 'head', paths or unique names of layers with "
      f"trainable weights ({paths}), or a function from a variable to a "
      f"boolean. Received: {argument}={choice!r}"
    )
  return [layer for layers in matches for layer in layers]
