"""Networks that make the weights of a classifier out of embeddings."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfmeta.core import latent


@keras.saving.register_keras_serializable("tfmeta")
class ClassifierGenerator(keras.layers.Layer):
  """Encoder, relation network and decoder of latent embedding optimisation.

  All three are without biases: the encoder is linear, the relation network has
  three layers with ReLU between them, and sees all pairs of encoded examples,
  the decoder is linear again [1].

  Args:
    features: Size d of an embedding.
    ways: Number of classes W.
    num_latents: Size n of a code.
    spread: How standard deviations are made: see `core.split_scale`.
    **kwargs: Forwarded to `keras.layers.Layer`.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
  """

  def __init__(
    self,
    features: int,
    ways: int,
    *,
    num_latents: int = 64,
    spread: str = "softplus",
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.features = features
    self.ways = ways
    self.num_latents = n = num_latents
    self.spread = spread
    self.encoder = self._network("encoder", features, [n])
    self.relation = self._network("relation", 2 * n, [2 * n] * 3)
    self.decoder = self._network("decoder", n, [2 * features])
    self.built = True

  def encode(
    self, features: tf.Tensor, shares: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation `[W, n]` of the codes of classes.

    Args:
      features: `[S, d]`.
      shares: `[W, S]`, from `core.latent.class_shares`.
    """
    pairs = latent.pairs_of(self.encoder(features))
    rows = self.relation(tf.reshape(pairs, [-1, pairs.shape[-1]]))
    related = tf.reshape(rows, tf.shape(pairs))  # Each has twice the latents.
    values = shares @ tf.reduce_mean(related, axis=1)
    return latent.split_scale(values, kind=self.spread, initial=0.0)

  def decode(self, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation `[C, d]` of the classifiers of codes."""
    glorot = math.sqrt(2.0 / (self.ways + self.features))
    values = self.decoder(codes)
    return latent.split_scale(values, kind=self.spread, initial=glorot)

  def weight_terms(self, kind: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Penalties of correlated rows of the decoder, and of large weights.

    Args:
      kind: `"paper"`: the sum of the absolute values of correlations less the
        unit matrix, and of the squares of all weights. `"release"`: the mean of
        the squares of the first, and half of the second.

    Returns:
      Two scalars.
    """
    error = latent.correlation_error(
      tf.convert_to_tensor(self.decoder.weights[0])
    )
    weights = [tf.convert_to_tensor(w) for w in self.trainable_weights]
    squares = tf.add_n([tf.reduce_sum(tf.square(w)) for w in weights])
    if kind == "paper":
      return tf.reduce_sum(tf.abs(error)), squares
    return tf.reduce_mean(tf.square(error)), squares / 2

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "features": self.features,
      "ways": self.ways,
      "num_latents": self.num_latents,
      "spread": self.spread,
    }

  def _network(self, name: str, inputs: int, units: list[int]) -> Any:
    last = len(units) - 1
    layers = [
      keras.layers.Dense(
        n,
        activation=None if i == last else "relu",
        use_bias=False,
        dtype=self.dtype_policy,
      )
      for i, n in enumerate(units)
    ]
    inputs = keras.Input((inputs,), dtype=self.variable_dtype)
    return keras.Sequential([inputs, *layers], name=name)
