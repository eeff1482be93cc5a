"""How devices and machines share the work of a run."""

import json
import os

import tensorflow as tf

from trainers.run import rendezvous


def make(settings) -> tf.distribute.Strategy:
  """The strategy of a run; before TensorFlow computes anything.

  Raises:
    ValueError: If the machine, or `TF_CONFIG`, is not made for it.
  """
  match settings.strategy:
    case "mirrored":
      strategy = tf.distribute.MirroredStrategy()
    case "multi_worker":
      strategy = _multi_worker(settings.startup_seconds)
    case "tpu":
      strategy = _tpu(settings.tpu)
    case "parameter_server":
      raise ValueError(
        "Keras 3 can not train under a ParameterServerStrategy: its `fit` "
        "hands out the data itself, and that strategy takes them from a "
        "ClusterCoordinator. Use --strategy=multi_worker. Received: "
        "--strategy=parameter_server"
      )
    case _:
      return tf.distribute.get_strategy()
  replicas = strategy.num_replicas_in_sync
  if settings.meta_batch_size % replicas:
    raise ValueError(
      f"`meta_batch_size` must be a multiple of the {replicas} replicas. "
      f"Received: meta_batch_size={settings.meta_batch_size}"
    )
  return strategy


def is_chief(settings) -> bool:
  """Whether this process writes the results of the run."""
  if settings.strategy != "multi_worker":
    return True
  found = _configuration()
  first = "chief" if "chief" in found["cluster"] else "worker"
  task = found["task"]
  return task.get("type") == first and int(task.get("index", -1)) == 0


def check_agreement(strategy: tf.distribute.Strategy, done: int) -> None:
  """Checks that all workers go on after the same epoch.

  Args:
    strategy: That of the run.
    done: Finished epochs, as this worker has found them.

  Raises:
    ValueError: If another worker has found other ones.
  """

  @tf.function
  def summed() -> tf.Tensor:
    own = tf.constant([done, done * done], tf.float32)
    return strategy.reduce("SUM", strategy.run(lambda: own), axis=None)

  count = strategy.num_replicas_in_sync
  total, squares = summed().numpy()
  if total != done * count or squares != done * done * count:
    raise ValueError(
      "All workers must see the same --workdir, and go on after the same "
      f"epoch. Received: {done} finished epochs here, {total / count:g} on "
      "average"
    )


def _multi_worker(seconds: int) -> tf.distribute.Strategy:
  found = _configuration()
  rendezvous.wait(found["cluster"], found["task"], seconds)
  return tf.distribute.MultiWorkerMirroredStrategy()


def _configuration() -> dict:
  text = os.environ.get("TF_CONFIG", "")
  try:
    found = dict(json.loads(text or "{}"))
  except (TypeError, ValueError):
    found = {}
  parts = [found.get(name) for name in ("cluster", "task")]
  if not all(isinstance(part, dict) for part in parts):
    raise ValueError(
      "--strategy=multi_worker takes the addresses of all workers from the "
      "environment variable TF_CONFIG, which `python -m trainers.launch "
      f"--workers=2 -- python -m trainers.maml ...` sets. Received: {text!r}"
    )
  return found


def _tpu(name: str) -> tf.distribute.Strategy:
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (ValueError, OSError, tf.errors.OpError) as error:
    reason, *_ = str(error).split("\n")
    raise ValueError(
      f"There is no TPU to be had: {reason} "
      f"Received: --strategy=tpu --tpu={name!r}"
    ) from error
  return tf.distribute.TPUStrategy(resolver)
