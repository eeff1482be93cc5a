from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import callbacks

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def make_model(learning_rate=0.1, **kwargs):
  keras.utils.set_random_seed(0)
  model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
  model.compile(keras.optimizers.Adam(learning_rate), "mse", **kwargs)
  return model


def fit(model, x, more=(), epochs=1):
  """Trains with one update for every two examples."""
  model.fit(
    x,
    Y[: len(x)],
    batch_size=2,
    shuffle=False,
    epochs=epochs,
    callbacks=list(more),
    verbose=0,
  )


def variables_of(model):
  variables = [*model.variables, *model.optimizer.variables]
  return [keras.ops.convert_to_numpy(v) for v in variables]


class TerminateOnDivergenceTest(parameterized.TestCase):
  def assert_same_variables(self, model, expected):
    pairs = zip(variables_of(model), variables_of(expected), strict=True)
    for value, other in pairs:
      np.testing.assert_array_equal(value, other)

  def test_puts_back_the_last_variables_with_a_finite_loss(self):
    x = X.copy()
    x[6] = np.nan  # In the fourth update.
    model, expected = make_model(), make_model()
    with self.assertRaisesRegex(
      callbacks.DivergenceError, "loss .* update 4 of epoch 1"
    ):
      fit(model, x, [callbacks.TerminateOnDivergence()])
    fit(expected, X[:4])  # The third loss is that of the second update.
    self.assert_same_variables(model, expected)

  def test_weights_may_overflow_behind_a_finite_loss(self):
    model, expected = make_model(learning_rate=3e38), make_model()
    model.layers[0].kernel.assign(expected.layers[0].kernel * 0 + 2e38)
    x, start = X * 1e-30, model.get_weights()
    with self.assertRaisesRegex(
      callbacks.DivergenceError, "weights .* update 1 of epoch 1"
    ):
      fit(model, -x, [callbacks.TerminateOnDivergence()])
    np.testing.assert_array_equal(model.get_weights()[0], start[0])

  def test_counts_updates_of_the_epoch(self):
    class Spoil(keras.callbacks.Callback):
      def on_train_batch_begin(self, batch, logs=None):
        if self.params["epochs"] == 2 and self.epoch == 1 and batch == 2:
          self.model.layers[0].bias.assign([np.inf])

      def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    with self.assertRaisesRegex(
      callbacks.DivergenceError, "update 3 of epoch 2"
    ):
      fit(
        make_model(), X, [callbacks.TerminateOnDivergence(), Spoil()], epochs=2
      )

  def test_several_updates_in_one_call(self):
    x = X.copy()
    x[8] = np.nan  # In the fifth of six updates, done in threes.
    model, expected = make_model(steps_per_execution=3), make_model()
    with self.assertRaisesRegex(
      callbacks.DivergenceError, "updates 4-6 of epoch 1"
    ):
      fit(model, x, [callbacks.TerminateOnDivergence()])
    expected.optimizer.build(expected.trainable_variables)
    self.assert_same_variables(model, expected)

  def test_leaves_a_healthy_run_as_it_is(self):
    model, expected = make_model(), make_model()
    fit(model, X, [callbacks.TerminateOnDivergence()], epochs=2)
    fit(expected, X, epochs=2)
    self.assert_same_variables(model, expected)

  def test_says_so_when_the_weights_are_bad_from_the_start(self):
    model = make_model()
    model.layers[0].bias.assign([np.nan])
    with self.assertRaisesRegex(callbacks.DivergenceError, "before any update"):
      fit(model, X, [callbacks.TerminateOnDivergence()])


if __name__ == "__main__":
  absltest.main()
