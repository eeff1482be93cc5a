"""Everything that trainers know of each data set.

`DATA_SETS` is the whole list. tfmeta is imported only when examples are needed,
so that `--help` does not wait for TensorFlow.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import difflib
import math
import pathlib
from typing import Any

import numpy as np

from trainers.run import class_folders
from trainers.run import paths

IMAGES = "images"
EMBEDDINGS = "embeddings"
REGRESSION = "regression"

SPLITS = class_folders.SPLITS

# File by which a folder of embeddings is told from a folder of images.
_EMBEDDINGS_FILE = "train_embeddings.pkl"

# The glyphs of `glyph_pairs` and of pre-training: classes in each split, and
# images of each class.
_GLYPH_CLASSES = {"train": 400, "validation": 100, "test": 100}
_GLYPH_IMAGES = 20


def _split_name(config, split) -> str:
  return split


def _no_arguments(config, split) -> dict[str, Any]:
  return {}


def _flags_that_are_set(config, names) -> dict[str, Any]:
  values = {name: getattr(config, name) for name in names}
  return {name: value for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set as trainers use it.

  Attributes:
    kind: `IMAGES`, `EMBEDDINGS` or `REGRESSION`, which decides the network.
    function: Name of the function in `tfmeta.data` that makes its tasks.
    flags: Names of the flags that belong to data sets and that this one reads.
    source: Function of the run configuration and the split that returns the
      first argument of `function`. Defaults to the name of the split.
    arguments: Function of the run configuration and the split that returns
      further arguments. Defaults to the values of `flags`.
    defaults: Values that flags take when this data set is chosen. A preset
      overrides them, and the command line overrides both.
    trainer_defaults: The same for single trainers, by their names.
  """

  kind: str
  function: str
  flags: tuple[str, ...] = ()
  source: Callable[[Any, str], Any] = _split_name
  arguments: Callable[[Any, str], dict[str, Any]] | None = None
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  trainer_defaults: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )

  def tasks(self, config, split, spec, **kwargs) -> Any:
    """Returns an infinite `tf.data.Dataset` of single tasks of a split."""
    import tfmeta  # tfmeta loads TensorFlow, and flags are read before that.

    if self.arguments is None:
      arguments = _flags_that_are_set(config, self.flags)
    else:
      arguments = self.arguments(config, split)
    make = getattr(tfmeta.data, self.function)
    return make(self.source(config, split), spec, **arguments, **kwargs)


def find(name: str) -> DataSet:
  """Returns the data set that `--dataset=name` chooses.

  A name that is not in `DATA_SETS` is taken as that of a folder, which need not
  exist before tasks are made.
  """
  if name in DATA_SETS:
    return DATA_SETS[name]
  folder = _folder(name)
  return _EMBEDDINGS if (folder / _EMBEDDINGS_FILE).exists() else _DIRECTORY


def _folder(name: str) -> pathlib.Path:
  if not name:
    raise ValueError(
      "`dataset` must be a data set or a folder that exists. Received: "
      "dataset=''"
    )
  return pathlib.Path(paths.local("dataset", name))


def is_known(name: str) -> bool:
  """Returns whether `name` is a data set or a folder that exists."""
  return name in DATA_SETS or _folder(name).is_dir()


def check_exists(config: Any) -> None:
  """Raises a `ValueError` if the data set of a run does not exist.

  Args:
    config: The configuration of the run.
  """
  name = config.dataset
  if config.algorithm == "LEO" and not config.is_embeddings:
    raise ValueError(
      "LEO takes embeddings: `dataset` must be a folder with "
      f"{_EMBEDDINGS_FILE}, such as runs/pretrain/embeddings, which `python -m "
      f"trainers.pretrain` writes. Received: dataset={name!r}"
    )
  if is_known(name):
    return
  if _folder(name).name != name:
    raise ValueError(
      "`dataset` must be a data set or a folder that exists. Received: "
      f"dataset={name!r}, which does not exist"
    )
  near = difflib.get_close_matches(name, DATA_SETS, n=1)
  advice = f". Did you mean {near[0]}?" if near else ""
  raise ValueError(
    f"`dataset` must be one of {', '.join(DATA_SETS)} or a directory with a "
    f"folder of images for each class. Received: dataset={name!r}{advice}"
  )


def defaults_of(name: str, trainer: str) -> dict[str, Any]:
  """Returns the values of flags that a data set brings to a trainer."""
  found = find(name)
  return {**found.defaults, **found.trainer_defaults.get(trainer, {})}


def check_options(name: str, *, num_tasks: Any, size: Any) -> None:
  """Raises a `ValueError` if the data set cannot have these options."""
  if num_tasks and "num_tasks" not in find(name).flags:
    readers = [n for n, one in DATA_SETS.items() if "num_tasks" in one.flags]
    raise ValueError(
      f"`num_tasks` can be given for {' and '.join(readers)} only. "
      f"Received: num_tasks={num_tasks}, dataset={name!r}"
    )
  if size and "size" not in find(name).flags:
    raise ValueError(
      "`size` can be given for omniglot and for directories of images only. "
      f"Received: size={size}, dataset={name!r}"
    )


def images_by_class(name: str, split: str, **options: Any) -> Any:
  """Returns all images of a split as a uint8 array `[classes, n, h, w, c]`.

  Args:
    name: "glyphs" or "omniglot".
    split: "train", "validation" or "test".
    **options: Arguments of `tfmeta.data.omniglot_drawings`, for Omniglot.

  Raises:
    ValueError: If the data set is another one.
  """
  import tfmeta

  if name == "omniglot":
    return tfmeta.data.omniglot_drawings(split, **options)
  if name == "glyphs":
    count = _GLYPH_CLASSES[split]
    images = tfmeta.data.glyph_drawings(count, _GLYPH_IMAGES, split=split)
    return np.asarray(np.round(255 * np.asarray(images)), np.uint8)
  raise ValueError(
    f"`dataset` must be glyphs or omniglot. Received: dataset={name!r}"
  )


