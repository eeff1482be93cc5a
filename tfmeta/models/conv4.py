"""The four-block convolutional network of the few-shot papers."""

from collections.abc import Sequence

import keras

from tfmeta import arguments
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

  Each block consists of a 3x3 convolution, normalization, an activation and a
  pooling that halves height and width. A linear head follows. Kernels start
  with Glorot's uniform initialization, and biases start at 0. These arguments
  give the networks of the MAML paper, as they are in the authors' code:

  - Omniglot: `filters=64, pooling="stride", head_input="mean", scale=False,
    head_initializer=keras.initializers.RandomNormal(stddev=1.0)`.
  - miniImageNet: `filters=32, scale=False`. With images of 84x84x3, the head
    gets 800 features.

  MAML++ and most later work on Omniglot use the defaults. With images of
  28x28x1, the head gets 64 features.

  Args:
    input_shape: `(height, width, channels)`.
    ways: Number of classes, the width of the head.
    filters: Number of filters of each convolution. Defaults to 64.
    pooling: How a block halves height and width: `"max"` (default) or
      `"average"` pooling of 2x2, or the `"stride"` of its convolution.
    normalization: Kind of normalization: `"batch"` (default), `"layer"`,
      `"group"` or `"none"`. All have exact second derivatives. A group holds 4
      filters, or all filters if 4 does not divide their number.
    scale: Whether normalization learns a scale in addition to its shift.
      Defaults to `True`.
    momentum: Momentum of the moving statistics of batch normalization. Only the
      learner `MAMLPlusPlus`, with `normalization="per_step_running"`, updates
      them. Defaults to 0.99.
    activation: Activation of the blocks. Defaults to `"relu"`.
    head_input: Input of the head: `"flatten"` (default) for all features, or
      `"mean"` for their mean over height and width.
    head_initializer: Initializer of the kernel of the head. Defaults to
      `"glorot_uniform"`.
    dtype: Dtype or policy of all layers. Defaults to Keras's global policy.
    name: Name of the model. Defaults to `"conv4"`.

  Returns:
    A built model, `[n, height, width, channels] -> [n, ways]` logits.

  Raises:
    ValueError: If a choice is unknown, if a count is not positive, or if the
      images are smaller than the 16x16 pixels that four poolings need.

  References:
    C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
    Adaptation of Deep Networks. ICML 2017. https://arxiv.org/abs/1703.03400
    (details read in the authors' code, github.com/cbfinn/maml)
  """
  arguments.check_choice("pooling", pooling, _REDUCTIONS)
  kinds = (*blocks.NORMALIZATIONS, "none")
  arguments.check_choice("normalization", normalization, kinds)
  arguments.check_choice("head_input", head_input, blocks.HEAD_INPUTS)
  arguments.check_integer("ways", ways, least=1)
  arguments.check_integer("filters", filters, least=1)
  # Strided convolutions pad, so that they reduce any size to at least 1 pixel.
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
