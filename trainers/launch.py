"""Starts all workers of a run on this machine, and again if one is killed.

  python -m trainers.launch --workers=2 --
      python -m trainers.maml --strategy=multi_worker

Each worker is a process of the command after `--`, with the addresses of all
in TF_CONFIG. The first one reports; what the others say has their number before
it. If a worker is killed the rest is stopped and all start anew, going on after
the last finished epoch. It is for CPUs: the GPUs of one machine are shared by
`--strategy=mirrored`, in one process.
"""

from collections.abc import Iterator
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import flags

from trainers.run import command

_FLAGS = flags.FLAGS
_PAUSE = 0.1  # Seconds between two looks at the workers.
# Exit codes of what something else has stopped, not a fault of its own.
_KILLED = (128 + signal.SIGKILL, 128 + signal.SIGTERM)


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_integer("workers", 2, "How many processes.", lower_bound=1)
  flags.DEFINE_integer(
    "restarts",
    3,
    "How often all workers are started anew after one was killed.",
    lower_bound=0,
  )
  flags.DEFINE_float(
    "grace_seconds",
    20.0,
    "Time for the others to end by themselves, once one has failed or the "
    "first has ended.",
    lower_bound=0.0,
  )


def run(arguments, *, workers, restarts, grace_seconds) -> int:
  """Runs the command in all workers.

  Args:
    arguments: The command, as a list.
    workers: How many processes.
    restarts: How often to start anew after one was killed.
    grace_seconds: As in the flag.

  Returns:
    The exit code: that of the worker that failed first, as a shell reports it,
    or 0.
  """
  for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: sys.exit(128 + number))
  for left in range(restarts, -1, -1):
    codes = _attempt(arguments, workers, grace_seconds)
    killed = [index for index, code in codes.items() if code in _KILLED]
    if not killed or codes.get(0) == 0:
      break
    _say(f"worker {killed[0]} was killed; {left} restarts are left.")
  return next((code for code in codes.values() if code), 0)


def _attempt(arguments, workers, grace_seconds) -> dict[int, int]:
  """Exit codes by worker, in the order in which they ended."""
  processes: list[subprocess.Popen] = []
  try:
    for process in _start(arguments, workers):
      processes.append(process)
    return _codes_of(processes, grace_seconds)
  finally:
    for process in processes:
      # Its children too: a worker may be a script.
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()


def _start(arguments, workers) -> Iterator[subprocess.Popen]:
  addresses = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
  for index in range(workers):
    task = {"type": "worker", "index": index}
    configuration = {"cluster": {"worker": addresses}, "task": task}
    environment = {**os.environ, "TF_CONFIG": json.dumps(configuration)}
    pipe = subprocess.PIPE if index else None
    process = subprocess.Popen(
      arguments,
      env=environment,
      stdout=pipe,
      stderr=pipe and subprocess.STDOUT,
      start_new_session=True,
    )
    yield process
    _say(f"worker {index} is process {process.pid}.")
    if index:
      threading.Thread(
        target=_relay, args=(index, process.stdout), daemon=True
      ).start()


def _codes_of(processes, grace_seconds) -> dict[int, int]:
  """Exit codes by worker, in the order in which they ended.

  A worker that goes on long after another has failed, or the first has ended,
  is left out.
  """
  codes: dict[int, int] = {}
  end = math.inf
  while len(codes) < len(processes) and time.monotonic() < end:
    for index, process in enumerate(processes):
      code = process.poll()
      if code is None or index in codes:
        continue
      # As a shell reports signals.
      codes[index] = code if code >= 0 else 128 - code
      if code or index == 0:
        end = min(end, time.monotonic() + grace_seconds)
    time.sleep(_PAUSE)
  return codes


def _free_ports(count) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  try:
    for one in sockets:
      one.bind(("127.0.0.1", 0))
    return [one.getsockname()[1] for one in sockets]
  finally:
    for one in sockets:
      one.close()


def _relay(index, stream):
  for line in stream:
    sys.stderr.write(f"[worker {index}] {line.decode(errors='replace')}")


def _say(line):
  print(f"[launch] {line}", file=sys.stderr, flush=True)


def main(arguments) -> int:
  """Runs what comes after `--`."""
  if len(arguments) < 2:
    raise ValueError(
      "After -- must come the command of a worker, as in `python -m "
      "trainers.launch --workers=2 -- python -m trainers.maml "
      "--strategy=multi_worker`. Received: nothing"
    )
  return run(
    arguments[1:],
    workers=_FLAGS.workers,
    restarts=_FLAGS.restarts,
    grace_seconds=_FLAGS.grace_seconds,
  )


if __name__ == "__main__":
  define()
  command.run(main, takes_arguments=True)
