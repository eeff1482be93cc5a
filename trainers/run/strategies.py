"""The distribution strategy of a run."""

import tensorflow as tf

from trainers.run import workers


def make(config) -> tf.distribute.Strategy:
  """Returns the strategy of a run.

  Call this before TensorFlow computes anything.

  Raises:
    ValueError: If this machine or `TF_CONFIG` does not provide what the
      strategy needs, or the tasks of an update cannot be divided evenly.
  """
  match config.strategy:
    case "mirrored":
      strategy = tf.distribute.MirroredStrategy()
    case "multi_worker":
      strategy = _multi_worker(config.startup_seconds)
    case "tpu":
      strategy = _tpu(config.tpu)
    case _:
      return tf.distribute.get_strategy()
  replicas = strategy.num_replicas_in_sync
  if config.meta_batch_size % replicas:
    raise ValueError(
      f"`meta_batch_size` must be a multiple of the {replicas} replicas. "
      f"Received: meta_batch_size={config.meta_batch_size}"
    )
  return strategy


def check_agreement(strategy: tf.distribute.Strategy, done: int) -> None:
  """Checks that all workers resume after the same epoch.

  Args:
    strategy: Strategy of the run.
    done: Number of finished epochs that this worker has found.

  Raises:
    ValueError: If another worker has found a different number.
  """

  @tf.function
  def summed() -> tf.Tensor:
    own = tf.constant([done, done * done], tf.float32)
    return strategy.reduce("SUM", strategy.run(lambda: own), axis=None)

  # Sum and sum of squares fit only if every worker has the same number: equal
  # means alone could come from different ones.
  count = strategy.num_replicas_in_sync
  total, squares = summed().numpy()
  if total != done * count or squares != done * done * count:
    raise ValueError(
      "All workers must see the same --workdir and resume after the same "
      f"epoch. Received: {done} finished epochs here, {total / count:g} on "
      "average"
    )


def _multi_worker(seconds: int) -> tf.distribute.Strategy:
  found = workers.read_cluster()
  workers.wait_for_all(found["cluster"], found["task"], seconds)
  return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(name: str) -> tf.distribute.Strategy:
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (ValueError, OSError, tf.errors.OpError) as error:
    reason, *_ = str(error).split("\n")
    raise ValueError(
      f"No TPU can be reached: {reason} Received: --strategy=tpu --tpu={name!r}"
    ) from error
  return tf.distribute.TPUStrategy(resolver)