def _image_folder(config, split) -> pathlib.Path:
  check_exists(config)
  return class_folders.folder_of(config, split)


def _glyph_pairs(config, split) -> Any:
  return images_by_class("glyphs", split)


def _omniglot_pairs(config, split) -> Any:
  return images_by_class("omniglot", split, data_dir=config.data_dir)


def _embeddings_folder(config, split) -> dict[str, Any]:
  return {"data_dir": config.dataset}


def _sinusoid(config, split) -> dict[str, Any]:
  # `num_tasks` and noisy queries are for training. Results are measured on
  # sinusoids of the whole range, against their values without noise.
  training = split == "train"
  return {
    "noisy_query": training,
    "num_tasks": config.num_tasks if training else None,
  }


def _varied_sinusoid(config, split) -> dict[str, Any]:
  # The ranges of the BMAML paper.
  return {
    **_sinusoid(config, split),
    "phase": (0.0, 2 * math.pi),
    "frequency": (0.5, 2.0),
    "noise_stddev": 0.01,
    "relative_noise": True,
  }


# The setting of the MAML paper.
_SINUSOID_DEFAULTS: dict[str, Any] = {
  "ways": None,
  "shots": 10,
  "query_shots": 10,
  "train_query_shots": 10,
  "inner_learning_rate": 0.01,
  "meta_batch_size": 25,
  "learning_rate": 0.001,
  "steps_per_epoch": 1000,
  "epochs": 30,
  "steps_per_execution": 100,
  "learning_rate_decay": "none",
}

# The setting of the PLATIPUS paper.
_SINUSOID_OR_LINE_DEFAULTS = {
  **_SINUSOID_DEFAULTS,
  "shots": 5,
  "query_shots": 50,
  "train_query_shots": 50,
  "hidden": [100, 100, 100],
  "inner_steps": 5,
  "inner_learning_rate": 0.001,
}

# The setting of the BMAML paper, except for the number of updates.
_VARIED_SINUSOID_DEFAULTS = {
  **_SINUSOID_DEFAULTS,
  "shots": 5,
  "query_shots": 50,
  "train_query_shots": 5,
  "hidden": [40, 40, 40],
  "meta_batch_size": 10,
}

_PAIR_DEFAULTS = {
  "ways": 2,
  "shots": 1,
  "query_shots": 12,
  "train_query_shots": 12,
}

# BMAML's inner steps follow the gradient of a log-posterior. It is a sum over
# the examples, and it is large when little noise is expected.
# PLATIPUS takes the sum of the losses: a rate for the mean over n points is n
# times too large.
_SUMS_SINUSOID = {
  "bmaml": {"inner_learning_rate": 0.001},
  "platipus": {"inner_learning_rate": 0.001},
}
_SUMS_VARIED_SINUSOID = {
  "bmaml": {"inner_learning_rate": 0.001},
  "platipus": {"inner_learning_rate": 0.002},
}
_SUMS_SINUSOID_OR_LINE = {
  "bmaml": {"inner_learning_rate": 0.0001},
  "platipus": {"inner_learning_rate": 0.0002},
}

DATA_SETS = {
  "glyphs": DataSet(IMAGES, "glyphs"),
  "omniglot": DataSet(
    IMAGES, "omniglot", flags=("data_dir", "rotations", "size")
  ),
  "mini_imagenet": DataSet(
    IMAGES, "mini_imagenet", flags=("data_dir", "manual_dir")
  ),
  "tiered_imagenet": DataSet(
    IMAGES, "tiered_imagenet", flags=("data_dir", "manual_dir")
  ),
  "cifar_fs": DataSet(IMAGES, "cifar_fs", flags=("data_dir",)),
  "fc100": DataSet(IMAGES, "fc100", flags=("data_dir",)),
  "glyph_pairs": DataSet(
    IMAGES, "ambiguous_pairs", source=_glyph_pairs, defaults=_PAIR_DEFAULTS
  ),
  "omniglot_pairs": DataSet(
    IMAGES,
    "ambiguous_pairs",
    flags=("data_dir",),
    source=_omniglot_pairs,
    arguments=_no_arguments,
    defaults=_PAIR_DEFAULTS,
  ),
  "sinusoid": DataSet(
    REGRESSION,
    "sinusoid",
    flags=("num_tasks",),
    arguments=_sinusoid,
    defaults=_SINUSOID_DEFAULTS,
    trainer_defaults=_SUMS_SINUSOID,
  ),
  "varied_sinusoid": DataSet(
    REGRESSION,
    "sinusoid",
    flags=("num_tasks",),
    arguments=_varied_sinusoid,
    defaults=_VARIED_SINUSOID_DEFAULTS,
    trainer_defaults=_SUMS_VARIED_SINUSOID,
  ),
  "sinusoid_or_line": DataSet(
    REGRESSION,
    "sinusoid_or_line",
    defaults=_SINUSOID_OR_LINE_DEFAULTS,
    trainer_defaults=_SUMS_SINUSOID_OR_LINE,
  ),
}

# If `--dataset` names none of the data sets above, it is one of these folders.
_DIRECTORY = DataSet(
  IMAGES,
  "tasks_from_directory",
  flags=("size", "channels"),
  source=_image_folder,
)
_EMBEDDINGS = DataSet(EMBEDDINGS, "embeddings", arguments=_embeddings_folder)
