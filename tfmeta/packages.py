"""Packages that are loaded where they are used, and not with tfmeta.

TensorFlow Probability and TensorFlow Datasets take seconds to load, and only
some learners and data sets need them. If a package is missing, everything that
does not need it still works.
"""

import importlib
from typing import Any


def probability() -> Any:
  """Returns the module `tensorflow_probability`.

  Raises:
    ImportError: If it or `tf_keras`, which it imports, is not installed.
  """
  return _load("tensorflow_probability", "tensorflow-probability tf-keras")


def datasets() -> Any:
  """Returns the module `tensorflow_datasets`.

  Raises:
    ImportError: If it is not installed.
  """
  return _load("tensorflow_datasets", "tensorflow-datasets")


def gymnasium() -> Any:
  """Returns the module `gymnasium`.

  Raises:
    ImportError: If it is not installed.
  """
  return _load("gymnasium", "gymnasium")


def mujoco() -> Any:
  """Returns the module `mujoco`, with its submodule `rollout`.

  Raises:
    ImportError: If it or `gymnasium`, which contains the models of the robots,
      is not installed.
  """
  _load("gymnasium", "'tfmeta[rl]'")
  _load("mujoco.rollout", "'tfmeta[rl]'")
  return _load("mujoco", "'tfmeta[rl]'")


def _load(module: str, requirement: str) -> Any:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(
      f"This needs a package that is not installed: pip install {requirement}. "
      f"Received: {error}"
    ) from error
