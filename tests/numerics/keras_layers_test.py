"""Checks the meta-gradient through each layer and image operation of Keras.

Each has a row in a table, and a name that Keras has and the table lacks is an
error. So a new release of Keras brings no operation whose second derivatives
nobody has looked at. A row passes if the gradient of `MAML.task_loss` agrees
with central differences in float64, or if the learner names the layer in a
warning or refuses it.
"""

import inspect
import re
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.core import functional
from tfmeta.testing.second_order import finite_differences

TOLERANCE = 1e-6

L = keras.layers
VECTOR, SEQUENCE, IMAGE, VOLUME = (6,), (5, 4), (6, 6, 3), (4, 4, 4, 2)
FEW = (3, 3, 3, 1)  # Max pooling in float32 has kinks, so the fewer the better.

# For each layer, its arguments, and the shape of its inputs. An argument that
# is a class stands for a layer of 2 units.
LAYERS = {
  "Activation": ({"activation": "gelu"}, VECTOR),
  "ActivityRegularization": ({"l2": 0.1}, VECTOR),
  "AdaptiveAveragePooling1D": ({"output_size": 2}, SEQUENCE),
  "AdaptiveAveragePooling2D": ({"output_size": 2}, IMAGE),
  "AdaptiveAveragePooling3D": ({"output_size": 2}, VOLUME),
  "AdaptiveMaxPooling1D": ({"output_size": 2}, SEQUENCE),
  "AdaptiveMaxPooling2D": ({"output_size": 2}, IMAGE),
  "AdaptiveMaxPooling3D": ({"output_size": 2}, (4, 4, 4, 1)),
  "AlphaDropout": ({"rate": 0.3}, VECTOR),
  "AugMix": ({"value_range": (0, 1)}, IMAGE),
  "AutoContrast": ({"value_range": (0, 1)}, IMAGE),
  "AveragePooling1D": ({"pool_size": 2}, SEQUENCE),
  "AveragePooling2D": ({"pool_size": 2}, IMAGE),
  "AveragePooling3D": ({"pool_size": 2}, VOLUME),
  "BatchNormalization": ({}, IMAGE),
  "Bidirectional": ({"layer": L.SimpleRNN}, SEQUENCE),
  "CenterCrop": ({"height": 3, "width": 3}, IMAGE),
  "ContrastLimitedAdaptiveHistogramEqualization": (
    {"value_range": (0, 1), "tile_grid_size": (2, 2)},
    IMAGE,
  ),
  "Conv1D": ({"filters": 2, "kernel_size": 2}, SEQUENCE),
  "Conv1DTranspose": ({"filters": 2, "kernel_size": 2}, SEQUENCE),
  "Conv2D": ({"filters": 2, "kernel_size": 2}, IMAGE),
  "Conv2DTranspose": ({"filters": 2, "kernel_size": 2}, IMAGE),
  "Conv3D": ({"filters": 2, "kernel_size": 2}, VOLUME),
  "Conv3DTranspose": ({"filters": 2, "kernel_size": 2}, VOLUME),
  "ConvLSTM1D": ({"filters": 2, "kernel_size": 2}, (3, 4, 2)),
  "ConvLSTM2D": ({"filters": 2, "kernel_size": 2}, (3, 3, 3, 2)),
  "ConvLSTM3D": ({"filters": 2, "kernel_size": 2}, (2, 3, 3, 3, 1)),
  "Cropping1D": ({"cropping": 1}, SEQUENCE),
  "Cropping2D": ({"cropping": 1}, IMAGE),
  "Cropping3D": ({"cropping": 1}, VOLUME),
  "Dense": ({"units": 2}, VECTOR),
  "DepthwiseConv1D": ({"kernel_size": 2}, SEQUENCE),
  "DepthwiseConv2D": ({"kernel_size": 2}, IMAGE),
  "Dropout": ({"rate": 0.3}, VECTOR),
  "ELU": ({}, VECTOR),
  "EinsumDense": (
    {"equation": "abc,cd->abd", "output_shape": (5, 3)},
    SEQUENCE,
  ),
  "Flatten": ({}, IMAGE),
  "GRU": ({"units": 2}, SEQUENCE),
  "GaussianDropout": ({"rate": 0.3}, VECTOR),
  "GaussianNoise": ({"stddev": 0.3}, VECTOR),
  "GlobalAveragePooling1D": ({}, SEQUENCE),
  "GlobalAveragePooling2D": ({}, IMAGE),
  "GlobalAveragePooling3D": ({}, VOLUME),
  "GlobalMaxPooling1D": ({}, SEQUENCE),
  "GlobalMaxPooling2D": ({}, IMAGE),
  "GlobalMaxPooling3D": ({}, VOLUME),
  "GroupNormalization": ({"groups": 3}, IMAGE),
  "Identity": ({}, VECTOR),
  "LSTM": ({"units": 2}, SEQUENCE),
  "Lambda": ({"function": keras.ops.sin}, VECTOR),
  "LayerNormalization": ({}, SEQUENCE),
  "LeakyReLU": ({}, VECTOR),
  "Masking": ({}, SEQUENCE),
  "MaxNumBoundingBoxes": ({"max_number": 3}, IMAGE),
  "MaxPooling1D": ({}, SEQUENCE),
  "MaxPooling2D": ({}, IMAGE),
  "MaxPooling3D": ({}, FEW),
  "MelSpectrogram": (
    {
      "fft_length": 8,
      "sequence_stride": 4,
      "num_mel_bins": 3,
      "sampling_rate": 100,
      "max_freq": 50,
      "power_to_db": False,
    },
    (24,),
  ),
  "MixUp": ({}, IMAGE),
  "Normalization": ({"mean": 0.5, "variance": 2.0}, VECTOR),
  "PReLU": ({}, VECTOR),
  "Permute": ({"dims": (2, 1)}, SEQUENCE),
  "Pipeline": ({"layers": [L.Rescaling(2.0)]}, IMAGE),
  "RMSNormalization": ({}, SEQUENCE),
  "RNN": ({"cell": L.GRUCell}, SEQUENCE),
  "RandAugment": ({"value_range": (0, 1)}, IMAGE),
  "RandomBrightness": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomColorDegeneration": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomColorJitter": ({"value_range": (0, 1)}, IMAGE),
  "RandomContrast": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomCrop": ({"height": 6, "width": 6}, IMAGE),
  "RandomErasing": ({"value_range": (0, 1)}, IMAGE),
  "RandomFlip": ({}, IMAGE),
  "RandomGaussianBlur": ({"value_range": (0, 1)}, IMAGE),
  "RandomGrayscale": ({}, IMAGE),
  "RandomHue": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomInvert": ({"value_range": (0, 1)}, IMAGE),
  "RandomPerspective": ({}, IMAGE),
  "RandomPosterization": ({"factor": 4, "value_range": (0, 1)}, IMAGE),
  "RandomRotation": ({"factor": 0.3}, IMAGE),
  "RandomSaturation": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomSharpness": ({"factor": 0.3, "value_range": (0, 1)}, IMAGE),
  "RandomShear": ({"x_factor": 0.3, "y_factor": 0.3}, IMAGE),
  "RandomTranslation": ({"height_factor": 0.3, "width_factor": 0.3}, IMAGE),
  "RandomZoom": ({"height_factor": 0.3}, IMAGE),
  "ReLU": ({}, VECTOR),
  "RepeatVector": ({"n": 2}, VECTOR),
  "Rescaling": ({"scale": 2.0}, VECTOR),
  "Reshape": ({"target_shape": (3, 2)}, VECTOR),
  "Resizing": ({"height": 7, "width": 4}, IMAGE),
  "STFTSpectrogram": (
    {"frame_length": 8, "frame_step": 4, "fft_length": 8, "window": None},
    (24, 1),
  ),
  "SeparableConv1D": ({"filters": 2, "kernel_size": 2}, SEQUENCE),
  "SeparableConv2D": ({"filters": 2, "kernel_size": 2}, IMAGE),
  "SimpleRNN": ({"units": 2}, SEQUENCE),
  "Softmax": ({}, VECTOR),
  "Solarization": ({"value_range": (0, 1)}, IMAGE),
  "SpatialDropout1D": ({"rate": 0.3}, SEQUENCE),
  "SpatialDropout2D": ({"rate": 0.3}, IMAGE),
  "SpatialDropout3D": ({"rate": 0.3}, VOLUME),
  "SpectralNormalization": ({"layer": L.Dense}, VECTOR),
  "TimeDistributed": ({"layer": L.Dense}, SEQUENCE),
  "UnitNormalization": ({}, VECTOR),
  "UpSampling1D": ({}, SEQUENCE),
  "UpSampling2D": ({}, IMAGE),
  "UpSampling3D": ({}, VOLUME),
  "ZeroPadding1D": ({}, SEQUENCE),
  "ZeroPadding2D": ({}, IMAGE),
  "ZeroPadding3D": ({}, VOLUME),
}

