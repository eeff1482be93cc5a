"""How the tasks of an update share the cores of a CPU."""

import os

# So many tasks are in work at once, if there are as many cores.
_MOST_TASKS = 10

# Not all systems tell which cores a process may use.
_KNOWS_OWN = hasattr(os, "sched_getaffinity")


def share_out(tasks: int) -> None:
  """Gives each task in work cores of its own, before TensorFlow loads.

  For networks that take tasks one by one. TensorFlow would split each operation
  over all cores, and the tasks beside each other would wait for the same ones.
  What the environment says stays.

  Args:
    tasks: Tasks in a batch.
  """
  cores = len(os.sched_getaffinity(0)) if _KNOWS_OWN else os.cpu_count() or 1
  at_once = min(cores, _MOST_TASKS, tasks)
  threads = {
    "TF_NUM_INTEROP_THREADS": cores,
    "TF_NUM_INTRAOP_THREADS": -(-cores // at_once),
  }
  for name, count in threads.items():
    os.environ.setdefault(name, str(count))
