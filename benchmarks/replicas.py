"""Compares the weights of every learner on one device and on several.

  python -m benchmarks.replicas

Every learner trains for 20 updates on the same tasks with the same seed: on one
device, on two and four logical CPUs (`MirroredStrategy`), and in two processes
(`MultiWorkerMirroredStrategy`), which `trainers.launch` starts. The command
prints the largest difference of any weight from that on one device, and writes
`benchmarks/results/replicas.json`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared import logical_cpus
from benchmarks.shared import reports
import tfmeta

_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/replicas.json", "JSON file to write."
)
_DEVICES = flags.DEFINE_integer(
  "devices",
  None,
  "Trains on this many logical CPUs and writes the weights to --output instead "
  "of comparing. 0 stands for the workers in TF_CONFIG. The command starts "
  "itself with this flag.",
)

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
  "PLATIPUS": {"inner_learning_rate": 0.02},
  "EMAML": {"inner_learning_rate": 0.1, "num_particles": 3},
  "BMAML": {"inner_learning_rate": 0.02, "num_particles": 3},
  "LEO": {"num_latents": 4, "inner_steps": 2, "finetuning_steps": 1},
}

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = [sys.executable, "-m", "benchmarks.replicas"]
LAUNCH = [sys.executable, "-m", "trainers.launch", "--workers=2", "--"]
RUNS = {
  "one device": [*WORKER, "--devices=1"],
  "2 logical CPUs": [*WORKER, "--devices=2"],
  "4 logical CPUs": [*WORKER, "--devices=4"],
  "2 processes": [*LAUNCH, *WORKER, "--devices=0"],
}


def make_tasks() -> tf.data.Dataset:
  """Returns batches of tasks whose classes are clouds of Gaussian vectors."""
  random = np.random.default_rng(0)
  means = random.normal(size=(20, 1, FEATURES))
  x = means + 0.5 * random.normal(size=(20, 12, FEATURES))
  spec = tfmeta.TaskSpec(ways=WAYS, shots=2, query_shots=2)
  return tfmeta.data.tasks_from_arrays(
    x.reshape([-1, FEATURES]).astype("float32"),
    np.repeat(np.arange(20), 12),
    spec,
  ).batch(TASKS, drop_remainder=True)


def train(name: str, strategy: tf.distribute.Strategy) -> list[float]:
  """Trains a learner and returns all its weights as one list."""
  keras.utils.set_random_seed(0)
  with strategy.scope():
    if name == "LEO":
      model = tfmeta.models.embedding_head(FEATURES, ways=WAYS)
    else:
      model = tfmeta.models.mlp((FEATURES,), outputs=WAYS, hidden=(16,))
    learner = getattr(tfmeta, name)(model, **LEARNERS[name])
    learner.compile(keras.optimizers.SGD(0.05))
  learner.fit(make_tasks(), steps_per_epoch=UPDATES, verbose=0)
  weights = [np.ravel(weight) for weight in learner.get_weights()]
  return np.concatenate(weights).astype(float).tolist()


def train_all(devices: int, output: pathlib.Path) -> None:
  """Trains every learner under one strategy and writes the weights.

  Args:
    devices: Number of logical CPUs, or 0 for the workers in `TF_CONFIG`.
    output: JSON file for the weights, by learner.
  """
  if devices == 0:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  else:
    strategy = logical_cpus.strategy_for(devices)
  found = {name: train(name, strategy) for name in LEARNERS}
  # All workers have the same weights, so one of them writes.
  resolver = strategy.cluster_resolver
  if resolver is None or not resolver.task_id:
    output.write_text(json.dumps(found))


def start_run(command: list[str], folder: pathlib.Path) -> dict:
  """Runs this program with `--devices` and returns the weights it wrote."""
  path = folder / "weights.json"
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  subprocess.run(
    [*command, f"--output={path}"], cwd=ROOT, env=environment, check=True
  )
  return json.loads(path.read_text())


def compare() -> dict[str, dict[str, float]]:
  """Returns the largest difference from one device, by learner and run."""
  with tempfile.TemporaryDirectory() as folder:
    found = {
      name: start_run(command, pathlib.Path(folder))
      for name, command in RUNS.items()
    }
  expected = found.pop("one device")
  return {
    learner: {
      name: max(
        abs(a - b)
        for a, b in zip(weights[learner], expected[learner], strict=True)
      )
      for name, weights in found.items()
    }
    for learner in expected
  }


def main(_) -> None:
  """Compares all runs, or trains one of them if `--devices` is set."""
  output = pathlib.Path(_OUTPUT.value)
  if _DEVICES.value is not None:
    train_all(_DEVICES.value, output)
    return
  report = compare()
  for learner, differences in report.items():
    cells = [f"{name}: {value:.1e}" for name, value in differences.items()]
    print(f"{learner:14} " + "   ".join(cells))
  reports.write(output, report)


if __name__ == "__main__":
  app.run(main)