# Layers that take two inputs, which are made from one here.
MERGING = (
  "Add",
  "AdditiveAttention",
  "Attention",
  "Average",
  "Concatenate",
  "Maximum",
  "Minimum",
  "Multiply",
  "Subtract",
)

# Further ways to use the layers.
VARIANTS = {
  "attention_itself": (
    SEQUENCE,
    lambda x: L.MultiHeadAttention(2, 2)(x, x),
  ),
  "attention_causal": (
    SEQUENCE,
    lambda x: L.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True),
  ),
  "attention_grouped": (
    SEQUENCE,
    lambda x: L.GroupQueryAttention(2, 2, 1)(x, x),
  ),
  "attention_masked": (
    SEQUENCE,
    lambda x: L.Attention()([L.Masking()(x), L.Masking()(x)]),
  ),
  "dot": (SEQUENCE, lambda x: L.Dot(2)([x, L.Dense(4)(x)])),
  "lstm_masked": (SEQUENCE, lambda x: L.LSTM(2)(L.Masking()(x))),
  "bidirectional_masked": (
    SEQUENCE,
    lambda x: L.Bidirectional(L.SimpleRNN(2))(L.Masking()(x)),
  ),
  "lstm_sequences": (
    SEQUENCE,
    lambda x: L.LSTM(2, return_sequences=True, go_backwards=True)(x),
  ),
  "lstm_dropout": (
    SEQUENCE,
    lambda x: L.LSTM(2, dropout=0.3, recurrent_dropout=0.3)(x),
  ),
  "rnn_unrolled": (SEQUENCE, lambda x: L.SimpleRNN(2, unroll=True)(x)),
  "rnn_softsign": (
    SEQUENCE,
    lambda x: L.SimpleRNN(2, activation="softsign")(x),
  ),
  "rnn_stacked": (
    SEQUENCE,
    lambda x: L.RNN([L.SimpleRNNCell(2), L.LSTMCell(2)])(x),
  ),
  "time_distributed_normalization": (
    (3, 2, 4),
    lambda x: L.TimeDistributed(L.LayerNormalization())(x),
  ),
  "time_distributed_convolution": (
    (2, 4, 4, 2),
    lambda x: L.TimeDistributed(L.Conv2D(2, 2, activation="softsign"))(x),
  ),
  "batch_masked": (
    SEQUENCE,
    lambda x: L.BatchNormalization()(L.Masking()(x)),
  ),
  "batch_renormalized": (
    VECTOR,
    lambda x: L.BatchNormalization(renorm=True)(x),
  ),
  "layer_rms": (SEQUENCE, lambda x: L.LayerNormalization(rms_scaling=True)(x)),
  "pooling_overlaps": (IMAGE, lambda x: L.MaxPooling2D(3, 1, "same")(x)),
  "lambda_moments": (
    VECTOR,
    lambda x: L.Lambda(lambda x: tf.nn.moments(x, [0])[1] * x)(x),
  ),
  **{
    f"up_{name}": (
      (3, 3, 2),
      lambda x, name=name: L.UpSampling2D(interpolation=name)(x),
    )
    for name in ("bilinear", "bicubic", "lanczos3", "lanczos5")
  },
  **{
    f"resizing_{name}": (
      (4, 4, 2),
      lambda x, name=name: L.Resizing(7, 3, name, antialias=True)(x),
    )
    for name in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
  },
}

