"""Runs a trainer, and says in one sentence what was wrong."""

import errno
import functools
import os
import sys

from absl import app
from absl import flags
from absl import logging

from trainers.run import cores

# How TensorFlow begins messages of errors that building a graph ran into.
_IN_A_GRAPH = "in user code"

INTERRUPTED = 130  # What a shell reports for Ctrl-C.


def run(main, *, takes_arguments=False) -> None:
  """Parses the flags, runs `main` and exits."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  app.run(functools.partial(attempt, main, takes_arguments=takes_arguments))


def train(read) -> None:
  """Parses the flags, makes the run that `read` says, and exits."""

  def main(_):
    settings = read()
    if settings.is_images:
      cores.share_out(settings.meta_batch_size)
    from trainers.run import (
      training,
    )  # TensorFlow loads here: --help stays quick.

    training.run(settings)

  run(main)


def attempt(main, arguments, *, takes_arguments=False) -> int | None:
  """Runs `main`; returns the exit code.

  What a user can put right (a wrong flag, missing data, a full disk, a loss
  gone NaN) becomes one sentence on standard error and exit code 1; with
  --verbosity=1 the traceback comes too. Anything else is a fault of the program
  and keeps its traceback.
  """
  if len(arguments) > 1 and not takes_arguments:
    return _fail(f"Flags begin with --. Received: {arguments[1]}")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
  try:
    return main(arguments)
  except KeyboardInterrupt:
    _fail("Stopped; the same command goes on after the last finished epoch.")
    return INTERRUPTED
  except (ValueError, OSError, ArithmeticError) as error:
    if str(error).startswith(_IN_A_GRAPH):
      raise
    logging.debug("Where it happened:", exc_info=True)
    return _fail(_sentence(error))


def _fail(sentence):
  print(f"error: {sentence}", file=sys.stderr)
  return 1


def _sentence(error):
  """The message of `error`, on one line; lists after a blank line stay."""
  if isinstance(error, OSError) and error.strerror:
    where = f": {error.filename}" if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    advice = ". Make room and start the run again." if full else ""
    return f"{error.strerror}{where}{advice}"
  first, *lists = str(error).split("\n\n")
  sentence = " ".join(first.split()) or type(error).__name__
  return "\n\n".join([sentence, *lists])
