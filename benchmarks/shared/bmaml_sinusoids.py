"""MAML, EMAML, BMAML and PLATIPUS on the sinusoids of the BMAML paper."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

import tfmeta

PARTICLES = 5
META_BATCH = 10
PROTOCOL = {
  "phase": (0.0, 2 * math.pi),
  "frequency": (0.5, 2.0),
  "noise_stddev": 0.01,
  "relative_noise": True,
}
LEARNERS = {
  "MAML": (tfmeta.MAML, {}),
  "EMAML": (tfmeta.EMAML, {"num_particles": PARTICLES}),
  "BMAML": (tfmeta.BMAML, {"num_particles": PARTICLES}),
  "PLATIPUS": (tfmeta.PLATIPUS, {"num_samples": PARTICLES}),
}
# Of the inner loop: of the mean squared error, and for BMAML of the
# log-posterior, a sum. Those that `benchmarks.particles --rates` found best.
RATES = {
  "MAML": 0.03,
  "EMAML": 0.03,
  "BMAML": 3e-4,
  "PLATIPUS": 0.01,
}


def data(
  split: str, shots: int, *, seed: int = 0, **options
) -> tf.data.Dataset:
  """Tasks of the protocol, without end."""
  queries = shots if split == "train" else 50
  spec = tfmeta.TaskSpec(shots=shots, query_shots=queries)
  return tfmeta.data.sinusoid(split, spec, seed=seed, **PROTOCOL, **options)


def held_out(split: str, shots: int, count: int) -> dict[str, np.ndarray]:
  """Tasks to choose by or to test on, with targets that have no noise."""
  tasks = data(split, shots, noisy_query=False)
  inputs, query_y = next(iter(tasks.batch(count)))
  return {
    **{key: value.numpy() for key, value in inputs.items()},
    "query_y": query_y.numpy(),
  }


@functools.lru_cache(maxsize=1)
def _training_tasks(
  tasks: int, shots: int, seed: int, count: int
) -> tf.data.Dataset:
  """The first `count` tasks, drawn once for all learners."""
  drawn = data("train", shots, seed=seed, num_tasks=tasks).take(count)
  whole = next(iter(drawn.batch(count)))
  return tf.data.Dataset.from_tensor_slices(whole).batch(META_BATCH)


def train(
  name: str,
  tasks: int,
  shots: int,
  *,
  seed: int,
  updates: int,
  rate: float | None = None,
) -> tfmeta.MetaLearner:
  """A learner after all its updates."""
  learner_class, options = LEARNERS[name]
  keras.utils.set_random_seed(seed)
  model = tfmeta.models.mlp((1,), outputs=1, hidden=(40, 40, 40))
  learner = learner_class(
    model,
    inner_loss="mse",
    inner_learning_rate=rate or RATES[name],
    seed=seed,
    **options,
  )
  schedule = keras.optimizers.schedules.ExponentialDecay(
    1e-3, max(updates // 100, 1), 0.98, staircase=True
  )
  learner.compile(keras.optimizers.Adam(schedule), steps_per_execution=100)
  learner.fit(
    _training_tasks(tasks, shots, seed, updates * META_BATCH),
    verbose=0,
  )
  return learner
