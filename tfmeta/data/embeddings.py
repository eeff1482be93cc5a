"""Embeddings of images as tasks, in the files of LEO's authors.

A folder holds `train_embeddings.pkl`, `val_embeddings.pkl` and
`test_embeddings.pkl`; each is a pickled dict of the arrays `embeddings [n, d]`
and `keys [n]`, strings `<anything>-<class>-<class>_<image>`.
"""

import os
import pathlib
import pickle

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfmeta.data import arrays
from tfmeta.data import pickles
from tfmeta.data import sampler
from tfmeta.data import task

SPLITS = {"train": "train", "validation": "val", "test": "test"}


def embeddings(
  split: str,
  spec: task.TaskSpec,
  *,
  data_dir: str | os.PathLike[str],
  seed: int = 0,
  start: int = 0,
) -> tf.data.Dataset:
  """Draws tasks without end from embeddings of images.

  Reads what `write_embeddings` and `trainers.pretrain` write, and the files
  that the authors of LEO [1] published. Embeddings are delivered as they are:
  `tfmeta.models.embedding_head` scales them to length 1.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with ways.
    data_dir: Folder of the three files.
    seed: As for `tasks_from_arrays`, like `start`.
    start: As there.

  Returns:
    As `tasks_from_arrays`.

  Raises:
    FileNotFoundError: If there is no file of the split.
    ValueError: If the file is of another kind, or has too few classes or
      examples for `spec`.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
  """
  sampler.check_choice("split", split, tuple(SPLITS))
  task.check_has_ways(spec)
  values, classes = read_embeddings(split, data_dir)
  return arrays.tasks_from_arrays(values, classes, spec, seed=seed, start=start)


def read_embeddings(
  split: str, data_dir: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Embeddings `[n, d]` float32 of a split, and the names of their classes."""
  path = _path(split, data_dir)
  if not path.exists():
    raise FileNotFoundError(
      f"There are no embeddings of this split: expected the file {path}. "
      f"Received: data_dir={os.fspath(data_dir)!r}"
    )
  content = pickles.load_dict(path, "embeddings", "keys")
  keys = [
    k.decode() if isinstance(k, bytes) else str(k) for k in content["keys"]
  ]
  parts = [key.split("-") for key in keys]
  values = np.asarray(content["embeddings"], np.float32)
  fits = values.ndim == 2 and len(values) == len(keys)
  if not fits or any(len(part) != 3 for part in parts):
    raise ValueError(
      f"{path} must hold embeddings [n, d], and a key "
      "'<anything>-<class>-<image>' for each. Received: embeddings of shape "
      f"{values.shape} and {len(keys)} keys such as {keys[:1]}"
    )
  return values, np.array([part[1] for part in parts])


def write_embeddings(
  split: str,
  data_dir: str | os.PathLike[str],
  values: np.ndarray,
  classes: npt.ArrayLike,
) -> None:
  """Writes the file of a split.

  Args:
    split: "train", "validation" or "test".
    data_dir: Folder, made if need be.
    values: `[n, d]`.
    classes: `[n]` names without `-`, or numbers.
  """
  sampler.check_choice("split", split, tuple(SPLITS))
  names = [str(name) for name in np.asarray(classes)]
  if len(names) != len(values) or any("-" in name for name in names):
    raise ValueError(
      "`classes` must hold a name without '-' for each of the embeddings. "
      f"Received: {len(values)} embeddings, {len(names)} names"
    )
  keys = [f"{i}-{name}-{name}_{i}" for i, name in enumerate(names)]
  path = _path(split, data_dir)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {
    "embeddings": np.asarray(values, np.float32),
    "keys": np.array(keys),
  }
  path.write_bytes(pickle.dumps(content, protocol=4))


def _path(split: str, data_dir: str | os.PathLike[str]) -> pathlib.Path:
  folder = pathlib.Path(data_dir).expanduser()
  return folder / f"{SPLITS[split]}_embeddings.pkl"
