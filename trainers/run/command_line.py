"""Runs a command, and reports a user's mistake in one sentence."""

from collections.abc import Callable
from collections.abc import Sequence
import errno
import functools
import os
import sys
from typing import Any

from absl import app
from absl import flags as absl_flags
from absl import logging

from trainers.run import data_sets
from trainers.run import flags
from trainers.run import kernels

# Counts the flags as those of the trainer, so that its --help shows them.
absl_flags.disclaim_key_flags()

# Exit code by which a shell reports Ctrl-C.
INTERRUPTED = 130
# The same for output that nobody reads.
UNREAD = 141

# TensorFlow begins the messages of errors in user code that it traces like
# this. They tell of a fault of the program, and their text is a traceback.
_WHILE_TRACING = "in user code"

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def run(main: Callable[..., Any], *, takes_arguments: bool = False) -> None:
  """Parses the flags, runs `main` and exits.

  Args:
    main: Function of the command line, as `absl.app.run` takes it.
    takes_arguments: Whether words that are not flags are allowed.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    app.run(functools.partial(attempt, main, takes_arguments=takes_arguments))
  except BrokenPipeError:
    # A program such as `head` has read enough of the help. Python would fail
    # once more when it closes standard output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(UNREAD)


def train(trainer: flags.Trainer) -> None:
  """Defines and parses the flags of a trainer, makes its run and exits."""
  flags.define(trainer, absl_flags.FLAGS)

  def main(_: Sequence[str]) -> None:
    config = flags.read(trainer, absl_flags.FLAGS)
    data_sets.check_exists(config)
    if config.is_images:
      kernels.prepare(config.meta_batch_size)
    # TensorFlow loads here at the latest, so --help stays quick.
    from trainers.run import training

    training.run(config)

  run(main)


def attempt(
  main: Callable[..., Any],
  arguments: Sequence[str],
  *,
  takes_arguments: bool = False,
) -> int | None:
  """Runs `main` and returns the exit code.

  An error that a user can correct (a wrong flag, a missing file or package, a
  full disk, a loss that became NaN) is reported in one sentence on standard
  error, with exit code 1. `--verbosity=1` adds the traceback. Any other error
  is a fault of the program and keeps its traceback.
  """
  if len(arguments) > 1 and not takes_arguments:
    return _fail(f"Flags must begin with --. Received: {arguments[1]}")
  if not absl_flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
  try:
    return main(arguments)
  except KeyboardInterrupt:
    _fail("Stopped. The same command resumes after the last finished epoch.")
    return INTERRUPTED
  except (ValueError, OSError, ArithmeticError, ImportError) as error:
    if _is_fault_of_program(error):
      raise
    logging.debug("Traceback of the error:", exc_info=True)
    return _fail(_sentence(error))


def _is_fault_of_program(error: Exception) -> bool:
  if isinstance(error, ImportError):
    # Python names the module that an `import` statement has not found. Errors
    # that say which package to install name none.
    return error.name is not None
  return str(error).startswith(_WHILE_TRACING)


def _fail(sentence: str) -> int:
  print(f"error: {sentence}", file=sys.stderr)
  return 1


def _sentence(error: Exception) -> str:
  """Returns the message on one line; lists after an empty line stay lists."""
  if isinstance(error, OSError) and error.strerror:
    where = f": {error.filename}" if error.filename else ""
    full = error.errno in _DISK_FULL
    advice = ". Free some space and start the run again." if full else ""
    return f"{error.strerror}{where}{advice}"
  first, *lists = str(error).split("\n\n")
  sentence = " ".join(first.split()) or type(error).__name__
  return "\n\n".join([sentence, *lists])
