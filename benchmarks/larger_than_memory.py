"""A data set larger than the memory of the process that trains on it.

  python -m benchmarks.larger_than_memory

Writes 4 GiB of images of 84x84x3 (random ones) into a file, in a folder for
temporary files, and reads tasks of 5 ways, 1 shot and 15 queries from it in a
process that the system refuses more than 2 GiB of data. There MAML trains on
them too, so that one sees how much faster reading is than the learner. The
system is told to forget the file first, so that reading begins at the disk, but
it may keep in memory of its own what was read.
`benchmarks/results/larger_than_memory.json` is written. Linux alone.
"""

import json
import os
import pathlib
import sys
import tempfile

from absl import app
from absl import flags
import numpy as np

from benchmarks.contenders import mapped_images
from benchmarks.contenders import processes

_GIB = flags.DEFINE_float("gib", 4.0, "Size of the images.")
_LIMIT = flags.DEFINE_integer("limit_mib", 2048, "Of the process that reads.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/larger_than_memory.json", "Written."
)


def write_images(path: pathlib.Path, gib: float) -> int:
  """Writes whole classes of random images; returns how many images."""
  shape = (mapped_images.SIDE, mapped_images.SIDE, 3)
  size = mapped_images.CLASS_SIZE
  classes = int(gib * 2**30 / np.prod(shape) / size)
  images = np.lib.format.open_memmap(
    path, "w+", np.uint8, (classes * size, *shape)
  )
  random = np.random.default_rng(0)
  for number in range(classes):
    images[number * size : (number + 1) * size] = random.integers(
      0, 256, (size, *shape), np.uint8
    )
  images.flush()
  with open(path, "rb") as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
  return len(images)


def main(_) -> None:
  """Writes, reads and reports."""
  runner = processes.Runner([], peers_python=sys.executable)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "images.npy"
    count = write_images(path, _GIB.value)
    found = runner.run("mapped_images", images=path, limit_mib=_LIMIT.value)
    size = path.stat().st_size
  report = {
    "command": " ".join(
      ["python -m benchmarks.larger_than_memory", *sys.argv[1:]]
    ),
    "images": count,
    "file_mib": size / 2**20,
    "limit_mib": _LIMIT.value,
    **found,
    "reading_over_learner": found["tasks_per_second"]
    / found["learner_tasks_per_second"],
  }
  print(json.dumps(report, indent=1))
  pathlib.Path(_OUTPUT.value).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