# Layers with nothing to differentiate, or for another framework.
NOT_IN_THE_TABLE = {
  "CategoryEncoding": "takes integers",
  "CutMix": "takes images with labels",
  "Discretization": "returns integers",
  "Dot": "a variant",
  "Embedding": "takes integers: see test_embedding",
  "Equalization": "Keras cannot put it into a functional model",
  "FlaxLayer": "for JAX",
  "GRUCell": "in a variant and in RNN",
  "GroupQueryAttention": "a variant",
  "HashedCrossing": "takes integers",
  "Hashing": "takes integers",
  "InputLayer": "an input",
  "IntegerLookup": "takes integers",
  "JaxLayer": "for JAX",
  "LSTMCell": "in a variant",
  "Layer": "has no call",
  "MultiHeadAttention": "a variant",
  "RandomElasticTransform": "the image operation elastic_transform",
  "ReversibleEmbedding": "takes integers: see test_embedding",
  "SimpleRNNCell": "in a variant",
  "StackedRNNCells": "in a variant",
  "StringLookup": "takes strings",
  "TFSMLayer": "has no weights and no second derivatives of its own",
  "TextVectorization": "takes strings",
  "TorchModuleWrapper": "for PyTorch",
  "Wrapper": "has no call",
}

_TRANSFORM = [0.9, 0.1, 0.2, -0.1, 1.1, 0.1, 0.01, 0.02]
_CORNERS = [[[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]]] * 4
_SHRUNK = [[[1.0, 0.5], [4.0, 0.0], [0.0, 5.0], [4.5, 5.0]]] * 4
_ops = keras.ops.image

