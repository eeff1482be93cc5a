"""Damages files at random and reads them as users would.

`tests.endurance` starts this program. For each damage it prints the number
before it reads, so that a crash is known, and then one word for what happened:

  refused   an error of one sentence, as a user sees it
  same      what the undamaged file holds, so that the damage did not matter
  earlier   the whole state of an earlier epoch (checkpoints)
  changed   other values; files without checksums of their own allow no more
  wrong     weights of no epoch, or a part of a data set as if it were all
  error     any other error, which would be a traceback
"""

from collections.abc import Callable
import hashlib
import io
import json
import os
import pathlib
import pickle
import resource
import tarfile
import tempfile
from typing import Any

from absl import app
from absl import flags
from absl import logging
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from tfmeta.data.imagenet import layouts

_KIND = flags.DEFINE_string("kind", "tars", "Kind of the files.")
_FIRST = flags.DEFINE_integer("first", 0, "Number of the first damage.")
_LAST = flags.DEFINE_integer("last", 10, "Number of the first damage not made.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the damages.")

# Bytes that a reader may allocate beyond those of the process at its start.
_MEMORY = 3 * 2**30

# Errors whose message the trainers report as one sentence.
_REPORTED = (ValueError, OSError, ImportError)

# A reader returns what it has read, or a word for it.
Reader = Callable[[pathlib.Path], Any]


