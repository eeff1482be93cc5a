"""Trains, saves and exports a learner on arrays: the program of a user.

  python tests/repository/train_on_arrays.py FOLDER [MODULE ...]

The modules that are named cannot be imported, as if they were not installed.
"""

import importlib.abc
import sys


class Refuse(importlib.abc.MetaPathFinder):
  """A finder that refuses to find some modules, wherever they are installed."""

  def __init__(self, modules):
    self.modules = modules

  def find_spec(self, fullname, path=None, target=None):
    if fullname.partition(".")[0] in self.modules:
      raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def train_maml(folder):
  """Trains on arrays, saves and exports a learner; returns one prediction."""
  x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
  y = np.repeat(np.arange(6), 10)
  spec = tfmeta.TaskSpec(ways=3, shots=1, query_shots=2)
  tasks = tfmeta.data.tasks_from_arrays(x, y, spec, seed=0)
  model = tfmeta.models.mlp((4,), outputs=3)
  learner = tfmeta.MAML(model, inner_learning_rate=0.1)
  learner.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
  learner.fit(tasks.batch(2), steps_per_epoch=2, verbose=0)
  learner.save(f"{folder}/learner.keras")
  learner.export(f"{folder}/saved_model", verbose=False)
  inputs, _ = next(iter(tasks.batch(1)))
  restored = keras.models.load_model(f"{folder}/learner.keras")
  expected = learner(inputs)
  np.testing.assert_array_equal(restored(inputs), expected)
  served = tf.saved_model.load(f"{folder}/saved_model")
  outputs = served.signatures["serving_default"](**inputs)
  np.testing.assert_allclose(outputs["outputs"], expected, rtol=1e-4, atol=1e-5)


def train_bmaml():
  """Trains on functions, and asks for a distribution."""
  spec = tfmeta.TaskSpec(shots=3, query_shots=3)
  tasks = tfmeta.data.sinusoid("train", spec, seed=0)
  model = tfmeta.models.mlp((1,), outputs=1)
  learner = tfmeta.BMAML(
    model, inner_loss="mse", inner_learning_rate=0.01, num_particles=2
  )
  learner.compile(keras.optimizers.Adam(1e-3))
  learner.fit(tasks.batch(2), steps_per_epoch=1, verbose=0)
  inputs, _ = next(iter(tasks))
  particles = learner.adapt(inputs["support_x"], inputs["support_y"])
  learner.predict_distribution(particles, inputs["query_x"])


if __name__ == "__main__":
  sys.meta_path.insert(0, Refuse(sys.argv[2:]))

  import keras
  import numpy as np
  import tensorflow as tf

  import tfmeta

  train_maml(sys.argv[1])
  print("MAML: trained, saved and exported.")
  try:
    train_bmaml()
    print("BMAML: trained.")
  except ImportError as error:
    print(f"BMAML: {error}")
