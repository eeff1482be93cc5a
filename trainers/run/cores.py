"""Divides the cores of a CPU between the tasks of an update."""

import os

# The most tasks that the task map computes at once.
_MOST_TASKS = 10

# Not every system tells which cores a process may use.
_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


def share_out(tasks: int) -> None:
  """Makes TensorFlow compute tasks in parallel, on cores of their own.

  Call this before TensorFlow loads, for networks whose tasks are mapped one by
  one. By default, TensorFlow divides each operation between all cores, and
  tasks that run at the same time wait for one another. Variables that the
  environment already sets are kept.

  Args:
    tasks: Number of tasks in a batch.
  """
  cores = len(os.sched_getaffinity(0)) if _HAS_AFFINITY else os.cpu_count() or 1
  at_once = min(cores, _MOST_TASKS, tasks)
  threads = {
    "TF_NUM_INTEROP_THREADS": cores,
    # Rounded up, so that no core is left idle.
    "TF_NUM_INTRAOP_THREADS": -(-cores // at_once),
  }
  for name, count in threads.items():
    os.environ.setdefault(name, str(count))
