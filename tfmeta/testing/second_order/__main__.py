"""The command line of `check_second_order`, for a model in a file.

  python -m tfmeta.testing.second_order model.keras [--input_shape 28 28 1]

The exit code is 0 if the second derivatives are right, 1 if they are wrong or
the check is undecided, and 2 if the model could not be checked. In the last
case one sentence on the standard error output says why.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

import keras
import numpy as np

from tfmeta.algorithms import meta_learner
from tfmeta.testing.second_order import check

_EXAMPLES = 10
RIGHT, WRONG, BAD_INPUT = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
  """Checks the model in a file and prints the report.

  Args:
    argv: Arguments of the command. Defaults to the arguments of the process.

  Returns:
    The exit code: 0 if the second derivatives are right, 1 if they are wrong or
    the check is undecided, 2 if the model could not be checked.
  """
  arguments = _parser().parse_args(argv)
  try:
    model = load(arguments.model)
    x = random_inputs(model, arguments.input_shape, arguments.seed)
    report = check.check_second_order(
      model, x, modes=arguments.modes, seed=arguments.seed
    )
  except (OSError, TypeError, ValueError) as error:
    sys.stderr.write(f"cannot check {arguments.model}: {error}\n")
    return BAD_INPUT
  sys.stdout.write(f"{report}\n")
  return RIGHT if report.passed else WRONG


def load(path: str) -> keras.Model:
  """Loads a model, or the model inside a learner.

  Args:
    path: A `.keras` file.

  Raises:
    ValueError: If there is no file at `path` that Keras can load as a model.
  """
  if not pathlib.Path(path).is_file():
    raise ValueError("there is no such file")
  try:
    model = keras.saving.load_model(path, compile=False)
  except Exception as error:  # A broken file may raise anything inside Keras.
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0].split(". ")[0]
    raise ValueError(f"Keras does not load it as a model ({first})") from error
  return model.model if isinstance(model, meta_learner.MetaLearner) else model


def random_inputs(
  model: keras.Model, shape: Sequence[int] | None, seed: int
) -> np.ndarray:
  """Samples inputs for `model`: standard normal, or 0 and 1 for integers.

  Args:
    model: A model with one input.
    shape: Shape of one example, or `None` to take it from the model.
    seed: Seed of the random numbers.

  Returns:
    `[10, *shape]` inputs.

  Raises:
    ValueError: If `shape` is needed, or does not fit the model.
  """
  known = model.inputs or []
  if len(known) > 1:
    raise ValueError(f"the model has {len(known)} inputs instead of one")
  expected = tuple(known[0].shape[1:]) if known else None
  if shape is None and (expected is None or None in expected):
    raise ValueError(f"its input shape is {expected}: give --input_shape")
  sizes = tuple(shape or expected or ())
  if expected is not None and not _fits(sizes, expected):
    raise ValueError(f"it takes inputs of shape {expected}, not {sizes}")
  generator = np.random.default_rng(seed)
  if known and "int" in known[0].dtype:
    return generator.integers(0, 2, (_EXAMPLES, *sizes))
  return generator.standard_normal((_EXAMPLES, *sizes))


def _fits(sizes, expected):
  pairs = zip(sizes, expected, strict=False)
  same_rank = len(sizes) == len(expected)
  return same_rank and all(want in (None, size) for size, want in pairs)


def _parser():
  parser = argparse.ArgumentParser(
    prog="python -m tfmeta.testing.second_order",
    description="Checks the second derivatives of a Keras model.",
    epilog="Exit code: 0 right, 1 wrong, 2 cannot be checked.",
  )
  parser.add_argument("model", help="a .keras file: a model or a learner")
  parser.add_argument(
    "--input_shape",
    type=int,
    nargs="+",
    help="shape of one example; needed if the model leaves it open",
  )
  parser.add_argument(
    "--modes",
    nargs="+",
    choices=check.MODES,
    default=check.MODES,
    help="modes to check (compiling takes longest); default: both",
  )
  parser.add_argument(
    "--seed", type=int, default=0, help="seed of the random inputs; default: 0"
  )
  return parser


if __name__ == "__main__":
  raise SystemExit(main())
