"""Tasks from a file of images larger than memory: their speed, and training.

The system itself refuses this process more than `--limit_mib` of data; pages of
the mapped file are the system's own, and it takes them back when it needs them.
"""

import argparse
import json
import pathlib
import resource
import time

SIDE, CLASS_SIZE = 84, 600
META_BATCH, UPDATES = 4, 3


def main() -> None:
  """Prints what was found as a JSON line."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--images", required=True)
  parser.add_argument("--limit_mib", type=int, required=True)
  parser.add_argument("--seconds", type=float, default=10.0)
  args = parser.parse_args()
  # Before TensorFlow is there, whose memory counts.
  limit = args.limit_mib * 2**20
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  tasks = _tasks(args.images)
  found = {
    "tasks_per_second": _read(iter(tasks.batch(32).prefetch(2)), args.seconds),
    "learner_tasks_per_second": _train(tasks.batch(META_BATCH).prefetch(2)),
    "own_memory_mib": _status("RssAnon") / 1024,
    "data_mib": _status("VmData") / 1024,
  }
  print(json.dumps(found))


def _tasks(path):
  import numpy as np

  import tfmeta

  images = np.load(path, mmap_mode="r")
  labels = np.arange(len(images)) // CLASS_SIZE
  spec = tfmeta.TaskSpec(ways=5, shots=1, query_shots=15)
  return tfmeta.data.tasks_from_arrays(images, labels, spec)


def _read(batches, seconds):
  next(batches)
  done, begin = 0, time.perf_counter()
  while time.perf_counter() - begin < seconds:
    done += len(next(batches)[1])
  return done / (time.perf_counter() - begin)


def _train(batches):
  import keras

  import tfmeta

  model = tfmeta.models.conv4((SIDE, SIDE, 3), ways=5, filters=32)
  learner = tfmeta.MAML(model, inner_steps=5, inner_learning_rate=0.05)
  learner.compile(keras.optimizers.Adam(1e-3))
  batches = iter(batches)
  learner.train_on_batch(*next(batches))
  begin = time.perf_counter()
  for _ in range(UPDATES):
    learner.train_on_batch(*next(batches))
  return META_BATCH * UPDATES / (time.perf_counter() - begin)


def _status(name):
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return next(int(li.split()[1]) for li in lines if li.startswith(f"{name}:"))


if __name__ == "__main__":
  main()
