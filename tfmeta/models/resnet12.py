"""The residual network with twelve convolutions of the few-shot papers."""

from collections.abc import Sequence

import keras

from tfmeta import arguments
from tfmeta.models import blocks

_CONVOLUTIONS = 3


def resnet12(
  input_shape: Sequence[int],
  *,
  ways: int,
  filters: Sequence[int] = (64, 160, 320, 640),
  normalization: str = "batch",
  head_input: str = "mean",
  dtype: str | None = None,
  name: str = "resnet12",
) -> keras.Model:
  """Builds ResNet-12, the larger backbone of the few-shot papers.

  Each entry of `filters` makes one residual stage. A stage has three 3x3
  convolutions without bias, each followed by normalization, with leaky ReLU
  (slope 0.1) between them. The shortcut around them is a 1x1 convolution with
  normalization. The sum of both goes through leaky ReLU and a 2x2 max pooling.
  Kernels start with He's normal initialization. This network leaves out the
  authors' DropBlock.

  Args:
    input_shape: `(height, width, channels)`; usually 84x84x3.
    ways: Number of classes, the width of the head.
    filters: Number of filters of each stage. Defaults to `(64, 160, 320, 640)`.
    normalization: Kind of normalization: `"batch"` (default), `"layer"`,
      `"group"` or `"none"`. All have exact second derivatives. A group holds 4
      filters, or all filters if 4 does not divide their number.
    head_input: Input of the head: `"mean"` (default) for the mean of the
      features over height and width, or `"flatten"` for all features.
    dtype: Dtype or policy of all layers. Defaults to Keras's global policy.
    name: Name of the model. Defaults to `"resnet12"`.

  Returns:
    A built model, `[n, height, width, channels] -> [n, ways]` logits.

  Raises:
    ValueError: If a choice is unknown, if a count is not positive, or if the
      images are too small for the poolings. They need `2**n` pixels a side for
      n stages.

  References:
    K. Lee, S. Maji, A. Ravichandran, S. Soatto. Meta-Learning with
    Differentiable Convex Optimization. CVPR 2019.
    https://arxiv.org/abs/1904.03758 (details read in the authors' code,
    github.com/kjunelee/MetaOptNet)
  """
  kinds = (*blocks.NORMALIZATIONS, "none")
  arguments.check_choice("normalization", normalization, kinds)
  arguments.check_choice("head_input", head_input, blocks.HEAD_INPUTS)
  arguments.check_integer("ways", ways, least=1)
  for width in filters:
    arguments.check_integer("filters", width, least=1)
  blocks.check_image_shape(input_shape, 2 ** len(filters))

  inputs = x = blocks.model_input(input_shape, dtype)
  for i, width in enumerate(filters):
    x = _stage(x, width, normalization, dtype, f"stage_{i}")
  x = blocks.HEAD_INPUTS[head_input](dtype=dtype, name="features")(x)
  logits = keras.layers.Dense(ways, dtype=dtype, name="head")(x)
  return keras.Model(inputs, logits, name=name)


def _stage(x, filters, normalization, dtype, name):
  """Adds a residual stage, which halves height and width."""

  def activate(y, label):
    return keras.layers.LeakyReLU(
      negative_slope=0.1, dtype=dtype, name=f"{name}_{label}"
    )(y)

  def convolve(y, size, label):
    y = keras.layers.Conv2D(
      filters,
      size,
      padding="same",
      use_bias=False,
      kernel_initializer="he_normal",
      dtype=dtype,
      name=f"{name}_conv_{label}",
    )(y)
    return blocks.normalize(
      y, normalization, dtype=dtype, name=f"{name}_norm_{label}"
    )

  shortcut = convolve(x, 1, "shortcut")
  for i in range(_CONVOLUTIONS):
    x = convolve(x, 3, i)
    if i < _CONVOLUTIONS - 1:
      x = activate(x, f"act_{i}")
  x = keras.layers.Add(dtype=dtype, name=f"{name}_add")([x, shortcut])
  x = activate(x, "act")
  return blocks.pool(x, "max", dtype=dtype, name=f"{name}_pool")
