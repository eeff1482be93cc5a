"""Settings that a data set needs, as values of flags.

They are applied whenever the data set is chosen; presets go before them, and
what the command line says goes before both.
"""

from typing import Any

_SINUSOID: dict[str, Any] = {
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

_SINUSOID_OR_LINE = {
  **_SINUSOID,
  "shots": 5,
  "query_shots": 50,
  "train_query_shots": 50,
  "hidden": [100, 100, 100],
  "inner_steps": 5,
  "inner_learning_rate": 0.001,
}

# Those of the paper of BMAML, but for the length.
_VARIED_SINUSOID = {
  **_SINUSOID,
  "shots": 5,
  "query_shots": 50,
  "train_query_shots": 5,
  "hidden": [40, 40, 40],
  "meta_batch_size": 10,
}

_PAIRS = {"ways": 2, "shots": 1, "query_shots": 12, "train_query_shots": 12}

DATASETS = {
  "glyph_pairs": _PAIRS,
  "omniglot_pairs": _PAIRS,
  "sinusoid": _SINUSOID,
  "sinusoid_or_line": _SINUSOID_OR_LINE,
  "varied_sinusoid": _VARIED_SINUSOID,
}

# Gradients of a log-posterior are sums over examples, and large where little
# noise is expected.
_BY_TRAINER = {
  ("bmaml", "sinusoid"): {"inner_learning_rate": 0.001},
  ("bmaml", "sinusoid_or_line"): {"inner_learning_rate": 0.0001},
  ("bmaml", "varied_sinusoid"): {"inner_learning_rate": 0.001},
}


def of_run(trainer: str, dataset: str) -> dict[str, Any]:
  """Settings for a trainer on a data set."""
  return {
    **DATASETS.get(dataset, {}),
    **_BY_TRAINER.get((trainer, dataset), {}),
  }
