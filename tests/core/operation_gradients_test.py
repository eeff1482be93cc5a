"""Tests the gradients that replace those of single operations.

The second derivatives are compared with those of the same function, written
with elementary operations.
"""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.core import exact_gradients
from tfmeta.core import operation_gradients


def _random(*shape, seed=0, dtype=np.float32):
  generator = np.random.default_rng(seed)
  return tf.constant(generator.normal(size=shape).astype(dtype))


def _derivatives(function, x, *, jit_compile=False):
  """Returns outputs, and first and second derivatives along random directions.

  The first derivative is quadratic in the outputs, so that the second one runs
  through the upstream gradient of the operation too.
  """
  direction = _random(*x.shape, seed=1, dtype=x.dtype.as_numpy_dtype)

  @tf.function(autograph=False, jit_compile=jit_compile)
  def evaluate(x):
    with tf.GradientTape() as outer:
      outer.watch(x)
      with tf.GradientTape() as inner:
        inner.watch(x)
        outputs = function(x)
        value = tf.reduce_sum(outputs**3)
      first = inner.gradient(value, x)
      along = tf.reduce_sum(first * direction)
    second = outer.gradient(along, x, unconnected_gradients="zero")
    return outputs, first, second

  return [result.numpy() for result in evaluate(x)]


def _matrix_of(function, x):
  """Returns a linear function of `x` as a product with a constant matrix."""
  size = x.shape.num_elements()
  units = tf.reshape(tf.eye(size, dtype=x.dtype), [size, *x.shape])
  columns = tf.stack([tf.reshape(function(unit), [-1]) for unit in units])
  return lambda x: tf.reshape(
    tf.linalg.matvec(columns, tf.reshape(x, [-1]), transpose_a=True),
    function(x).shape,
  )


def _lrn(x, radius, bias, alpha, beta):
  padded = tf.pad(tf.square(x), [[0, 0]] * 3 + [[radius, radius]])
  channels = x.shape[-1]
  sums = sum(padded[..., i : i + channels] for i in range(2 * radius + 1))
  return x / (bias + alpha * sums) ** beta


