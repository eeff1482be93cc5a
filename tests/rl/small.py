"""Small learners that act, for fast tests."""

import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.algorithms.context import Context
from tfmeta.rl import outer
from tfmeta.rl.objective import Objective


def environment(horizon=6, **options):
  """Returns a random decision process whose tables differ by task."""
  return tfmeta.environments.DecisionProcess(
    3, 2, horizon=horizon, **{"dtype": "float64", **options}
  )


def policy(dtype="float64"):
  """Returns a policy with one hidden layer for `environment`."""
  return tfmeta.models.categorical_policy(
    (3,), choices=2, hidden=(5,), dtype=dtype
  )


def learner(cls=None, *, env=None, **options):
  """Returns a learner of `cls`, by default MAML, with 4 episodes per step."""
  env = environment() if env is None else env
  dtype = getattr(env, "dtype", "float32")
  keras.utils.set_random_seed(1)
  made = (cls or tfmeta.rl.MAML)(
    policy(dtype),
    env,
    # Eager calls vectorize anew each time, which takes seconds.
    **{
      "episodes": 4,
      "inner_learning_rate": 0.5,
      "task_map": "map",
      **options,
    },
  )
  # Zero biases would hide mistakes in their order.
  rng = np.random.default_rng(0)
  for variable in made.trainable_variables:
    if variable.shape and variable.shape[-1] > 1:
      noise = 0.3 * rng.normal(size=variable.shape)
      variable.assign_add(tf.cast(noise, variable.dtype))
  return made


def tasks(env, count=3, *, seed=0, start=0):
  """Returns a batch of training tasks."""
  return next(iter(env.tasks("train", seed=seed, start=start).batch(count)))


def collected(made, batch, *, steps=None, step=0):
  """Returns what the learner acted on a batch of tasks, in a training step."""
  context = Context(training=True, step=step)
  return tf.function(
    lambda: outer.collect(made, batch, context, steps), autograph=False
  )()


def objective(cls=None, **options):
  """Returns the outer objective of one batch of tasks, and its learner."""
  made = learner(cls, **options)
  made.compile(tfmeta.rl.TrustRegion(0.01))
  found = collected(made, tasks(made.environment))
  *support, query = found.examples
  return Objective(made, support, query), made


def slices(structure, index):
  """Returns the part of one task."""
  return tf.nest.map_structure(lambda t: t[index], structure)


def navigation_learner(cls=tfmeta.rl.MAML, *, activation="tanh", **options):
  """Returns a learner on `Navigation`, with 4 episodes of 5 steps."""
  keras.utils.set_random_seed(0)
  env = tfmeta.environments.Navigation(horizon=5)
  policy = tfmeta.models.gaussian_policy(
    (2,), actions=2, hidden=(6,), activation=activation
  )
  # Tracing a vectorized step takes twice as long.
  kwargs = {"episodes": 4, "task_map": "map", **options}
  return cls(policy, env, **kwargs)


def validation(learner, batches=2):
  """Returns batches of three validation tasks."""
  return learner.environment.tasks("validation", seed=1).batch(3).take(batches)
