"""Four learners on the sinusoids of the BMAML paper (Yoon et al., 2018).

Amplitude, phase and frequency of a function vary. The number of training tasks
is limited, and each has 5 or 10 points.
"""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

import tfmeta

PARTICLES = 5
META_BATCH = 10

# Arguments of `tfmeta.data.sinusoid` that follow the paper.
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
  "PLATIPUS": (
    tfmeta.PLATIPUS,
    {
      "num_samples": PARTICLES,
      "inner_loss_reduction": "mean",
      "initial_prior_rate": 0.01,
      "initial_posterior_rate": 0.01,
    },
  ),
}

# Inner learning rates that `benchmarks.particles --rates` found best. BMAML's
# is smaller because its inner objective, the log-posterior, is a sum over
# points, where the others minimize a mean.
RATES = {
  "MAML": 0.03,
  "EMAML": 0.03,
  "BMAML": 3e-4,
  "PLATIPUS": 0.01,
}


def make_tasks(
  split: str, shots: int, *, seed: int = 0, **options
) -> tf.data.Dataset:
  """Returns an infinite data set of tasks.

  Args:
    split: `"train"`, `"validation"` or `"test"`.
    shots: Support points of a task. Training tasks have as many query points;
      the other tasks have 50.
    seed: Seed of the tasks.
    **options: Further arguments of `tfmeta.data.sinusoid`.
  """
  queries = shots if split == "train" else 50
  spec = tfmeta.TaskSpec(shots=shots, query_shots=queries)
  return tfmeta.data.sinusoid(split, spec, seed=seed, **PROTOCOL, **options)


def held_out_tasks(split: str, shots: int, count: int) -> dict[str, np.ndarray]:
  """Returns the arrays of `count` tasks whose query targets have no noise.

  Args:
    split: `"validation"` or `"test"`.
    shots: Support points of a task.
    count: Number of tasks.
  """
  tasks = make_tasks(split, shots, noisy_query=False)
  inputs, query_y = next(iter(tasks.batch(count)))
  return {
    **{key: value.numpy() for key, value in inputs.items()},
    "query_y": query_y.numpy(),
  }


# The cache holds one data set, because all learners train on the same tasks
# before the next tasks are sampled.
@functools.lru_cache(maxsize=1)
def _training_tasks(
  tasks: int, shots: int, seed: int, count: int
) -> tf.data.Dataset:
  """Returns `count` tasks in batches, sampled from `tasks` different ones."""
  sampled = make_tasks("train", shots, seed=seed, num_tasks=tasks).take(count)
  whole = next(iter(sampled.batch(count)))
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
  """Returns a trained learner.

  Args:
    name: A key of `LEARNERS`.
    tasks: Number of different training tasks.
    shots: Support points of a task.
    seed: Seed of the initial weights and of the order of tasks.
    updates: Number of outer updates.
    rate: Inner learning rate. Defaults to the learner's entry in `RATES`.
  """
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