def _windows(x, sizes, axes):
  """Returns the maxima of adjacent windows, by reshaping."""
  shape, kept = [], []
  for axis, length in enumerate(x.shape):
    shape += (
      [length // sizes[axes.index(axis)], sizes[axes.index(axis)]]
      if (axis in axes)
      else [length]
    )
    if axis in axes:
      kept.append(len(shape) - 1)
  return tf.reduce_max(tf.reshape(x, shape), kept)


def _pool_of_slices(x, size, stride, padding):
  """Returns max pooling, by the maximum of slices."""
  lengths = x.shape[1:-1].as_list()
  if padding == "SAME":
    totals = [
      max((-(-n // stride) - 1) * stride + size - n, 0) for n in lengths
    ]
    paddings = [[total // 2, total - total // 2] for total in totals]
    x = tf.pad(x, [[0, 0], *paddings, [0, 0]], constant_values=-9.0)
    lengths = [n + total for n, total in zip(lengths, totals, strict=True)]
  found = None
  for place in itertools.product(range(size), repeat=len(lengths)):
    window = tuple(
      slice(start, n - size + start + 1, stride)
      for start, n in zip(place, lengths, strict=True)
    )
    part = x[(slice(None), *window)]
    found = part if found is None else tf.maximum(found, part)
  return found


class OperationGradientsTest(parameterized.TestCase):
  def _compare(self, function, reference, x, *, compiled=False, rtol=2e-4):
    exact = exact_gradients.exactly(function)
    found = _derivatives(exact, x, jit_compile=compiled)
    expected = _derivatives(reference, x)
    for left, right in zip(found, expected, strict=True):
      scale = np.abs(right).max()
      np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * scale)
    return found

  @parameterized.product(
    method=("bilinear", "bicubic", "nearest", "lanczos3", "gaussian"),
    size=((5, 7), (2, 3)),
  )
  def test_resizes_are_linear(self, method, size):
    def resize(x):
      return tf.image.resize(x, size, method=method)

    x = _random(1, 4, 3, 2)
    self._compare(resize, _matrix_of(resize, x), x)

  @parameterized.parameters(
    {"align_corners": True}, {"half_pixel_centers": True}, {}
  )
  def test_resizes_keep_their_corners(self, **corners):
    """A gradient that forgets the attributes resizes differently."""

    def resize(x):
      return tf.raw_ops.ResizeBilinear(images=x, size=[5, 7], **corners)

    x = _random(1, 4, 3, 2)
    self._compare(resize, _matrix_of(resize, x), x)

  def test_sizes_that_the_graph_does_not_know(self):
    exact = exact_gradients.exactly(
      lambda x: tf.image.resize(x, 2 * tf.shape(x)[1:3])
    )
    spec = tf.TensorSpec([None, None, None, 1])
    unknown = tf.function(exact, input_signature=[spec], autograph=False)
    x = _random(1, 4, 3, 1)

    def resize(x):
      return tf.image.resize(x, [8, 6])

    for left, right in zip(
      _derivatives(unknown, x),
      _derivatives(_matrix_of(resize, x), x),
      strict=True,
    ):
      np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)

  def test_softsign(self):
    x = _random(5, dtype=np.float64)
    self._compare(tf.nn.softsign, lambda x: x / (1 + tf.abs(x)), x, rtol=1e-12)

  @parameterized.parameters(1, 9)
  def test_local_response_normalization(self, radius):
    """Windows may be wider than the channels."""
    options = (radius, 1.5, 0.3, 0.7)
    self._compare(
      lambda x: tf.nn.lrn(x, *options),
      lambda x: _lrn(x, *options),
      _random(2, 3, 3, 4),
    )

  @parameterized.product(batch_in_index=(False, True))
  def test_max_pooling_with_argmax(self, batch_in_index):
    def pool(x):
      return tf.nn.max_pool_with_argmax(
        x, 2, 2, "VALID", include_batch_in_index=batch_in_index
      )[0]

    self._compare(
      pool, lambda x: _windows(x, (2, 2), (1, 2)), _random(3, 4, 4, 2)
    )

  @parameterized.parameters(None, "stats", "mean", "StopGradient")
  def test_moments(self, name):
    def variance(x):
      return tf.nn.moments(x, [0], name=name)[1]

    x = _random(5, 2, dtype=np.float64)
    self._compare(variance, lambda x: tf.math.reduce_variance(x, 0), x)

  @parameterized.product(compiled=(False, True), name=(None, "stats"))
  def test_moments_of_rows(self, compiled, name):
    def variances(x):
      return tf.vectorized_map(
        lambda row: tf.nn.moments(row, [0], name=name)[1], x
      )

    x = _random(5, 2, dtype=np.float64)
    self._compare(
      variances,
      lambda x: tf.math.reduce_variance(x, 1),
      x,
      compiled=compiled,
    )

  def test_other_constants_stay_constant(self):
    """Ours may not differentiate through what others mean as a constant."""

    def centered(x):
      mean = tf.reduce_mean(x, name="mean")
      return tf.math.squared_difference(x, tf.stop_gradient(mean))

    x = _random(5, dtype=np.float64)
    exact = exact_gradients.exactly(centered)
    for left, right in zip(
      _derivatives(exact, x), _derivatives(centered, x), strict=True
    ):
      np.testing.assert_allclose(left, right, rtol=1e-12)

  @parameterized.product(
    rank=(2, 3),
    padding=("VALID", "SAME"),
    sizes=((2, 2), (3, 1)),
    compiled=(False, True),
  )
  def test_max_pooling(self, rank, padding, sizes, compiled):
    """TensorFlow is wrong for windows that move by 1, and under XLA."""
    op = {2: tf.nn.max_pool2d, 3: tf.nn.max_pool3d}[rank]
    values = np.random.default_rng(0).permutation(2 * 5**rank) / 100.0
    self._compare(
      lambda x: op(x, *sizes, padding),
      lambda x: _pool_of_slices(x, *sizes, padding),
      tf.constant(values.reshape([2, *[5] * rank, 1]), tf.float32),
      compiled=compiled,
    )

  def test_max_pooling_under_xla_tells_close_values_apart(self):
    """The second derivative of XLA takes the wrong one of these two."""
    window = tf.reshape([1.0, 1.001, 0.5, 0.2], [1, 2, 2, 1])

    def pool(x):
      return tf.nn.max_pool2d(x, 2, 2, "VALID")

    second = self._compare(pool, pool, window, compiled=True)[2]
    self.assertNotEqual(second[0, 0, 1, 0], 0)
    self.assertEqual(np.count_nonzero(second), 1)

  def test_max_pooling_under_xla_takes_the_first_of_equal_values(self):
    def pool(x):
      return tf.nn.max_pool2d(x, 2, 1, "VALID")

    x = tf.reshape([1.0, 2.0, 2.0, 2.0, 2.0, 0.5], [1, 2, 3, 1])
    self._compare(pool, pool, x, compiled=True)

  def test_max_pooling_under_xla_with_the_channels_first(self):
    def pool(x):
      return tf.nn.max_pool2d(x, 2, 2, "SAME", data_format="NCHW")

    def reference(x):
      pooled = tf.nn.max_pool2d(tf.transpose(x, [0, 2, 3, 1]), 2, 2, "SAME")
      return tf.transpose(pooled, [0, 3, 1, 2])

    self._compare(pool, reference, _random(1, 2, 5, 4), compiled=True)

  def test_every_gradient_has_a_test_here(self):
    tested = {
      "ResizeBilinear",
      "ResizeBicubic",
      "ResizeNearestNeighbor",
      "ScaleAndTranslate",
      "Softsign",
      "LRN",
      "MaxPoolWithArgmax",
      "StopGradient",
      "MaxPool",
      "MaxPool3D",
    }
    self.assertEqual({*operation_gradients.EXACT}, tested)

  def test_gradients_are_still_needed(self):
    """If this fails, TensorFlow has learned a derivative: remove ours."""
    x = _random(1, 4, 4, 2)
    for function in (
      lambda x: tf.image.resize(x, [5, 5], "bicubic"),
      lambda x: tf.image.resize(x, [5, 5], "nearest"),
      lambda x: tf.image.resize(x, [5, 5], "lanczos3"),
      tf.nn.softsign,
      tf.nn.lrn,
      lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")[0],
    ):
      with self.assertRaises(LookupError):
        _derivatives(function, x)

    def bilinear(x):
      return tf.image.resize(x, [5, 5])

    def variance(x):
      return tf.nn.moments(x, [0, 1, 2])[1]

    for function in (bilinear, variance):
      plain = _derivatives(function, x)[2]
      exact = _derivatives(exact_gradients.exactly(function), x)[2]
      self.assertGreater(np.abs(plain - exact).max(), 1e-3)

  @parameterized.parameters("MaxPool", "MaxPool3D")
  def test_kernels_still_overwrite_what_they_read(self, op_type):
    """If this fails, TensorFlow has mended its kernel: remove `_keeps_size`."""
    rank = 4 if op_type == "MaxPool" else 5
    x = _random(*[4] * rank)
    options = {"strides": [1] * rank, "padding": "SAME"}
    options["ksize"] = [1, *[2] * (rank - 2), 1]
    y = getattr(tf.raw_ops, op_type)(input=x, **options)

    def second(x):
      kernel = getattr(tf.raw_ops, f"{op_type}GradGrad")
      return kernel(orig_input=x, orig_output=y, grad=2.0 * x, **options)

    graph = tf.function(second, autograph=False)(x)
    self.assertGreater(np.abs(graph - second(x)).max(), 0.1)


if __name__ == "__main__":
  absltest.main()
