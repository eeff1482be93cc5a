"""Trains learners once, with the default threads, and prints their digests.

`tests.endurance` starts this program several times and compares the digests.
"""

import hashlib
import json

from absl import app
import keras
import numpy as np

import tfmeta

UPDATES, TASKS, WAYS = 4, 4, 5
LEARNERS = {
  "MAML": {"inner_steps": 2, "inner_learning_rate": 0.1},
  "MAMLPlusPlus": {
    "inner_steps": 2,
    "multi_step_epochs": 1,
    "steps_per_epoch": 2,
  },
  "PLATIPUS": {"inner_learning_rate": 0.1},
  "BMAML": {"inner_learning_rate": 0.01, "num_particles": 3},
}


def train(name: str) -> str:
  """Trains a learner on images; returns the SHA-256 of all its weights."""
  keras.utils.set_random_seed(0)
  random = np.random.default_rng(0)
  images = random.random([20 * 6, 28, 28, 1], np.float32)
  spec = tfmeta.TaskSpec(ways=WAYS, shots=1, query_shots=3)
  tasks = tfmeta.data.tasks_from_arrays(
    images, np.repeat(np.arange(20), 6), spec
  )
  model = tfmeta.models.conv4((28, 28, 1), ways=WAYS, filters=8)
  learner = getattr(tfmeta, name)(model, **LEARNERS[name])
  learner.compile(keras.optimizers.Adam(0.01))
  learner.fit(tasks.batch(TASKS), steps_per_epoch=UPDATES, verbose=0)
  weights = b"".join(np.asarray(w).tobytes() for w in learner.get_weights())
  return hashlib.sha256(weights).hexdigest()


def main(_) -> None:
  for name in LEARNERS:
    print(json.dumps({"learner": name, "sha256": train(name)}), flush=True)


if __name__ == "__main__":
  app.run(main)
