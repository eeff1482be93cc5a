"""Tasks from embeddings of images, in the file format of LEO's authors.

A folder holds `train_embeddings.pkl`, `val_embeddings.pkl` and
`test_embeddings.pkl`. Each is a pickled dict of two arrays: `embeddings`,
`[n, d]`, and `keys`, `[n]` strings `<anything>-<class>-<class>_<image>`.
"""

import os
import pathlib
import pickle

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfmeta import arguments
from tfmeta import whole_files
from tfmeta.data import arrays
from tfmeta.data import pickles
from tfmeta.data import splits
from tfmeta.data import task


def embeddings(
  split: str,
  spec: task.TaskSpec,
  *,
  data_dir: str | os.PathLike[str],
  seed: int = 0,
  start: int = 0,
) -> tf.data.Dataset:
  """Samples tasks from embeddings of images.

  Reads the files that `write_embeddings` and `trainers.pretrain` write, and the
  files that the authors of LEO [1] published. The embeddings are not
  normalized: `tfmeta.models.embedding_head` scales them to unit length.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with `ways` set.
    data_dir: Folder that holds the files.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the data, the seed and i.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, d],
    "support_y": [S], "query_x": [Q, d]}, query_y [Q])`; x is float32, y is
    int32. Batch the dataset before use.

  Raises:
    FileNotFoundError: If the split has no file.
    TypeError: If `spec` is not a `TaskSpec`.
    ValueError: If the file has another format, or has too few classes or
      examples for `spec`.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
  """
  task.check_has_ways(spec)
  values, classes = read_embeddings(split, data_dir)
  return arrays.tasks_from_arrays(values, classes, spec, seed=seed, start=start)


def read_embeddings(
  split: str, data_dir: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the embeddings of a split and the names of their classes.

  Args:
    split: "train", "validation" or "test".
    data_dir: Folder that holds the files.

  Returns:
    Embeddings, float32 `[n, d]`, and names, `[n]`.

  Raises:
    FileNotFoundError: If the split has no file.
    ValueError: If `split` is unknown or the file has another format.
  """
  path = _path(split, data_dir)
  if not path.exists():
    raise FileNotFoundError(
      f"The split has no embeddings: expected the file {path}. "
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
      f"{path} must hold embeddings [n, d] and one key "
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
  """Writes the embeddings of a split to a file that `embeddings` reads.

  Args:
    split: "train", "validation" or "test".
    data_dir: Folder for the file; it is created if it does not exist.
    values: Embeddings, `[n, d]`.
    classes: `[n]` names or numbers of their classes. A name must not contain
      `-`.

  Raises:
    ValueError: If `split` is unknown, or if there is not one valid name for
      each embedding.
  """
  path = _path(split, data_dir)
  names = [str(name) for name in np.asarray(classes)]
  if len(names) != len(values) or any("-" in name for name in names):
    raise ValueError(
      "`classes` must hold one name without '-' for each embedding. "
      f"Received: {len(values)} embeddings, {len(names)} names"
    )
  keys = [f"{i}-{name}-{name}_{i}" for i, name in enumerate(names)]
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {
    "embeddings": np.asarray(values, np.float32),
    "keys": np.array(keys),
  }
  with whole_files.replacing(path) as temporary:
    temporary.write_bytes(pickle.dumps(content, protocol=4))


def _path(split: str, data_dir: str | os.PathLike[str]) -> pathlib.Path:
  arguments.check_choice("split", split, splits.SPLITS)
  # The authors of LEO abbreviate this name only.
  name = "val" if split == "validation" else split
  return arguments.path("data_dir", data_dir) / f"{name}_embeddings.pkl"
