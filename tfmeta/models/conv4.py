"""The four-block convolutional network of the few-shot papers."""

from collections.abc import Sequence

import keras

from tfmeta.models import blocks

BLOCKS = 4
_REDUCTIONS = (*blocks.POOLINGS, "stride")


def conv4(
  input_shape: Sequence[int],
  *,
  ways: int,
  filters: int = 64,
  pooling: str = "max",
  normalization: str = "batch",
  scale: bool = True,
  momentum: float = 0.99,
  activation: str = "relu",
  head_input: str = "flatten",
  head_initializer: str | keras.Initializer = "glorot_uniform",
  dtype: str | None = None,
  name: str = "conv4",
) -> keras.Model:
  """Builds the four-block convolutional network of the few-shot papers.

  Four times a 3x3 convolution, normalisation, activation and a halving of the
  map, then a linear head. Kernels are drawn by Glorot, biases start at 0. The
  networks of the MAML paper, as the authors' code has them:

  - Omniglot: `filters=64, pooling="stride", head_input="mean", scale=False,
    head_initializer=keras.initializers.RandomNormal(stddev=1.0)`;
  - miniImageNet: `filters=32, scale=False` and otherwise the defaults, for
    images of 84x84x3 (800 features at the head).

  MAML++ and most later work on Omniglot use the defaults (64 features at the
  head for images of 28x28x1).

  Args:
    input_shape: `(height, width, channels)`.
    ways: Number of classes, the width of the head.
    filters: Of each convolution. Default 64.
    pooling: What halves the map: `"max"` or `"average"` pooling of 2x2, or the
      `"stride"` of the convolution. Default `"max"`.
    normalization: `"batch"`, `"layer"`, `"group"` (a group for 4 filters, as
      far as they go) or `"none"`; exact at second order. Default `"batch"`.
    scale: Whether normalisation learns a scale beside its shift. Default
      `True`.
    momentum: Of the moving statistics of batch normalisation, which learners
      use under `normalization="per_step_running"` only. Default 0.99.
    activation: Of the blocks. Default `"relu"`.
    head_input: `"flatten"` or the `"mean"` over the spatial map. Default
      `"flatten"`.
    head_initializer: For the kernel of the head. Default `"glorot_uniform"`.
    dtype: Dtype or policy of all layers. Default: Keras's global policy.
    name: Name of the model.

  Returns:
    A built model, `[n, height, width, channels] -> [n, ways]` logits.

  Raises:
    ValueError: If a choice is unknown, a count is not positive, or the images
      are too small for four poolings (16 pixels).

  References:
    C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
    Adaptation of Deep Networks. ICML 2017. https://arxiv.org/abs/1703.03400
    (details read in the authors' code, github.com/cbfinn/maml)
  """
  blocks.check_option("pooling", pooling, _REDUCTIONS)
  kinds = (*blocks.NORMALIZATIONS, "none")
  blocks.check_option("normalization", normalization, kinds)
  blocks.check_option("head_input", head_input, tuple(blocks.HEAD_INPUTS))
  blocks.check_positive("ways", ways)
  blocks.check_positive("filters", filters)
  smallest = 1 if pooling == "stride" else 2**BLOCKS
  blocks.check_image_shape(input_shape, smallest)

  inputs = x = blocks.model_input(input_shape, dtype)
  for i in range(BLOCKS):
    x = keras.layers.Conv2D(
      filters,
      3,
      strides=2 if pooling == "stride" else 1,
      padding="same",
      dtype=dtype,
      name=f"conv_{i}",
    )(x)
    x = blocks.normalize(
      x,
      normalization,
      scale=scale,
      momentum=momentum,
      dtype=dtype,
      name=f"norm_{i}",
    )
    x = keras.layers.Activation(activation, dtype=dtype, name=f"act_{i}")(x)
    x = blocks.pool(x, pooling, dtype=dtype, name=f"pool_{i}")
  features = blocks.HEAD_INPUTS[head_input](dtype=dtype, name="features")(x)
  logits = keras.layers.Dense(
    ways, kernel_initializer=head_initializer, dtype=dtype, name="head"
  )(features)
  return keras.Model(inputs, logits, name=name)
