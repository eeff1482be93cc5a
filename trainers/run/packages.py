"""Packages that only trainers need: `pip install tfmeta[trainers]`."""

import importlib.util

_PURPOSES = {
  "matplotlib": "plot their results",
  "tensorboard": "log their progress",
}


def check_installed(*names: str) -> None:
  """Checks that packages are installed, without loading them.

  A trainer calls this before it trains: a run of hours should not fail when its
  results are plotted.

  Args:
    *names: "matplotlib" or "tensorboard".

  Raises:
    ImportError: If one is missing.
  """
  for name in names:
    if importlib.util.find_spec(name) is None:
      raise ImportError(
        f"Trainers {_PURPOSES[name]} with {name}, which is not installed: pip "
        f"install 'tfmeta[trainers]', or pip install {name}. "
        f"Received: no package {name!r}"
      )
