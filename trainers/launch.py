"""Starts all workers of a run on this machine, and again if one is killed.

  python -m trainers.launch --workers=2 --
      python -m trainers.maml --strategy=multi_worker

Each worker is a process of the command after `--`, with the addresses of all
in TF_CONFIG. The first one reports; what the others say has their number before
it. If a worker is killed the rest is stopped and all start anew, going on after
the last finished epoch.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import flags

from trainers import command

_FLAGS = flags.FLAGS
_PAUSE = 0.1  # Seconds between two looks at the workers.
_TERMINATED = 143  # What a shell reports for SIGTERM.


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
    "Time for the others to end by themselves once one has.",
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
    The exit code: that of the first worker to fail, or 0.
  """
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
  for left in range(restarts, -1, -1):
    codes = _attempt(arguments, workers, grace_seconds)
    killed = [index for index, code in enumerate(codes) if code < 0]
    if not killed:
      break
    _say(f"worker {killed[0]} was killed; {left} restarts are left.")
  return next((abs(code) for code in codes if code), 0)


def _attempt(arguments, workers, grace_seconds) -> list[int]:
  processes = _start(arguments, workers)
  try:
    return _codes_of(processes, grace_seconds)
  finally:
    for process in processes:
      process.kill()
      process.wait()


def _start(arguments, workers) -> list[subprocess.Popen]:
  addresses = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
  processes = []
  for index in range(workers):
    task = {"type": "worker", "index": index}
    configuration = {"cluster": {"worker": addresses}, "task": task}
    environment = {**os.environ, "TF_CONFIG": json.dumps(configuration)}
    pipe = subprocess.PIPE if index else None
    process = subprocess.Popen(
      arguments, env=environment, stdout=pipe, stderr=pipe and subprocess.STDOUT
    )
    _say(f"worker {index} is process {process.pid}.")
    if index:
      threading.Thread(target=_relay, args=(index, process.stdout)).start()
    processes.append(process)
  return processes


def _codes_of(processes, grace_seconds) -> list[int]:
  """Exit codes of all; 0 for one that goes on long after another failed."""
  end = None
  while any(process.poll() is None for process in processes):
    now = time.monotonic()
    if end is None and any(process.poll() for process in processes):
      end = now + grace_seconds
    if end is not None and now > end:
      break
    time.sleep(_PAUSE)
  return [process.poll() or 0 for process in processes]


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