def damaged(content: bytes, random: np.random.Generator) -> bytes:
  """Returns `content` with one random damage."""
  data, size = bytearray(content), max(1, len(content))
  at, length = int(random.integers(size)), int(random.integers(1, 17))
  noise = random.bytes(length)
  match int(random.integers(8)):
    case 0:
      data[at : at + 1] = bytes([content[at] ^ 1 << int(random.integers(8))])
    case 1:
      data[at : at + length] = noise
    case 2:
      del data[at:]
    case 3:
      data[at:at] = noise
    case 4:
      del data[at : at + length]
    case 5:  # A block of a disk that was never written.
      start = at // 512 * 512
      data[start : start + 512] = bytes(len(data[start : start + 512]))
    case 6:  # Two blocks that were exchanged.
      first, second = sorted(random.integers(0, 1 + size // 512, 2) * 512)
      one, other = data[first : first + 512], data[second : second + 512]
      data[second : second + 512], data[first : first + 512] = one, other
    case 7:  # The beginning is where a format says what follows.
      data[at % 64 : at % 64 + length] = noise
  return bytes(data)


class _Checkpoints:
  """Checkpoints of three epochs, of which any may be restored whole."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.epochs: dict[int, list[np.ndarray]] = {}
    checkpoint = self._checkpoint()
    model = self._model()
    x = np.ones([4, 3], "float32")
    keep = keras.callbacks.LambdaCallback(
      on_epoch_end=lambda epoch, logs: self.epochs.update(
        {epoch + 1: self._values(model)}
      )
    )
    model.fit(x, x, epochs=3, callbacks=[checkpoint, keep], verbose=0)
    self.files = sorted(folder.iterdir())

  def read(self, path: pathlib.Path) -> str:
    """Restores the checkpoints and tells which epoch they hold."""
    model = self._model()
    done = self._checkpoint().restore(model)
    expected = self.epochs.get(done)
    right = expected is not None and all(
      np.array_equal(*pair)
      for pair in zip(self._values(model), expected, strict=True)
    )
    if not right:
      return "wrong"
    return "same" if done == max(self.epochs) else "earlier"

  def judge(self, found: str) -> str:
    return found

  def also(self, path: pathlib.Path, random: Any) -> None:
    """Damages a second file, or signs the damaged one, now and then."""
    choice = int(random.integers(4))
    if choice == 0:
      other = self.files[int(random.integers(len(self.files)))]
      other.write_bytes(damaged(other.read_bytes(), random))
    elif choice == 1 and path.suffix == ".npz":
      _sign(path)

  def _checkpoint(self) -> tfmeta.callbacks.Checkpoint:
    return tfmeta.callbacks.Checkpoint(
      self.folder, monitor="loss", mode="min", keep=2
    )

  def _model(self) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    return model

  def _values(self, model) -> list[np.ndarray]:
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def _sign(path: pathlib.Path) -> None:
  """Writes the mark of a file that was damaged before it was saved."""
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  mark = path.with_name(f"{path.name}.sha256")
  mark.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


class _Files:
  """Files of a data set, and a function that reads their tasks."""

  def __init__(self, folder: pathlib.Path, read: Callable[[], Any]):
    self.files = sorted(p for p in folder.rglob("*") if p.is_file())
    self._read = read
    self.expected = read()

  def read(self, path: pathlib.Path) -> Any:
    return self._read()

  def judge(self, found: Any) -> str:
    if found[0] != self.expected[0]:
      return "wrong"
    return "same" if found[1] == self.expected[1] else "changed"

  def also(self, path: pathlib.Path, random: Any) -> None:
    del path, random


def _embeddings(folder: pathlib.Path) -> _Files:
  """Returns a pickle of embeddings. Its reader knows no number of classes."""
  values = np.arange(24, dtype="float32").reshape(12, 2)
  tfmeta.data.write_embeddings("train", folder, values, np.repeat([1, 2, 3], 4))
  spec = tfmeta.TaskSpec(ways=3, shots=1, query_shots=1)

  def read():
    tasks = tfmeta.data.embeddings("train", spec, data_dir=folder)
    inputs, _ = next(iter(tasks))
    return None, inputs["support_x"].numpy().tobytes()

  return _Files(folder, read)


def _images(folder: pathlib.Path) -> _Files:
  """Returns images of each format in folders of classes."""
  random = np.random.default_rng(0)
  encoders = {"png": tf.io.encode_png, "jpg": tf.io.encode_jpeg}
  for name in ("a", "b"):
    (folder / name).mkdir()
    for number, (suffix, encode) in enumerate(2 * list(encoders.items())):
      image = random.integers(0, 256, [12, 12, 3], np.uint8)
      (folder / name / f"{number}.{suffix}").write_bytes(encode(image).numpy())
  (folder / "a" / "9.bmp").write_bytes(_bmp(random))
  spec = tfmeta.TaskSpec(ways=2, shots=2, query_shots=2)

  def read():
    tasks = tfmeta.data.tasks_from_directory(folder, spec, size=12)
    inputs, _ = next(iter(tasks))
    return None, inputs["support_x"].numpy().tobytes()

  return _Files(folder, read)


def _bmp(random) -> bytes:
  """Returns a BMP file of 8x8 pixels."""
  pixels = random.bytes(8 * 8 * 3)
  header = b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4)
  header += (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
  header += (8).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
  return header + pixels


def _tars(folder: pathlib.Path) -> _Files:
  """Returns the archives of miniImageNet, with few images of each class."""
  random = np.random.default_rng(0)
  for split in ("train", "val", "test"):
    with tarfile.open(folder / f"{split}.tar", "w") as archive:
      for name in "abc":
        for number in range(3):
          image = random.integers(0, 256, [6, 6, 3], np.uint8)
          content = tf.io.encode_png(image).numpy()
          member = tarfile.TarInfo(f"{split}/n0{name}/{number}.png")
          member.size = len(content)
          archive.addfile(member, io.BytesIO(content))

  def read():
    return _read_layouts(folder)

  return _Files(folder, read)


def _read_layouts(folder: pathlib.Path) -> tuple[list[str], bytes]:
  """Returns the number of images of each class, and their content."""
  names, contents = [], []
  for split in ("train", "validation", "test"):
    _, read = layouts.find(folder, split)
    for label, _, content in read():
      names.append(str(label))
      contents.append(bytes(content))
  return names, pickle.dumps(contents)


KINDS = {
  "checkpoints": _Checkpoints,
  "pickles": _embeddings,
  "tars": _tars,
  "images": _images,
}


def outcome(files: Any, path: pathlib.Path) -> str:
  """Reads damaged files and returns one word for what happened."""
  try:
    return files.judge(files.read(path))
  except _REPORTED as error:
    sentence = " ".join(str(error).split())
    return "refused" if sentence and len(sentence) < 2000 else "error"
  except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    return "error"


def main(_) -> None:
  logging.set_verbosity(logging.ERROR)
  with tempfile.TemporaryDirectory() as parent:
    files = KINDS[_KIND.value](pathlib.Path(parent))
    contents = {path: path.read_bytes() for path in files.files}
    _limit_memory()
    for number in range(_FIRST.value, _LAST.value):
      random = np.random.default_rng([_SEED.value, number])
      path = files.files[int(random.integers(len(files.files)))]
      path.write_bytes(damaged(contents[path], random))
      files.also(path, random)
      print(json.dumps({"number": number, "file": path.name}), flush=True)
      print(json.dumps({"outcome": outcome(files, path)}), flush=True)
      for other, content in contents.items():
        other.write_bytes(content)


def _limit_memory() -> None:
  with open("/proc/self/statm", encoding="ascii") as file:
    pages = int(file.read().split()[0])
  most = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  resource.setrlimit(resource.RLIMIT_AS, (most, hard))


if __name__ == "__main__":
  app.run(main)
