import glob
import io
import os
import resource
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np

from tfmeta import callbacks
from tfmeta.callbacks import run_state

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def make_model(hidden=4, dtype=None, run_eagerly=True):
  """Returns an eager model, because tracing takes longer than training."""
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input((3,)),
      keras.layers.Dense(hidden, dtype=dtype),
      keras.layers.Dropout(0.5, dtype=dtype),
      keras.layers.Dense(1, dtype=dtype),
    ]
  )
  model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=run_eagerly)
  return model


def fit(model, checkpoint, epochs, more=()):
  model.fit(
    X,
    Y,
    batch_size=4,
    shuffle=False,
    epochs=epochs,
    initial_epoch=checkpoint.epoch,
    callbacks=[*more, checkpoint],
    verbose=0,
  )


class SetLog(keras.callbacks.Callback):
  """Callback that sets the monitored value of each epoch."""

  def __init__(self, values):
    super().__init__()
    self.values = values

  def on_epoch_end(self, epoch, logs=None):
    logs["score"] = self.values[epoch]


class CheckpointTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = os.path.join(folder, "run")

  def names(self):
    return sorted(os.listdir(self.folder))

  def run_for(self, epochs, **kwargs):
    model, checkpoint = make_model(**kwargs), callbacks.Checkpoint(self.folder)
    checkpoint.restore(model)
    fit(model, checkpoint, epochs)
    return model, checkpoint

  def assert_same_weights(self, model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    for value, expected in pairs:
      np.testing.assert_array_equal(value, expected)

  @parameterized.parameters(True, False)
  def test_resumed_run_equals_one_never_stopped(self, run_eagerly):
    self.run_for(2, run_eagerly=run_eagerly)
    resumed, checkpoint = self.run_for(5, run_eagerly=run_eagerly)
    self.folder += "_whole"
    whole, expected = self.run_for(5, run_eagerly=run_eagerly)
    self.assert_same_weights(resumed, whole)
    self.assertEqual(checkpoint.history["loss"], expected.history["loss"])
    self.assertLen(checkpoint.history["seconds"], 5)

  def test_a_new_run_starts_at_epoch_zero_and_is_left_as_it_is(self):
    model = make_model()
    checkpoint = callbacks.Checkpoint(self.folder)
    self.assertEqual(checkpoint.restore(model), 0)
    self.assert_same_weights(model, make_model())

  def test_keeps_the_last_two(self):
    self.run_for(4)
    kept = [name for name in self.names() if name.endswith(".npz")]
    self.assertEqual(kept, ["epoch-00003.npz", "epoch-00004.npz"])

  @parameterized.parameters("truncated", "one_bit", "missing")
  def test_a_damaged_checkpoint_gives_way_to_the_one_before(self, damage):
    self.run_for(3)
    path = os.path.join(self.folder, "epoch-00003.npz")
    with open(path, "rb") as file:
      data = bytearray(file.read())
    data[-100] ^= 1
    os.remove(path)
    if damage != "missing":
      with open(path, "wb") as file:
        file.write(data if damage == "one_bit" else data[:-200])
    checkpoint = callbacks.Checkpoint(self.folder)
    with self.assertLogs("absl", "WARNING") as logs:
      self.assertEqual(checkpoint.restore(make_model()), 2)
    self.assertIn("epoch-00003.npz is damaged", logs.output[0])
    resumed, _ = self.run_for(4)
    self.folder += "_whole"
    self.assert_same_weights(resumed, self.run_for(4)[0])

  @parameterized.parameters(
    "null",
    "{}",
    '{"epoch": "3", "history": {}}',
    '{"epoch": 3, "history": []}',
    '{"epoch": 3, "history": {"loss": 1.0}}',
    '{"epoch": 3, "history": {"loss": ["low"]}}',
    "[" * 100_000,
    None,
    b"",
    b"PK\x05\x06" + bytes(18),  # An archive without files.
    b"\x93NUMPY\x01\x00",
  )
  def test_what_is_no_checkpoint_is_damaged_whatever_its_mark_says(self, note):
    model, _ = self.run_for(3)
    if note is None:
      data = io.BytesIO()
      np.savez(data, note=np.array([None]))
      data = data.getvalue()
    else:
      data = note if isinstance(note, bytes) else run_state.pack(model, note)
    run_state.write(os.path.join(self.folder, "epoch-00003.npz"), data)
    with self.assertLogs("absl", "WARNING"):
      epoch = callbacks.Checkpoint(self.folder).restore(make_model())
    self.assertEqual(epoch, 2)

  def test_values_of_another_type_are_refused(self):
    self.run_for(1)
    path = os.path.join(self.folder, "epoch-00001.npz")
    with np.load(path) as arrays:
      values = {k: arrays[k] for k in arrays}
    data = io.BytesIO()
    np.savez(data, **{**values, "variable_0": np.full([3, 4], "text")})
    run_state.write(path, data.getvalue())
    with self.assertRaisesRegex(
      callbacks.CheckpointError, r"must be float32\[3, 4\].*Received: <U4"
    ):
      callbacks.Checkpoint(self.folder).restore(make_model())

  def test_refuses_to_start_anew_when_no_checkpoint_is_whole(self):
    self.run_for(2)
    for path in glob.glob(os.path.join(self.folder, "*.npz")):
      with open(path, "wb"):
        pass
    with self.assertRaisesRegex(callbacks.CheckpointError, "None of the 2"):
      callbacks.Checkpoint(self.folder).restore(make_model())

  def test_what_a_kill_left_half_written_does_not_count(self):
    self.run_for(2)
    os.remove(os.path.join(self.folder, "epoch-00002.npz.sha256"))
    with open(os.path.join(self.folder, "unfinished_epoch-00003.npz"), "wb"):
      pass
    with self.assertNoLogs("absl", "WARNING"):
      epoch = callbacks.Checkpoint(self.folder).restore(make_model())
    self.assertEqual(epoch, 1)

  def test_restoring_writes_and_removes_nothing(self):
    # The folder may belong to a run that is just writing such a file.
    self.run_for(2)
    with open(os.path.join(self.folder, "unfinished_epoch-00003.npz"), "wb"):
      pass
    before = self.names()
    callbacks.Checkpoint(self.folder).restore(make_model())
    self.assertEqual(self.names(), before)
    self.run_for(3)
    self.assertNotIn("unfinished_epoch-00003.npz", self.names())

  def test_a_kill_between_two_removals_leaves_no_half_for_long(self):
    self.run_for(3)
    os.remove(os.path.join(self.folder, "epoch-00002.npz.sha256"))
    self.run_for(4)
    self.run_for(5)
    kept = [name for name in self.names() if name.endswith(".npz")]
    self.assertEqual(kept, ["epoch-00004.npz", "epoch-00005.npz"])

  @parameterized.parameters("lr[0.1]", "a*", "what?", "[!x]", "~", "{a,b}")
  def test_the_folder_may_have_any_name(self, name):
    # In a pattern, these names would match the folder of another run.
    other = os.path.join(os.path.dirname(self.folder), "lr0")
    self.folder, here = other, os.path.join(os.path.dirname(other), name)
    self.run_for(1)
    self.folder = here
    self.run_for(1)
    _, checkpoint = self.run_for(4)
    self.assertLen(checkpoint.history["loss"], 4)
    kept = [name for name in self.names() if name.endswith(".npz")]
    self.assertEqual(kept, ["epoch-00003.npz", "epoch-00004.npz"])
    self.assertIn("epoch-00001.npz", os.listdir(other))

  def test_epochs_are_in_the_order_of_their_numbers(self):
    # As text, epoch 100,000 would come before epoch 99,999.
    model, checkpoint = make_model(), callbacks.Checkpoint(self.folder)
    checkpoint.epoch = 99_998
    fit(model, checkpoint, 100_001)
    kept = [name for name in self.names() if name.endswith(".npz")]
    self.assertEqual(kept, ["epoch-100000.npz", "epoch-100001.npz"])
    again = callbacks.Checkpoint(self.folder)
    self.assertEqual(again.restore(make_model()), 100_001)

  def test_the_best_weights_serve_when_the_last_two_are_damaged(self):
    scores = [1.0, 3.0, 2.0, 0.0, 0.0]
    checkpoint = callbacks.Checkpoint(self.folder, monitor="score")
    fit(make_model(), checkpoint, 5, [SetLog(scores)])
    for epoch in (4, 5):
      with open(os.path.join(self.folder, f"epoch-0000{epoch}.npz"), "wb"):
        pass
    again = callbacks.Checkpoint(self.folder, monitor="score")
    resumed = make_model()
    with self.assertLogs("absl", "WARNING"):
      self.assertEqual(again.restore(resumed), 2)
    fit(resumed, again, 5, [SetLog(scores)])
    self.folder += "_whole"
    self.assert_same_weights(resumed, self.run_for(5)[0])

  def test_a_full_disk_leaves_the_checkpoints_before(self):
    model, checkpoint = self.run_for(2)
    before = self.names()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
      with self.assertRaisesRegex(
        callbacks.CheckpointError, "epoch 3 could not be saved .* too large"
      ):
        fit(model, checkpoint, 3)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    self.assertEqual(self.names(), before)
    self.assertEqual(callbacks.Checkpoint(self.folder).restore(make_model()), 2)

  @parameterized.named_parameters(
    ("max", "max", [1.0, 3.0, 3.0, 2.0], 2),
    ("min", "min", [2.0, 1.0, 1.0, 3.0], 2),
    ("not_a_number", "max", [np.nan, 1.0, np.nan, 1.0], 2),
    ("last", "max", [1.0, 2.0, 3.0, 4.0], 4),
  )
  def test_keeps_the_best_weights_over_a_resume(self, mode, scores, best):
    for epochs in (3, 4):
      checkpoint = callbacks.Checkpoint(self.folder, monitor="score", mode=mode)
      model = make_model()
      checkpoint.restore(model)
      fit(model, checkpoint, epochs, [SetLog(scores)])
    self.assertEqual(checkpoint.best_epochs, [best])
    self.assertTrue(checkpoint.load_best(model))
    self.folder += "_whole"
    self.assert_same_weights(model, self.run_for(best)[0])
    self.assertLen([n for n in self.names() if n.startswith("best")], 0)

  def test_keeps_several_of_the_best_weights_in_their_order(self):
    scores = [1.0, 4.0, np.nan, 2.0, 3.0, 0.0]
    for epochs in (4, 6):
      checkpoint = callbacks.Checkpoint(self.folder, monitor="score", keep=2)
      model = make_model()
      checkpoint.restore(model)
      fit(model, checkpoint, epochs, [SetLog(scores)])
    self.assertEqual(checkpoint.best_epochs, [2, 5])
    kept = [n for n in self.names() if n.startswith("best") and "sha" not in n]
    self.assertEqual(kept, ["best-00002.npz", "best-00005.npz"])
    self.assertFalse(checkpoint.load_best(model, rank=2))
    self.assertTrue(checkpoint.load_best(model, rank=1))
    self.folder += "_whole"
    self.assert_same_weights(model, self.run_for(5)[0])

  def test_damaged_best_weights_leave_those_of_the_model(self):
    checkpoint = callbacks.Checkpoint(self.folder, monitor="loss", mode="min")
    model = make_model()
    fit(model, checkpoint, 2)
    for path in glob.glob(os.path.join(self.folder, "best-*.npz")):
      os.remove(path)
    weights = model.get_weights()
    with self.assertLogs("absl", "WARNING"):
      self.assertFalse(checkpoint.load_best(model))
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])

  def test_bfloat16_variables_come_back(self):
    model = make_model(dtype="bfloat16")
    fit(model, callbacks.Checkpoint(self.folder), 1)
    restored = make_model(dtype="bfloat16")
    callbacks.Checkpoint(self.folder).restore(restored)
    self.assert_same_weights(restored, model)

  def test_another_model_is_refused(self):
    self.run_for(1)
    with self.assertRaisesRegex(
      callbacks.CheckpointError, "belongs to another model"
    ):
      callbacks.Checkpoint(self.folder).restore(make_model(hidden=5))

  def test_fit_must_go_on_where_the_checkpoint_is(self):
    model, checkpoint = self.run_for(2)
    with self.assertRaisesRegex(ValueError, "initial_epoch=2.*Received"):
      model.fit(X, Y, callbacks=[checkpoint], verbose=0)

  def test_a_forgotten_restore_does_not_overwrite_a_run(self):
    self.run_for(2)
    with self.assertRaisesRegex(ValueError, "restore"):
      fit(make_model(), callbacks.Checkpoint(self.folder), 1)

  def test_bad_arguments_are_named(self):
    with self.assertRaisesRegex(ValueError, "Received: mode='best'"):
      callbacks.Checkpoint(self.folder, mode="best")
    with self.assertRaisesRegex(ValueError, "Received: keep=0"):
      callbacks.Checkpoint(self.folder, keep=0)
    checkpoint = callbacks.Checkpoint(self.folder, monitor="val_loss")
    with self.assertRaisesRegex(ValueError, "Received: monitor='val_loss'"):
      fit(make_model(), checkpoint, 1)


if __name__ == "__main__":
  absltest.main()
