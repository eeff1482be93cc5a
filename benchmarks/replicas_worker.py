"""Trains every learner for 20 updates under one strategy; writes the weights.

Started by `benchmarks.replicas`.
"""

import json
import pathlib

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import logical_cpus
import tfmeta

_DEVICES = flags.DEFINE_integer(
  "devices", 1, "Logical CPUs; 0 for the workers in TF_CONFIG."
)
_OUTPUT = flags.DEFINE_string("output", None, "Written.", required=True)

UPDATES, TASKS = 20, 4
WAYS, FEATURES = 3, 6
LEARNERS = {
  "MAML": {"inner_steps": 2, "inner_learning_rate": 0.1},
  "FOMAML": {"inner_learning_rate": 0.1},
  "ANIL": {"inner_learning_rate": 0.1},
  "MetaSGD": {"inner_learning_rate": 0.1},
  "MAMLPlusPlus": {
    "inner_steps": 2,
    "multi_step_epochs": 1,
    "steps_per_epoch": 10,
  },
  "Reptile": {"inner_steps": 2, "inner_learning_rate": 0.01},
  "PLATIPUS": {"inner_learning_rate": 0.1},
  "EMAML": {"inner_learning_rate": 0.1, "num_particles": 3},
  "BMAML": {"inner_learning_rate": 0.02, "num_particles": 3},
  "LEO": {"num_latents": 4, "inner_steps": 2, "finetuning_steps": 1},
}


def strategy_of(devices: int) -> tf.distribute.Strategy:
  """A strategy, before TensorFlow is used."""
  if devices == 0:
    return tf.distribute.MultiWorkerMirroredStrategy()
  return logical_cpus.strategy_of(devices)


def tasks() -> tf.data.Dataset:
  """Tasks of classes of Gaussian vectors."""
  random = np.random.default_rng(0)
  means = random.normal(size=(20, 1, FEATURES))
  x = means + 0.5 * random.normal(size=(20, 12, FEATURES))
  spec = tfmeta.TaskSpec(ways=WAYS, shots=2, query_shots=2)
  return tfmeta.data.tasks_from_arrays(
    x.reshape([-1, FEATURES]).astype("float32"),
    np.repeat(np.arange(20), 12),
    spec,
  ).batch(TASKS, drop_remainder=True)


def trained(name: str, strategy: tf.distribute.Strategy) -> list[float]:
  """All weights of the learner's model and its own, in a row."""
  keras.utils.set_random_seed(0)
  with strategy.scope():
    if name == "LEO":
      model = tfmeta.models.embedding_head(FEATURES, ways=WAYS)
    else:
      model = tfmeta.models.mlp((FEATURES,), outputs=WAYS, hidden=(16,))
    learner = getattr(tfmeta, name)(model, **LEARNERS[name])
    learner.compile(keras.optimizers.SGD(0.05))
  learner.fit(tasks(), steps_per_epoch=UPDATES, verbose=0)
  weights = [np.ravel(weight) for weight in learner.get_weights()]
  return np.concatenate(weights).astype(float).tolist()


def main(_) -> None:
  """Trains all, one after the other."""
  strategy = strategy_of(_DEVICES.value)
  found = {name: trained(name, strategy) for name in LEARNERS}
  resolver = strategy.cluster_resolver
  if resolver is None or not resolver.task_id:
    pathlib.Path(_OUTPUT.value).write_text(json.dumps(found))


if __name__ == "__main__":
  app.run(main)
