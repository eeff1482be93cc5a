"""Questions on how a learner is run: graphs, XLA, precision, replicas."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmeta.testing.exam import subject as subjects

TOLERANCE: dict[str, Any] = {"rtol": 2e-4, "atol": 2e-5}


def _make(
  subject: subjects.Subject, compile_kwargs: Any = None, **init: Any
) -> Any:
  """A learner under SGD: Adam would blow up gradients that are round-off.

  Those of a bias before batch normalisation are zero but for that.
  """
  plain = {"optimizer": keras.optimizers.SGD(0.1), **(compile_kwargs or {})}
  return subject.make(plain, **init)


def _trained(
  subject: subjects.Subject, learner: Any = None, data: Any = None
) -> Any:
  """Weights after an epoch, and its loss."""
  learner = learner or subject.reuse("sgd")
  history = learner.fit(data or subject.dataset(), verbose=0).history
  return subjects.values(learner), history["loss"][0]


def _of_known_size(
  subject: subjects.Subject, batch: int, **kwargs: Any
) -> tf.data.Dataset:
  """Tasks in batches whose shape a graph knows in advance."""
  whole = subject.dataset(**kwargs)
  return whole.unbatch().batch(batch, drop_remainder=True)


def _assert_same(expected: Any, actual: Any) -> None:
  np.testing.assert_allclose(actual[1], expected[1], **TOLERANCE)
  for a, b in zip(expected[0], actual[0], strict=True):
    np.testing.assert_allclose(b, a, **TOLERANCE)


def check_eager_and_xla(case: Any, subject: subjects.Subject) -> None:
  """Eager execution, graphs and XLA give the same two steps.

  So does XLA with both steps in one program.
  """
  del case
  data = _of_known_size(subject, batch=2)
  expected = _trained(subject, data=data)
  looped = {"jit_compile": True, "steps_per_execution": 2}
  for options in ({"run_eagerly": True}, looped):
    learner = _make(subject, options)
    _assert_same(expected, _trained(subject, learner, data))


def check_task_maps(case: Any, subject: subjects.Subject) -> None:
  """All ways of mapping over tasks give the same step."""
  del case
  # Unrolled, each task is a graph: two of them tell as much as more.
  data = _of_known_size(subject, batch=2, tasks=2)
  first = subject.reuse("sgd")
  expected = _trained(subject, first, data)
  for method in {"map", "vectorize", "unroll"} - {first._method()}:
    learner = _make(subject, task_map=method)
    _assert_same(expected, _trained(subject, learner, data))


def check_steps_per_execution(case: Any, subject: subjects.Subject) -> None:
  """Several steps in one call give the weights of as many single steps."""
  del case
  weights = []
  two = _make(subject, {"steps_per_execution": 2})
  for learner in (subject.reuse("sgd"), two):
    learner.fit(subject.dataset(batch=2), verbose=0)
    weights.append(subjects.values(learner.model))
  for one, two in zip(*weights, strict=True):
    np.testing.assert_allclose(two, one, **TOLERANCE)


def check_one_trace(case: Any, subject: subjects.Subject) -> None:
  """Two epochs with a partial last batch trace the step once.

  So do all fits of the questions before this one, taken together.
  """
  learner = subject.reuse()
  learner.fit(subject.dataset(batch=3), epochs=2, verbose=0)
  case.assertEqual(subject.traces(), 1)


def check_precision(case: Any, subject: subjects.Subject) -> None:
  """`mixed_bfloat16` trains float32 weights; `mixed_float16` is refused."""
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
  """Two replicas give the loss, metrics and weights of one.

  The second batch has one task, so that one of them is left without.
  """
  if len(tf.config.list_logical_devices("CPU")) < 2:
    case.skipTest("needs two logical CPUs: see two_logical_cpus()")
  expected = subject.reuse("sgd")
  with _two_replicas().scope():
    actual = _make(subject)
  histories = [
    learner.fit(subject.dataset(batch=3), verbose=0).history
    for learner in (expected, actual)
  ]
  for key, value in histories[0].items():
    np.testing.assert_allclose(histories[1][key], value, **TOLERANCE)
  pairs = zip(
    subjects.values(expected.model),
    subjects.values(actual.model),
    strict=True,
  )
  for one, two in pairs:
    np.testing.assert_allclose(two, one, **TOLERANCE)


def two_logical_cpus() -> None:
  """Splits the CPU into two devices; before TensorFlow is first used."""
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
