"""Tests that LoRA factors and quantized layers survive saving and copying.

Without `kept_whole`, Keras merges the factors and loads zeros; without
`convert`, inner layers of an attention layer lose factors and quantization.
"""

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

import tfmeta
from tfmeta.callbacks import run_state

KINDS = ("dense", "einsum", "embedding", "conv", "attention")


def _model(kind, *, quantized=None, lora=True):
  """Returns a model whose layer "body" has LoRA factors that are not zero."""
  keras.utils.set_random_seed(1)
  layers = keras.layers
  x = keras.Input((4,), dtype="int32" if kind == "embedding" else None)
  if kind == "dense":
    body = layers.Dense(5, activation="tanh", name="body")
    hidden = body(x)
  elif kind == "einsum":
    body = layers.EinsumDense("ab,bc->ac", 5, bias_axes="c", name="body")
    hidden = layers.LayerNormalization()(body(x))
  elif kind == "embedding":
    body = layers.Embedding(7, 3, name="body")
    hidden = layers.Flatten()(body(x))
  elif kind == "conv":
    body = layers.Conv1D(3, 2, name="body")
    hidden = layers.Flatten()(body(layers.Reshape((4, 1))(x)))
  else:
    outer = layers.MultiHeadAttention(2, 2, name="body")
    tokens = layers.Reshape((2, 2))(x)
    hidden = layers.Flatten()(outer(tokens, tokens))
    # The configuration of the outer layer says nothing of this one.
    body = outer.query_dense
  model = keras.Model(x, layers.Dense(3, name="head")(hidden))
  if quantized:
    model.quantize(quantized)
  if lora:
    body.enable_lora(2, lora_alpha=3.0)
    # New factors B are zeros, for which the merged kernel would be right.
    for variable in _factors(model):
      variable.assign(keras.random.normal(variable.shape, stddev=0.5))
  return model


def _factors(model):
  return [v for v in model.trainable_variables if "lora_" in v.name]


def _tasks(kind):
  random = np.random.default_rng(0)
  labels = np.tile(np.arange(3), (2, 2)).astype(np.int32)
  support, query = random.normal(size=(2, 2, 6, 4)).astype(np.float32)
  if kind == "embedding":
    support, query = random.integers(7, size=(2, 2, 6, 4)).astype(np.int32)
  x = {"support_x": support, "support_y": labels, "query_x": query}
  return x, labels


def _learner(model, learner_class=tfmeta.FOMAML, **kwargs):
  learner = learner_class(model, inner_learning_rate=0.1, **kwargs)
  learner.compile(keras.optimizers.Adam(0.01))
  return learner


class ConvertedTest(parameterized.TestCase):
  def check_like(self, loaded, learner, kind):
    """Checks predictions, and then those after one more step of training."""
    x, y = _tasks(kind)
    names = [v.path for v in learner.model.trainable_variables]
    self.assertEqual([v.path for v in loaded.model.trainable_variables], names)
    np.testing.assert_allclose(
      loaded.predict_on_batch(x), learner.predict_on_batch(x), atol=1e-6
    )
    before = [keras.ops.convert_to_numpy(v) for v in _factors(loaded.model)]
    for each in (learner, loaded):
      each.train_on_batch(x, y)
    for old, new in zip(before, _factors(loaded.model), strict=True):
      self.assertGreater(np.abs(new - old).max(), 1e-4)
    for a, b in zip(learner.weights, loaded.weights, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-6)

  @parameterized.parameters(
    *((kind, None) for kind in KINDS),
    ("dense", "int8"),
    ("dense", "int4"),
    ("embedding", "int8"),
  )
  def test_saved_learner_goes_on_as_the_unsaved_one(self, kind, quantized):
    learner = _learner(_model(kind, quantized=quantized))
    x, y = _tasks(kind)
    learner.train_on_batch(x, y)
    path = self.create_tempfile("learner.keras").full_path
    learner.save(path)
    self.check_like(keras.saving.load_model(path), learner, kind)

  def test_quantized_inner_layers_survive_without_factors(self):
    learner = _learner(_model("attention", quantized="int8", lora=False))
    path = self.create_tempfile("learner.keras").full_path
    learner.save(path)
    self.check_like(keras.saving.load_model(path), learner, "attention")

  @parameterized.parameters("learner.weights.h5", "checkpoint")
  def test_weights_survive(self, name):
    learner, other = _learner(_model("dense")), _learner(_model("dense"))
    x, y = _tasks("dense")
    learner.train_on_batch(x, y)
    if name == "checkpoint":
      data = run_state.pack(learner, "")
      run_state.assign(other, run_state.unpack(data)[1])
    else:
      path = self.create_tempfile(name).full_path
      learner.save_weights(path)
      other.load_weights(path)
      other.optimizer.build(other.trainable_variables)
      for a, b in zip(
        other.optimizer.variables, learner.optimizer.variables, strict=True
      ):
        a.assign(b)
    self.check_like(other, learner, "dense")

  @parameterized.parameters(*KINDS)
  def test_plain_model_predicts_as_the_learner(self, kind):
    learner = _learner(_model(kind))
    x, _ = _tasks(kind)
    weights = learner.adapt(x["support_x"][0], x["support_y"][0])
    plain = learner.to_model(weights)
    expected = learner.predict_with(weights, x["query_x"][0])
    np.testing.assert_allclose(plain(x["query_x"][0]), expected, atol=1e-6)

  def test_copies_for_statistics_keep_the_factors(self):
    x = keras.Input((4,))
    attention = keras.layers.MultiHeadAttention(1, 2)
    tokens = keras.layers.Reshape((2, 2))(x)
    hidden = keras.layers.Flatten()(attention(tokens, tokens))
    hidden = keras.layers.BatchNormalization()(hidden)
    model = keras.Model(x, keras.layers.Dense(3)(hidden))
    attention.value_dense.enable_lora(1)
    inputs, _ = _tasks("attention")
    for learner in (
      _learner(model, normalization="support_stats"),
      _learner(model, tfmeta.EMAML, num_particles=2, first_order=True),
    ):
      weights = learner.adapt(inputs["support_x"][0], inputs["support_y"][0])
      plain = learner.to_model(weights)
      expected = learner.predict_with(weights, inputs["query_x"][0])
      np.testing.assert_allclose(
        plain(inputs["query_x"][0]), expected, atol=1e-5
      )

  def test_factors_of_zeros_are_refused(self):
    path = self.create_tempfile("model.keras").full_path
    _model("dense").save(path)
    model = keras.saving.load_model(path)
    with self.assertRaisesRegex(ValueError, "'body'.*save the learner"):
      tfmeta.MAML(model)
    body = model.get_layer("body")
    body.lora_kernel_a.assign(keras.random.normal(body.lora_kernel_a.shape))
    tfmeta.MAML(model)

  def test_file_without_the_factors_is_refused(self):
    path = self.create_tempfile("learner.weights.h5").full_path
    model = _model("dense", lora=False)
    learner = tfmeta.MAML(model)
    learner.save_weights(path)
    with_factors = tfmeta.MAML(_model("dense"))
    with self.assertRaisesRegex(ValueError, "must hold the LoRA factors"):
      with_factors.load_weights(path)

  def test_float8_is_refused(self):
    model = _model("dense", quantized="float8", lora=False)
    with self.assertRaisesRegex(ValueError, "'body'.*float8"):
      tfmeta.MAML(model)


if __name__ == "__main__":
  absltest.main()
