"""A linear classifier of embeddings."""

import keras

from tfmeta import arguments
from tfmeta.models import blocks


def embedding_head(
  features: int,
  *,
  ways: int,
  normalize: bool = True,
  use_bias: bool = False,
  dtype: str | None = None,
  name: str = "embedding_head",
) -> keras.Model:
  """Builds a linear classifier, whose weights LEO generates.

  Args:
    features: Size of an embedding.
    ways: Number of classes, the width of the output.
    normalize: Whether embeddings are first scaled to length 1. Defaults to
      `True`.
    use_bias: Whether the classifier has a bias. `tfmeta.LEO` takes only models
      without a bias. Defaults to `False`.
    dtype: Dtype or policy of all layers. Defaults to Keras's global policy.
    name: Name of the model. Defaults to `"embedding_head"`.

  Returns:
    A built model, `[n, features] -> [n, ways]` logits.

  Raises:
    ValueError: If `features` or `ways` is not an integer of at least 1.
  """
  arguments.check_integer("features", features, least=1)
  arguments.check_integer("ways", ways, least=1)
  inputs = x = blocks.model_input((features,), dtype)
  if normalize:
    x = keras.layers.UnitNormalization(dtype=dtype, name="unit_length")(x)
  logits = keras.layers.Dense(
    ways, use_bias=use_bias, dtype=dtype, name="head"
  )(x)
  return keras.Model(inputs, logits, name=name)
