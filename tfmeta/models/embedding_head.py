"""A linear classifier of embeddings."""

import keras

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
  """Builds a linear classifier, as LEO generates its weights.

  Args:
    features: Size of an embedding.
    ways: Number of classes.
    normalize: Whether embeddings are first scaled to length 1.
    use_bias: Whether it has a bias. `tfmeta.LEO` takes one without.
    dtype: Dtype or policy of all layers. Default: Keras's global policy.
    name: Name of the model.

  Returns:
    A built model, `[n, features] -> [n, ways]` logits.
  """
  blocks.check_positive("features", features)
  blocks.check_positive("ways", ways)
  inputs = x = blocks.model_input((features,), dtype)
  if normalize:
    x = keras.layers.UnitNormalization(dtype=dtype, name="unit_length")(x)
  logits = keras.layers.Dense(
    ways, use_bias=use_bias, dtype=dtype, name="head"
  )(x)
  return keras.Model(inputs, logits, name=name)
