"""How the cores of a CPU are divided between tasks and operations."""

import os
import platform
import sys

import tensorflow as tf

from tfmeta import arguments
from tfmeta.core import keras_internals

# A task map runs at most this many tasks at once, because each takes memory.
MOST_TASKS = 10

# Not every system tells which cores a process may use.
_HAS_AFFINITY = hasattr(os, "sched_getaffinity")

# The environment of TensorFlow.
_INTRA = "TF_NUM_INTRAOP_THREADS"


def cores() -> int:
  """Returns the number of cores that this process may use."""
  return len(os.sched_getaffinity(0)) if _HAS_AFFINITY else os.cpu_count() or 1


def is_x86() -> bool:
  """Returns whether the processor is one for which oneDNN can be chosen."""
  return platform.machine() in ("x86_64", "AMD64")


def tasks_at_once(tasks: int | None = None) -> int:
  """Returns how many tasks a task map computes at the same time.

  Args:
    tasks: Number of tasks in a batch. Defaults to `None`: at least as many as
      there are cores.
  """
  most = min(cores(), MOST_TASKS)
  return most if tasks is None else min(most, tasks)


def configure(*, tasks: int | None = None, verbose: bool = True) -> str:
  """Makes TensorFlow compute tasks in parallel, on cores of their own.

  By default, TensorFlow divides each operation between all cores, and tasks
  that run at the same time wait for one another. After this call, an operation
  takes as many threads as a task has cores. Convolutional networks, whose tasks
  are mapped one by one, then train about a quarter faster on two cores. Small
  dense networks run faster too. Leave the call out for large dense networks on
  many cores, whose tasks run in one batch.

  TensorFlow reads the number of its threads when it starts, so this function
  must be called before the first tensor or model is made. It changes nothing if
  the number of threads was set, by `tf.config.threading` or in the environment,
  or if there is a GPU.

  TensorFlow decides when it is imported whether it uses oneDNN, and on some
  processors it does not, though convolutions would run faster. If so, the
  returned line says what to set in the environment.

  Args:
    tasks: Integer >= 1, the number of tasks in a batch. Defaults to `None`: at
      least as many as there are cores.
    verbose: Whether to write the returned line to standard error. Defaults to
      `True`.

  Returns:
    One line that says what was chosen.

  Example:
  ```python
  import keras
  import tfmeta

  tfmeta.configure(tasks=8)
  model = tfmeta.models.conv4((28, 28, 1), ways=5)
  ```
  """
  if tasks is not None:
    arguments.check_integer("tasks", tasks, least=1)
  line = f"tfmeta: {_divide_cores(tasks)}{_kernels()}"
  if verbose:
    sys.stderr.write(f"{line}\n")
  return line


def _divide_cores(tasks: int | None) -> str:
  if tf.config.list_physical_devices("GPU"):
    return "threads are not changed, because there is a GPU."
  given = os.environ.get(_INTRA) or 0
  given = given or tf.config.threading.get_intra_op_parallelism_threads()
  if given:
    return f"threads of an operation: {given}, as set before."
  at_once = tasks_at_once(tasks)
  # Rounded up, so that no core is left idle.
  each = -(-cores() // at_once)
  try:
    tf.config.threading.set_intra_op_parallelism_threads(each)
  except RuntimeError:
    return (
      "threads are not changed, because TensorFlow has started: call "
      "`tfmeta.configure` before the first tensor or model is made."
    )
  return (
    f"{cores()} cores, up to {at_once} tasks at once, threads of an "
    f"operation: {each}."
  )


def _kernels() -> str:
  # Elsewhere, TensorFlow is built without oneDNN, or uses it for other things.
  if keras_internals.uses_onednn() or not is_x86():
    return ""
  return (
    " oneDNN is off: convolutions may run faster with TF_ENABLE_ONEDNN_OPTS=1"
    " in the environment before TensorFlow is imported."
  )
