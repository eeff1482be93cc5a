"""Questions on how a learner is run: graphs, XLA, precision, replicas.

Each question runs a step in another way and compares the weights and the loss
with a reference. The reference comes from eager execution, which needs no
graph, or from one graph that is traced once.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta.core import task_map
from tfmeta.testing.exam import subject as subjects

TOLERANCE: dict[str, Any] = {"rtol": 2e-4, "atol": 2e-5}


def _make(
  subject: subjects.Subject, compile_kwargs: Any = None, **init: Any
) -> Any:
  """Makes a learner that is trained by plain gradient descent.

  The gradient of a bias before batch normalization is round-off only. Adam
  scales it up to whole steps, in which no two ways to run a step agree.
  """
  plain = {"optimizer": keras.optimizers.SGD(0.1), **(compile_kwargs or {})}
  return subject.make(plain, **init)


def _pairs(subject: subjects.Subject, *, batches: int = 2) -> tf.data.Dataset:
  """Returns batches of two tasks, whose shape a graph knows in advance."""
  return subject.dataset(2, drop_remainder=True, tasks=2 * batches)


def _trained(learner: Any, data: tf.data.Dataset) -> tuple[Any, Any]:
  """Trains for an epoch; returns the variables and the metrics after it.

  The variables of metrics are left out: each replica counts its own tasks.
  """
  history = learner.fit(data, verbose=0).history
  counted = {id(v) for m in learner.metrics for v in m.variables}
  kept = [np.array(v) for v in learner.variables if id(v) not in counted]
  return kept, history


def _in_single_steps(subject: subjects.Subject) -> tuple[Any, Any]:
  """Returns the weights and metrics after two single steps of a graph."""
  return subject.once(
    "single steps", lambda: _trained(subject.reuse("sgd"), _pairs(subject))
  )


def _in_one_call(subject: subjects.Subject) -> tuple[Any, Any]:
  """Returns the weights and metrics after two steps in one call of a graph.

  The graph maps over tasks in the way that `"auto"` does not choose, so that
  one trace tells whether either of the two changes the steps.
  """
  model = subject.reuse("sgd").model
  (other,) = {"map", "vectorize"} - {task_map.choose_method(model)}

  def train() -> tuple[Any, Any]:
    learner = _make(subject, {"steps_per_execution": 2}, task_map=other)
    return _trained(learner, _pairs(subject))

  return subject.once("one call", train)


def _assert_same(expected: tuple[Any, Any], actual: tuple[Any, Any]) -> None:
  for key, value in expected[1].items():
    np.testing.assert_allclose(actual[1][key], value, **TOLERANCE)
  for a, b in zip(expected[0], actual[0], strict=True):
    np.testing.assert_allclose(b, a, **TOLERANCE)


def check_eager_and_xla(case: Any, subject: subjects.Subject) -> None:
  """Checks that eager execution, graphs and XLA give the same two steps.

  Eagerly, the tasks run one after the other, because `tf.vectorized_map` traces
  a graph there too. XLA runs both steps in one program.
  """
  del case
  expected = _in_single_steps(subject)
  eager = _make(subject, {"run_eagerly": True}, task_map="unroll")
  looped = _make(subject, {"jit_compile": True, "steps_per_execution": 2})
  for learner in (eager, looped):
    _assert_same(expected, _trained(learner, _pairs(subject)))


def check_task_maps(case: Any, subject: subjects.Subject) -> None:
  """Checks that all ways of mapping over tasks give the same step."""
  del case
  _assert_same(_in_single_steps(subject), _in_one_call(subject))
  # An unrolled step has a graph for each task, so more tasks take longer.
  data = _pairs(subject, batches=1)
  expected = _trained(subject.reuse("sgd"), data)
  learner = _make(subject, task_map="unroll")
  _assert_same(expected, _trained(learner, data))


def check_steps_per_execution(case: Any, subject: subjects.Subject) -> None:
  """Checks that several steps in one call equal as many single steps."""
  del case
  expected, _ = _in_single_steps(subject)
  actual, _ = _in_one_call(subject)
  for one, two in zip(expected, actual, strict=True):
    np.testing.assert_allclose(two, one, **TOLERANCE)


def check_one_trace(case: Any, subject: subjects.Subject) -> None:
  """Checks that two epochs with a partial last batch trace the step once.

  The fits of earlier questions use the same learner, and this trace serves them
  too.
  """
  learner = subject.reuse()
  learner.fit(subject.dataset(batch=3), epochs=2, verbose=0)
  case.assertEqual(subject.traces(), 1)


def check_precision(case: Any, subject: subjects.Subject) -> None:
  """Checks that bfloat16 trains float32 weights and that float16 is refused."""
  policy = keras.config.dtype_policy()
  try:
    keras.config.set_dtype_policy("mixed_bfloat16")
    learner = subject.make()
    history = learner.fit(subject.dataset(), verbose=0).history
    case.assertTrue(np.isfinite(history["loss"][0]))
    inputs, _ = subject.tasks()
    weights = learner.adapt(
      tf.constant(inputs["support_x"][0]), tf.constant(inputs["support_y"][0])
    )
    case.assertEqual({w.dtype for w in tf.nest.flatten(weights)}, {tf.float32})
    keras.config.set_dtype_policy("mixed_float16")
    with case.assertRaisesRegex(ValueError, "mixed_bfloat16.*Received"):
      subject.make()
  finally:
    keras.config.set_dtype_policy(policy)


def _two_replicas() -> tf.distribute.Strategy:
  devices = tf.config.list_logical_devices("CPU")
  # Collectives of several strategies in one process would share their keys.
  return tf.distribute.MirroredStrategy(
    [device.name for device in devices[:2]],
    cross_device_ops=tf.distribute.ReductionToOneDevice(),
  )


def check_replicas(case: Any, subject: subjects.Subject) -> None:
  """Checks that two replicas give the loss, metrics and weights of one.

  The second batch has one task, so that one of the replicas gets none.
  """
  if len(tf.config.list_logical_devices("CPU")) < 2:
    case.skipTest("needs two logical CPUs: see two_logical_cpus()")
  data = subject.dataset(batch=3)
  # One replica runs eagerly and task by task, which needs no trace.
  # check_eager_and_xla and check_task_maps verify that the steps are the same.
  one = _make(subject, {"run_eagerly": True}, task_map="unroll")
  expected = _trained(one, data)
  with _two_replicas().scope():
    learner = _make(subject)
  _assert_same(expected, _trained(learner, data))


def two_logical_cpus() -> None:
  """Splits the CPU into two devices.

  Call it before TensorFlow is first used.
  """
  cpu = tf.config.list_physical_devices("CPU")[0]
  configuration = tf.config.LogicalDeviceConfiguration()
  tf.config.set_logical_device_configuration(cpu, [configuration] * 2)


CHECKS = (
  check_eager_and_xla,
  check_task_maps,
  check_steps_per_execution,
  check_one_trace,
  check_precision,
  check_replicas,
)
