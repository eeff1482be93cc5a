"""The workers of a run: their addresses in `TF_CONFIG`, and waiting for all.

TensorFlow itself would wait an hour for a missing worker, and neither
exceptions nor signals could end that wait.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import errno
import json
import os
import re
import socket
import time
from typing import Any

# Seconds between two attempts to reach the missing workers.
_PAUSE = 0.2

# Characters of TF_CONFIG that a message repeats at most.
_SHOWN = 200


def read_cluster() -> dict[str, Any]:
  """Returns what the environment variable `TF_CONFIG` says.

  Raises:
    ValueError: If it does not hold a cluster and the task of this worker.
  """
  text = os.environ.get("TF_CONFIG", "")
  try:
    found = json.loads(text or "{}")
  except (ValueError, RecursionError):  # No JSON, or nested too deeply.
    found = {}
  if not isinstance(found, dict) or not all(
    isinstance(found.get(name), dict) for name in ("cluster", "task")
  ):
    raise ValueError(
      "--strategy=multi_worker takes the addresses of all workers from the "
      "environment variable TF_CONFIG, which `python -m trainers.launch "
      "--workers=2 -- python -m trainers.maml ...` sets. "
      f"Received: TF_CONFIG={_shortened(text)}"
    )
  wrong = _wrong_address(found["cluster"]) or _wrong_task(**found)
  if wrong:
    raise ValueError(f"{wrong}. Received: TF_CONFIG={_shortened(text)}")
  found["task"]["index"] = int(found["task"]["index"])
  return found


def _wrong_address(cluster: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with the addresses of a cluster, or `None`."""
  jobs = list(cluster.values())
  lists = jobs and all(isinstance(job, list) and job for job in jobs)
  addresses = [one for job in jobs for one in job] if lists else [None]
  if not all(isinstance(one, str) and _is_address(one) for one in addresses):
    return (
      "Each job of the cluster in TF_CONFIG must be a list of addresses "
      "`host:port`, with ports from 1 to 65535"
    )
  if len(set(addresses)) < len(addresses):
    return "Each worker in TF_CONFIG must have an address of its own"
  return None


def _wrong_task(
  cluster: Mapping[str, Any], task: Mapping[str, Any], **_: Any
) -> str | None:
  """Returns what is wrong with the task of this worker, or `None`."""
  job: Any = task.get("type")
  index: Any = task.get("index")
  known = isinstance(job, str) and job in cluster
  whole = not isinstance(index, bool) and re.fullmatch(r"\d{1,9}", str(index))
  if known and whole and int(index) < len(cluster[job]):
    return None
  return (
    "The task in TF_CONFIG must be one of its cluster, with a `type` and an "
    "`index` from 0"
  )


def _is_address(text: str) -> bool:
  host, _, port = text.rpartition(":")
  valid = re.fullmatch(r"\d{1,5}", port) and 1 <= int(port) <= 65535
  return bool(host and valid)


def _shortened(text: str) -> str:
  return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def is_chief(config) -> bool:
  """Returns whether this process writes the results of the run."""
  if config.strategy != "multi_worker":
    return True
  found = read_cluster()
  first = "chief" if "chief" in found["cluster"] else "worker"
  return found["task"]["type"] == first and found["task"]["index"] == 0


def wait_for_all(
  cluster: Mapping[str, Sequence[str]], task: Mapping[str, Any], seconds: float
) -> None:
  """Listens at the address of this worker until all others listen at theirs.

  Args:
    cluster: Addresses `host:port` of all workers, by their jobs.
    task: The job (`type`) and the `index` of this worker.
    seconds: How long to wait at most.

  Raises:
    TimeoutError: If a worker has not started in time.
    OSError: If another process listens at the address of this worker.
  """
  addresses = [one for job in cluster.values() for one in job]
  own = cluster[task["type"]][int(task["index"])]
  with _listen(own):
    others = [one for one in addresses if one != own]
    _reach(others, len(addresses), seconds)


def _listen(address: str) -> socket.socket:
  """Listens at an address of this machine alone, if it has that address."""
  host, _, port = address.rpartition(":")
  try:
    return _server(host.strip("[]"), int(port))
  except OSError as error:
    raise OSError(
      "This worker cannot listen at its address in TF_CONFIG: "
      f"{error.strerror}. Received: {address}"
    ) from error


def _server(host: str, port: int) -> socket.socket:
  try:
    family, *_, where = socket.getaddrinfo(host, port)[0]
    return socket.create_server(where[:2], family=family)
  except OSError as error:
    # The others may know this machine by an address that it does not have,
    # such as that of a container's host.
    unknown = isinstance(error, socket.gaierror)
    if not unknown and error.errno != errno.EADDRNOTAVAIL:
      raise
    return socket.create_server(("", port))


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