IMAGE_OPERATIONS = {
  "affine_transform": lambda x: _ops.affine_transform(
    x, tf.constant([_TRANSFORM] * 4)
  ),
  "crop_images": lambda x: _ops.crop_images(
    x, 1, 1, target_height=3, target_width=3
  ),
  "elastic_transform": lambda x: _ops.elastic_transform(x, 2.0, 2.0, seed=0),
  "extract_patches": lambda x: _ops.extract_patches(x, 2),
  "extract_patches_3d": lambda x: _ops.extract_patches_3d(x[..., None], 2),
  "gaussian_blur": _ops.gaussian_blur,
  "hsv_to_rgb": _ops.hsv_to_rgb,
  "map_coordinates": lambda x: keras.ops.vectorized_map(
    lambda image: _ops.map_coordinates(
      image, [[2.2, 3.1], [3.7, 0.6], [0.4, 1.3]], order=1
    ),
    x,
  ),
  "pad_images": lambda x: _ops.pad_images(x, 1, 1, 1, 1),
  "perspective_transform": lambda x: _ops.perspective_transform(
    x, tf.constant(_CORNERS), tf.constant(_SHRUNK)
  ),
  "resize": lambda x: _ops.resize(x, (7, 4)),
  "rgb_to_grayscale": _ops.rgb_to_grayscale,
  "rgb_to_hsv": _ops.rgb_to_hsv,
  "scale_and_translate": lambda x: _ops.scale_and_translate(
    x,
    (4, 5, 7, 3),
    keras.ops.array([0.8, 1.2]),
    keras.ops.array([0.1, 0.3]),
    (1, 2),
    "linear",
  ),
  "sobel_edges": _ops.sobel_edges,
  "ssim": lambda x: _ops.ssim(x, 0.5 * x, 1.0, filter_size=3)[:, None],
}

_NO_ACTIVATIONS = ("get", "serialize", "deserialize")
ACTIVATIONS = {
  name: getattr(keras.activations, name)
  for name in dir(keras.activations)
  if not name.startswith("_") and name not in _NO_ACTIVATIONS
}
ACTIVATIONS["threshold"] = lambda x: keras.activations.threshold(x, 0.5, 0.1)

# Where a learner warns, and of what.
NAMED = {
  "AugMix": "ImageProjectiveTransformV3",
  "RandAugment": "ImageProjectiveTransformV3",
  "RandomHue": "HSVToRGB",
  "RandomPerspective": "ImageProjectiveTransformV3",
  "RandomRotation": "ImageProjectiveTransformV3",
  "RandomSaturation": "HSVToRGB",
  "RandomShear": "ImageProjectiveTransformV3",
  "RandomTranslation": "ImageProjectiveTransformV3",
  "RandomZoom": "ImageProjectiveTransformV3",
  "batch_renormalized": "its corrections as constants",
  "affine_transform": "ImageProjectiveTransformV3",
  "hsv_to_rgb": "HSVToRGB",
  "perspective_transform": "ImageProjectiveTransformV3",
}


# Where a learner cannot be made, and why.
REFUSED = {
  "ActivityRegularization": "add losses in their call",
  "SpectralNormalization": "assign variables in their call",
}


class Function(keras.Layer):
  """Layer that applies a function."""

  def __init__(self, function, **kwargs):
    super().__init__(**kwargs)
    self.function = function

  def call(self, inputs):
    return self.function(inputs)


def _made(name, arguments):
  """Returns a layer of Keras."""

  def value(given):
    return given(2) if inspect.isclass(given) else given

  given = {key: value(argument) for key, argument in arguments.items()}
  return getattr(L, name)(**given)


def _model(apply, shape, dtype):
  """Returns a model with weights before and behind what `apply` does."""
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(dtype)
  try:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape, dtype=dtype)
    # Some operations take colors, between 0 and 1.
    x = L.Dense(shape[-1], activation="sigmoid")(inputs)
    outputs = L.Dense(1)(L.Flatten()(apply(x)))
    model = keras.Model(inputs, outputs)
  finally:
    keras.config.set_dtype_policy(before)
  generator = np.random.default_rng(0)
  for variable in model.trainable_variables:  # Zeros and ones are special.
    variable.assign_add(0.1 * generator.normal(size=variable.shape))
  return model


