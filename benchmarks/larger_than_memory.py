"""Trains on a data set that is larger than the memory of the process.

  python -m benchmarks.larger_than_memory

The command writes 4 GiB of random images of 84x84x3 into a temporary file. A
second process, to which Linux refuses more than 2 GiB of data, maps the file,
reads tasks of 5 ways, 1 shot and 15 queries from it, and trains MAML on such
tasks, so that the speed of reading can be compared with that of the learner.

Before that, the command asks the system to drop the file from memory. Reading
therefore begins at the disk, but the system may keep what was read. The command
writes `benchmarks/results/larger_than_memory.json` and runs on Linux only.
"""

from concurrent import futures
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time

from absl import app
from absl import flags
import numpy as np

from benchmarks.shared import reports

_GIB = flags.DEFINE_float("gib", 4.0, "Size of the images in GiB.")
_LIMIT = flags.DEFINE_integer(
  "limit_mib", 2048, "Data limit in MiB of the process that reads."
)
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/larger_than_memory.json", "JSON file to write."
)

SIDE, CLASS_SIZE = 84, 600
META_BATCH, UPDATES = 4, 3
READING_SECONDS = 10.0


def write_images(path: pathlib.Path, gib: float) -> int:
  """Writes whole classes of random images and returns the number of images."""
  shape = (SIDE, SIDE, 3)
  classes = int(gib * 2**30 / np.prod(shape) / CLASS_SIZE)
  images = np.lib.format.open_memmap(
    path, "w+", np.uint8, (classes * CLASS_SIZE, *shape)
  )
  random = np.random.default_rng(0)
  for number in range(classes):
    images[number * CLASS_SIZE : (number + 1) * CLASS_SIZE] = random.integers(
      0, 256, (CLASS_SIZE, *shape), np.uint8
    )
  images.flush()
  with open(path, "rb") as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
  return len(images)


def read_and_train(path: pathlib.Path, limit_mib: int) -> dict[str, float]:
  """Limits the memory of this process, reads tasks, and trains on some.

  Pages of the mapped file do not count toward the limit. They belong to the
  system, which takes them back when it needs them.

  Args:
    path: File of images.
    limit_mib: Data limit of this process in MiB.
  """
  # TensorFlow must not be loaded yet, because its memory counts too.
  limit = limit_mib * 2**20
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  tasks = _make_tasks(path)
  return {
    "tasks_per_second": _reading_speed(iter(tasks.batch(32).prefetch(2))),
    "learner_tasks_per_second": _training_speed(
      iter(tasks.batch(META_BATCH).prefetch(2))
    ),
    "own_memory_mib": _process_status("RssAnon") / 1024,
    "data_mib": _process_status("VmData") / 1024,
  }


def _make_tasks(path):
  import tfmeta

  images = np.load(path, mmap_mode="r")
  labels = np.arange(len(images)) // CLASS_SIZE
  spec = tfmeta.TaskSpec(ways=5, shots=1, query_shots=15)
  return tfmeta.data.tasks_from_arrays(images, labels, spec)


def _reading_speed(batches) -> float:
  next(batches)
  done, begin = 0, time.perf_counter()
  while time.perf_counter() - begin < READING_SECONDS:
    done += len(next(batches)[1])
  return done / (time.perf_counter() - begin)


def _training_speed(batches) -> float:
  import keras

  import tfmeta

  model = tfmeta.models.conv4((SIDE, SIDE, 3), ways=5, filters=32)
  learner = tfmeta.MAML(model, inner_steps=5, inner_learning_rate=0.05)
  learner.compile(keras.optimizers.Adam(1e-3))
  learner.train_on_batch(*next(batches))
  begin = time.perf_counter()
  for _ in range(UPDATES):
    learner.train_on_batch(*next(batches))
  return META_BATCH * UPDATES / (time.perf_counter() - begin)


def _process_status(name: str) -> int:
  """Returns a number in kB from what Linux says about this process."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return next(
    int(line.split()[1]) for line in lines if line.startswith(f"{name}:")
  )


def main(_) -> None:
  """Writes the images, measures in a second process, and writes JSON."""
  os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
  # A spawned process begins without the memory of this one.
  context = multiprocessing.get_context("spawn")
  with (
    tempfile.TemporaryDirectory() as folder,
    futures.ProcessPoolExecutor(1, mp_context=context) as process,
  ):
    path = pathlib.Path(folder) / "images.npy"
    count = write_images(path, _GIB.value)
    found = process.submit(read_and_train, path, _LIMIT.value).result()
    size = path.stat().st_size
  report = {
    "command": reports.command("larger_than_memory"),
    "images": count,
    "file_mib": size / 2**20,
    "limit_mib": _LIMIT.value,
    **found,
    "reading_over_learner": found["tasks_per_second"]
    / found["learner_tasks_per_second"],
  }
  print(json.dumps(report, indent=1))
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
