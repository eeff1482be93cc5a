"""Tests threads that share one learner, as in a server with a thread pool."""

from concurrent import futures
import sys

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta

THREADS, CALLS, WAYS, FEATURES = 16, 50, 2, 3
# Probabilistic learners take many times longer for a call.
FEWER_CALLS = 10
# Seconds after which a thread must let another one run. With the usual 5 ms,
# most calls would end undisturbed.
SWITCH_INTERVAL = 1e-5

LEARNERS = {
  "maml": (tfmeta.MAML, {}),
  "fomaml": (tfmeta.FOMAML, {}),
  "anil": (tfmeta.ANIL, {}),
  "meta_sgd": (tfmeta.MetaSGD, {}),
  "reptile": (tfmeta.Reptile, {"support_batch_size": 2}),
  "maml_plus_plus": (tfmeta.MAMLPlusPlus, {"inner_steps": 1}),
  "platipus": (tfmeta.PLATIPUS, {"num_samples": 2}),
  "emaml": (tfmeta.EMAML, {"num_particles": 2}),
  "bmaml": (tfmeta.BMAML, {"num_particles": 2}),
  "leo": (
    tfmeta.LEO,
    {"num_latents": 2, "inner_steps": 1, "finetuning_steps": 1},
  ),
}


def mlp(*hidden):
  layers = [keras.Input((FEATURES,)), *hidden, keras.layers.Dense(WAYS)]
  return keras.Sequential(layers)


def make(name):
  keras.utils.set_random_seed(0)
  learner_class, options = LEARNERS[name]
  model = (
    tfmeta.models.embedding_head(FEATURES, ways=WAYS)
    if name == "leo"
    else mlp()
  )
  # Training differs from evaluation, so that a mode that leaks shows.
  steps = {"inner_steps": 1, "eval_inner_steps": 1}
  if name not in ("leo", "maml_plus_plus"):
    steps = {"inner_steps": 2, "eval_inner_steps": 1}
  return learner_class(model, **{**steps, **options})


def task(seed):
  random = np.random.default_rng(seed)
  x = random.normal(size=(6, FEATURES)).astype("float32")
  y = np.arange(4, dtype="int32") % WAYS
  return tf.constant(x[:4]), tf.constant(y), tf.constant(x[4:])


def answer(learner, support_x, support_y, query_x):
  """Returns all outputs that a server would need for one task, as arrays."""
  weights = learner.adapt(support_x, support_y)
  found = [*tf.nest.flatten(weights), learner.predict_with(weights, query_x)]
  if learner.probabilistic:
    found.append(learner.predict_samples(weights, query_x))
  return [np.array(t) for t in found]


class ThreadsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(SWITCH_INTERVAL)

  def check(self, learner, calls=CALLS):
    """Compares the results of 16 threads, call by call, with serial results."""
    tasks = [task(seed) for seed in range(THREADS)]
    expected = [answer(learner, *one) for one in tasks]

    def serve(place):
      wrong = 0
      for _ in range(calls):
        found = answer(learner, *tasks[place])
        wrong += not all(map(np.array_equal, found, expected[place]))
      return wrong

    with futures.ThreadPoolExecutor(THREADS) as pool:
      self.assertEqual(list(pool.map(serve, range(THREADS))), [0] * THREADS)

  @parameterized.parameters(*LEARNERS)
  def test_threads_that_adapt_at_once_do_not_disturb_each_other(self, name):
    learner = make(name)
    self.check(learner, FEWER_CALLS if learner.probabilistic else CALLS)

  def test_a_training_step_does_not_disturb_a_prediction(self):
    learner = make("platipus")
    expected = answer(learner, *task(0))
    x, y, query_x = task(1)

    def train(_):
      for _ in range(CALLS):
        learner.task_loss(x, y, query_x, y[:2])

    with futures.ThreadPoolExecutor(2) as pool:
      training = pool.submit(train, None)
      while not training.done():
        found = answer(learner, *task(0))
        self.assertTrue(all(map(np.array_equal, found, expected)))
      training.result()

  def test_layers_of_the_model_are_left_alone(self):
    keras.utils.set_random_seed(0)
    model = mlp(tfmeta.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    # A call with layers takes ten times as long as one without.
    learner = tfmeta.MAML(model, normalization="support_stats")
    self.check(learner, FEWER_CALLS)


if __name__ == "__main__":
  absltest.main()