def _learner(model, dtype):
  """Returns a learner, and what it warns of."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    learner = tfmeta.MAML(
      model, inner_learning_rate=0.5, inner_loss="mse", dtype=dtype
    )
  texts = [str(warning.message) for warning in caught]
  return learner, [text for text in texts if "tfmeta" in text]


def _agreement(learner, x, y):
  """Compares the meta-gradient with central differences."""
  variables = learner.model.trainable_variables

  @tf.function(autograph=False)
  def evaluate(weights):
    with tf.GradientTape() as tape:
      tape.watch(weights)
      with functional.substituted(learner.model, variables, weights):
        loss, _ = learner.task_loss(x[0], y[0], x[1], y[1])
    gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
    return loss, [tf.convert_to_tensor(g) for g in gradients]

  weights = functional.weights_of(learner.model)
  return finite_differences.compare(
    evaluate.get_concrete_function(weights),
    weights,
    seed=0,
    tolerance=TOLERANCE,
  )


class KerasLayersTest(parameterized.TestCase):
  def _check(self, name, apply, shape):
    if name in REFUSED:
      with self.assertRaisesRegex(ValueError, REFUSED[name]):
        _learner(_model(apply, shape, "float64"), "float64")
      return
    for dtype in ("float64", "float32"):
      try:
        agreement, said = self._result(apply, shape, dtype)
        break
      except (TypeError, tf.errors.InvalidArgumentError) as error:
        # TensorFlow has a few kernels in float32 only.
        if dtype == "float32" or not re.search("float64|DOUBLE", str(error)):
          raise
    if name in NAMED:
      self.assertLen(said, 1)
      self.assertIn(NAMED[name], said[0])
    else:
      self.assertEmpty(said)
      self.assertTrue(agreement.passed, msg=str(agreement))

  def _result(self, apply, shape, dtype):
    learner, said = _learner(_model(apply, shape, dtype), dtype)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(2, 4, *shape)), dtype)
    y = tf.constant(generator.normal(size=(2, 4, 1)), dtype)
    return None if said else _agreement(learner, x, y), said

  @parameterized.named_parameters(zip(LAYERS, LAYERS, strict=True))
  def test_layer(self, name):
    arguments, shape = LAYERS[name]
    self._check(name, lambda x: _made(name, arguments)(x), shape)

  @parameterized.named_parameters(zip(MERGING, MERGING, strict=True))
  def test_layer_of_two_inputs(self, name):
    self._check(
      name,
      lambda x: getattr(L, name)()([x, L.Dense(4, "tanh")(x)]),
      SEQUENCE,
    )

  @parameterized.named_parameters(zip(VARIANTS, VARIANTS, strict=True))
  def test_variant(self, name):
    shape, apply = VARIANTS[name]
    self._check(name, apply, shape)

  @parameterized.named_parameters(
    zip(IMAGE_OPERATIONS, IMAGE_OPERATIONS, strict=True)
  )
  def test_image_operation(self, name):
    self._check(name, Function(IMAGE_OPERATIONS[name]), IMAGE)

  def test_activations(self):
    """All share one graph, where a single wrong one exceeds the tolerance."""

    def apply(x):
      return L.Concatenate()(
        [
          Function(function, name=name)(x)
          for name, function in ACTIVATIONS.items()
        ]
      )

    self._check("activations", apply, VECTOR)

  @parameterized.parameters(L.Embedding, L.ReversibleEmbedding)
  def test_embedding(self, layer_class):
    inputs = keras.Input((3,), dtype="int32")
    x = layer_class(5, 2, dtype="float64")(inputs)
    x = L.Dense(2, "tanh", dtype="float64")(L.Flatten(dtype="float64")(x))
    model = keras.Model(inputs, L.Dense(1, dtype="float64")(x))
    learner, said = _learner(model, "float64")
    self.assertEmpty(said)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.integers(0, 5, (2, 4, 3)), tf.int32)
    y = tf.constant(generator.normal(size=(2, 4, 1)))
    self.assertTrue(_agreement(learner, x, y).passed)

  def test_every_layer_of_keras_is_known(self):
    classes = {}
    for name in sorted(dir(L)):
      item = getattr(L, name)
      if inspect.isclass(item) and issubclass(item, keras.Layer):
        classes.setdefault(item, set()).add(name)
    known = {*LAYERS, *MERGING, *NOT_IN_THE_TABLE}
    unknown = [names for names in classes.values() if not names & known]
    self.assertEmpty(unknown, "these layers need a row in this file")

  def test_every_image_operation_of_keras_is_known(self):
    names = {name for name in dir(_ops) if not name.startswith("_")}
    self.assertEqual(names, {*IMAGE_OPERATIONS})


if __name__ == "__main__":
  absltest.main()
