"""Waits until all workers of a run are there.

TensorFlow would wait for an hour, where no exception and no signal reaches it.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import socket
import time

_PAUSE = 0.2  # Seconds between two knocks.


def wait(
  cluster: Mapping[str, Sequence[str]], task: Mapping, seconds: float
) -> None:
  """Listens at this worker's address until all others listen at theirs.

  Args:
    cluster: Addresses `host:port` of all workers, by their jobs.
    task: The job `type` and `index` of this one.
    seconds: How long to wait.

  Raises:
    ValueError: If there is no such task in the cluster.
    TimeoutError: If a worker has not come in time.
    OSError: If another process listens at this worker's address.
  """
  addresses = [one for job in cluster.values() for one in job]
  try:
    own = cluster[task["type"]][int(task["index"])]
  except (KeyError, IndexError, TypeError):
    raise ValueError(
      "The task in TF_CONFIG must be one of its cluster. "
      f"Received: cluster={dict(cluster)}, task={dict(task)}"
    ) from None
  with _listening(own):
    _knock([one for one in addresses if one != own], len(addresses), seconds)


def _listening(address: str) -> socket.socket:
  port = int(address.rpartition(":")[2])
  try:
    return socket.create_server(("", port))
  except OSError as error:
    raise OSError(
      f"This worker can not listen at its address in TF_CONFIG: "
      f"{error.strerror}. Received: {address}"
    ) from error


def _knock(missing: list[str], count: int, seconds: float) -> None:
  end = time.monotonic() + seconds
  while missing := [one for one in missing if not _answers(one)]:
    if time.monotonic() > end:
      raise TimeoutError(
        f"Not all of the {count} workers have come within {seconds} seconds. "
        "Start every one of them, at the addresses in TF_CONFIG; "
        "--startup_seconds gives them more time. Received: nothing from "
        f"{', '.join(missing)}"
      )
    time.sleep(_PAUSE)


def _answers(address: str) -> bool:
  host, _, port = address.rpartition(":")
  try:
    host = host.strip("[]")
    socket.create_connection((host, int(port)), timeout=1.0).close()
  except OSError:
    return False
  return True
