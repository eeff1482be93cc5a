"""The workers of a run: their addresses in `TF_CONFIG`, and waiting for all.

TensorFlow itself would wait an hour for a missing worker, and neither
exceptions nor signals could end that wait.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import os
import socket
import time
from typing import Any

# Seconds between two attempts to reach the missing workers.
_PAUSE = 0.2


def read_cluster() -> dict[str, Any]:
  """Returns what the environment variable `TF_CONFIG` says.

  Raises:
    ValueError: If it does not hold a cluster and the task of this worker.
  """
  text = os.environ.get("TF_CONFIG", "")
  try:
    found = dict(json.loads(text or "{}"))
  except (TypeError, ValueError):
    found = {}
  if not all(isinstance(found.get(x), dict) for x in ("cluster", "task")):
    raise ValueError(
      "--strategy=multi_worker takes the addresses of all workers from the "
      "environment variable TF_CONFIG, which `python -m trainers.launch "
      "--workers=2 -- python -m trainers.maml ...` sets. "
      f"Received: TF_CONFIG={text!r}"
    )
  return found


def is_chief(config) -> bool:
  """Returns whether this process writes the results of the run."""
  if config.strategy != "multi_worker":
    return True
  found = read_cluster()
  first = "chief" if "chief" in found["cluster"] else "worker"
  task = found["task"]
  return task.get("type") == first and int(task.get("index", -1)) == 0


def wait_for_all(
  cluster: Mapping[str, Sequence[str]], task: Mapping, seconds: float
) -> None:
  """Listens at the address of this worker until all others listen at theirs.

  Args:
    cluster: Addresses `host:port` of all workers, by their jobs.
    task: The job (`type`) and the `index` of this worker.
    seconds: How long to wait at most.

  Raises:
    ValueError: If the cluster has no such task.
    TimeoutError: If a worker has not started in time.
    OSError: If another process listens at the address of this worker.
  """
  addresses = [one for job in cluster.values() for one in job]
  try:
    own = cluster[task["type"]][int(task["index"])]
  except (KeyError, IndexError, TypeError):
    raise ValueError(
      "The task in TF_CONFIG must be one of its cluster. "
      f"Received: cluster={dict(cluster)}, task={dict(task)}"
    ) from None
  with _listen(own):
    others = [one for one in addresses if one != own]
    _reach(others, len(addresses), seconds)


def _listen(address: str) -> socket.socket:
  port = int(address.rpartition(":")[2])
  try:
    return socket.create_server(("", port))
  except OSError as error:
    raise OSError(
      "This worker cannot listen at its address in TF_CONFIG: "
      f"{error.strerror}. Received: {address}"
    ) from error


def _reach(missing: list[str], count: int, seconds: float) -> None:
  end = time.monotonic() + seconds
  while missing := [one for one in missing if not _answers(one)]:
    if time.monotonic() > end:
      raise TimeoutError(
        f"Not all of the {count} workers have started within {seconds} "
        "seconds. Start each of them, at its address in TF_CONFIG; "
        "--startup_seconds gives them more time. Received: no answer from "
        f"{', '.join(missing)}"
      )
    time.sleep(_PAUSE)


def _answers(address: str) -> bool:
  host, _, port = address.rpartition(":")
  try:
    host = host.strip("[]")  # Brackets around an IPv6 address.
    socket.create_connection((host, int(port)), timeout=1.0).close()
  except OSError:
    return False
  return True
