"""Gradients of TensorFlow operations that can be differentiated again.

TensorFlow has no gradient for the gradients of some operations, such as the
resizing of images, and a wrong one for others. The gradients here have exact
derivatives of any order. They are registered under names of their own, so that
TensorFlow's gradients stay as they are. `tfmeta.core.exact_gradients` says
where they are used.

Each function takes an operation of the graph and the gradient with respect to
its output, and returns the gradients with respect to its inputs.
"""

from collections.abc import Callable
import itertools
import re
from typing import Any

import tensorflow as tf

from tfmeta.core import keras_internals

# The types of operations of a forward pass whose gradients are replaced, and
# the names of the gradients that replace them.
EXACT: dict[str, str] = {}

_Gradient = Callable[..., Any]


def is_needed(op: tf.Operation) -> bool:
  """Returns whether `op` needs a gradient of this file, and has it."""
  if not _has_ours(op):
    return False
  if op.type in _MAX_POOLS:
    return _keeps_size(op) or keras_internals.in_xla_context(op.graph)
  return op.type != "StopGradient" or is_mean_of_moments(op)


def is_left(op: tf.Operation) -> bool:
  """Returns whether `op` may need a gradient of this file, and lacks it."""
  constant = op.type == "StopGradient" and not is_mean_of_moments(op)
  return op.type in EXACT and not constant and not _has_ours(op)


def _has_ours(op: tf.Operation) -> bool:
  return keras_internals.gradient_name(op).startswith("tfmeta>")


def _register(op_type: str, gradient: _Gradient, *, forward: bool) -> None:
  """Registers our gradient of `op_type`.

  Args:
    op_type: Type of an operation.
    gradient: Its gradient.
    forward: Whether forward passes contain the operation, or only our own
      gradients make it.
  """
  name = f"tfmeta>{op_type}"
  tf.RegisterGradient(name)(gradient)
  if forward:
    EXACT[op_type] = name


def _make(op_type: str, **kwargs: Any) -> Any:
  """Makes an operation whose gradient is ours."""
  graph = tf.compat.v1.get_default_graph()
  with graph.gradient_override_map({op_type: f"tfmeta>{op_type}"}):
    return getattr(tf.raw_ops, op_type)(**kwargs)


def _attributes(op: tf.Operation, *names: str) -> dict[str, Any]:
  return {name: op.get_attr(name) for name in names}


# The output of a resize is linear in the images. The gradient of its gradient
# is therefore the resize itself.


def _linear_pair(
  op_type: str, images: str, attributes: tuple[str, ...]
) -> None:
  """Registers the gradients of a resize, and of TensorFlow's gradient of it.

  Args:
    op_type: Type of the resize. Its first two inputs are the images and their
      new size. The following ones get no gradient, as in TensorFlow.
    images: What the gradient takes as its second input: `"original_image"`, or
      `"size"`, the size of the images.
    attributes: Names of the attributes that both operations have.
  """

  def of_resize(op: tf.Operation, upstream: tf.Tensor) -> Any:
    second = _size(op.inputs[0]) if images == "size" else op.inputs[0]
    more = dict(zip(("scale", "translation"), op.inputs[2:], strict=False))
    found = _make(
      f"{op_type}Grad",
      grads=upstream,
      **{images: second},
      **more,
      **_attributes(op, *attributes),
    )
    return found, *[None] * (len(op.inputs) - 1)

  def of_gradient(op: tf.Operation, upstream: tf.Tensor) -> Any:
    more = dict(zip(("scale", "translation"), op.inputs[2:], strict=False))
    found = _make(
      op_type,
      images=upstream,
      size=_size(op.inputs[0]),
      **more,
      **_attributes(op, *attributes),
    )
    return found, *[None] * (len(op.inputs) - 1)

  _register(op_type, of_resize, forward=True)
  _register(f"{op_type}Grad", of_gradient, forward=False)


def _size(images: tf.Tensor) -> Any:
  """Returns height and width of images with the channels last."""
  static = images.shape[1:3]
  known = static.is_fully_defined()
  return static.as_list() if known else tf.shape(images)[1:3]


_CORNERS = ("align_corners", "half_pixel_centers")
_linear_pair("ResizeBilinear", "original_image", _CORNERS)
_linear_pair("ResizeBicubic", "original_image", _CORNERS)
_linear_pair("ResizeNearestNeighbor", "size", _CORNERS)
_linear_pair(
  "ScaleAndTranslate", "original_image", ("kernel_type", "antialias")
)


def _of_stop_gradient(op: tf.Operation, upstream: tf.Tensor) -> Any:
  """Lets gradients through to the mean from which a variance is computed.

  `tf.nn.moments` stops them, because they cancel. Their derivatives do not.
  """
  return upstream if is_mean_of_moments(op) else None


def is_mean_of_moments(op: tf.Operation) -> bool:
  """Returns whether `op` is the `StopGradient` in `tf.nn.moments`.

  `tf.nn.moments` computes the variance of `x` as

      mean = reduce_mean(x)
      variance = reduce_mean(squared_difference(x, stop_gradient(mean)))

  A user may write the same with a mean that is meant to be constant. Only
  `tf.nn.moments` names the operations like this, in one name scope.
  """
  mean = op.inputs[0].op
  scope = _scope(mean, "Mean", "mean")
  if scope is None or scope != _scope(op, "StopGradient", "StopGradient"):
    return False
  kind = "SquaredDifference"
  return any(
    user.inputs[0] is mean.inputs[0]
    and scope == _scope(user, kind, kind)
    and any(
      scope == _scope(last, "Mean", "variance")
      for last in user.outputs[0].consumers()
    )
    for user in op.outputs[0].consumers()
  )


def _scope(op: tf.Operation, op_type: str, name: str) -> str | None:
  """Returns the name scope of an operation, or `None` if it is another one.

  `tf.vectorized_map` appends its own names to those of the operations.
  """
  found = re.fullmatch(rf"((?:.*?/)?){name}(_\d+)?(/pfor/\w+)*", op.name)
  return found[1] if found and op.type == op_type else None


_register("StopGradient", _of_stop_gradient, forward=True)


def _of_softsign(op: tf.Operation, upstream: tf.Tensor) -> tf.Tensor:
  """Differentiates `x / (1 + |x|)`."""
  return upstream / tf.square(1 + tf.abs(op.inputs[0]))


_register("Softsign", _of_softsign, forward=True)


def _of_lrn(op: tf.Operation, upstream: tf.Tensor) -> tf.Tensor:
  """Differentiates `x / norm**beta` with `norm = bias + alpha * sum(x**2)`.

  The sum is over neighboring channels, at most `depth_radius` apart.
  """
  x = op.inputs[0]
  alpha, beta = op.get_attr("alpha"), op.get_attr("beta")
  count = tf.shape(x)[-1]
  radius = tf.minimum(op.get_attr("depth_radius"), count)
  near = tf.linalg.band_part(tf.ones([count, count], x.dtype), radius, radius)
  norm = op.get_attr("bias") + alpha * tf.linalg.matmul(tf.square(x), near)
  shares = upstream * x * norm ** (-beta - 1)
  crossed = tf.linalg.matmul(shares, near)
  return upstream * norm**-beta - 2 * alpha * beta * x * crossed


_register("LRN", _of_lrn, forward=True)


def _of_max_pool_with_argmax(
  op: tf.Operation, upstream: tf.Tensor, of_argmax: Any
) -> tf.Tensor:
  """Sends gradients to the places of the maxima."""
  del of_argmax
  x = op.inputs[0]
  size = tf.size(x, tf.int64)
  places = op.outputs[1]
  if not op.get_attr("include_batch_in_index"):
    batch = tf.shape(x, tf.int64)[0]
    starts = tf.range(batch) * (size // tf.maximum(batch, 1))
    places += starts[:, None, None, None]
  found = tf.math.unsorted_segment_sum(
    tf.reshape(upstream, [-1]), tf.reshape(places, [-1]), size
  )
  return tf.reshape(found, tf.shape(x))


_register("MaxPoolWithArgmax", _of_max_pool_with_argmax, forward=True)


# TensorFlow's second derivative of max pooling is wrong in two cases. XLA
# compares the values of a window in bfloat16, and may take the wrong one of two
# that are close. In other graphs, if inputs and outputs have the same size, the
# kernel may write its results over values that it has yet to read.

_MAX_POOLS = ("MaxPool", "MaxPool3D")


def _keeps_size(op: tf.Operation) -> bool:
  ones = all(step == 1 for step in op.get_attr("strides"))
  return ones and op.get_attr("padding") == b"SAME"


def _of_max_pool(op: tf.Operation, upstream: tf.Tensor) -> tf.Tensor:
  return _make(
    f"{op.type}Grad",
    orig_input=op.inputs[0],
    orig_output=op.outputs[0],
    grad=upstream,
    **_attributes(op, "ksize", "strides", "padding", "data_format"),
  )


def _of_max_pool_gradient(op: tf.Operation, upstream: tf.Tensor) -> Any:
  """Takes `upstream` at the place of the first maximum of each window."""
  inputs, outputs = op.inputs[:2]
  zeros = [tf.zeros_like(tensor) for tensor in op.inputs[:2]]
  if op.get_attr("padding") == b"SAME":
    # With explicit padding, inputs and outputs differ in size.
    paddings = _same_paddings(op)
    inputs = tf.pad(inputs, paddings, constant_values=inputs.dtype.min)
    upstream = tf.pad(upstream, paddings)
  if keras_internals.in_xla_context():
    return *zeros, _at_first_maximum(op, inputs, outputs, upstream)
  kernel = getattr(tf.raw_ops, f"{op.type}Grad")
  found = kernel(
    orig_input=inputs,
    orig_output=outputs,
    grad=upstream,
    padding="VALID",
    **_attributes(op, "ksize", "strides", "data_format"),
  )
  return *zeros, found


def _same_paddings(op: tf.Operation) -> tf.Tensor:
  """Returns what `"SAME"` adds at both ends of each axis, `[rank, 2]`."""
  sizes, steps = op.get_attr("ksize"), op.get_attr("strides")
  length = tf.shape(op.inputs[0])
  windows = -(-length // steps)
  total = tf.maximum((windows - 1) * steps + sizes - length, 0)
  return tf.stack([total // 2, total - total // 2], axis=1)


def _at_first_maximum(
  op: tf.Operation, inputs: tf.Tensor, outputs: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
  """Returns `values` where `inputs` first equal the maximum of a window."""
  sizes, steps = op.get_attr("ksize"), op.get_attr("strides")
  counts = tf.unstack(tf.shape(outputs), inputs.shape.rank)
  found = tf.zeros_like(outputs)
  free = tf.ones_like(outputs, tf.bool)
  for place in itertools.product(*map(range, sizes)):
    window = tuple(
      slice(start, start + (count - 1) * step + 1, step)
      for start, count, step in zip(place, counts, steps, strict=True)
    )
    hit = free & (inputs[window] == outputs)
    found += tf.where(hit, values[window], 0)
    free &= ~hit
  return found


for _type in _MAX_POOLS:
  _register(_type, _of_max_pool, forward=True)
  _register(f"{_type}Grad", _of_max_pool_gradient, forward=False)
