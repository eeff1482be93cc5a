"""Starts all workers of a run on this machine, and restarts them after a kill.

  python -m trainers.launch --workers=2 --
      python -m trainers.maml --strategy=multi_worker

The command after `--` is started once for each worker, with the addresses of
all workers in TF_CONFIG. Worker 0 writes the results; the output of the others
is printed with their number. If a worker is killed, the launcher stops the
others and starts all of them again, and the run resumes after the last finished
epoch. A worker that crashes counts as killed, and so does one that is suspended
for longer than `--grace_seconds`. No worker outlives the launcher. It is for
CPUs: to use the GPUs of one machine, run a single process with
`--strategy=mirrored`.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from absl import flags

from trainers.run import command_line
from trainers.run import orphans

_FLAGS = flags.FLAGS
# Seconds between two checks of the workers.
_PAUSE = 0.1

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Exit codes that a shell reports for a process that a signal has ended.
# Ctrl-C is a wish of the user, and not a fault.
_KILLED = {
  128 + number: number.name
  for number in signal.Signals
  if number != signal.SIGINT
}


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_integer(
    "workers", 2, "Number of worker processes.", lower_bound=1
  )
  flags.DEFINE_integer(
    "restarts",
    3,
    "How many times all workers are restarted after one was killed.",
    lower_bound=0,
  )
  flags.DEFINE_float(
    "grace_seconds",
    20.0,
    "Seconds that the other workers have to end by themselves, once one has "
    "failed or worker 0 has ended. A worker may be suspended for as long.",
    lower_bound=0.0,
  )


def run(
  arguments: Sequence[str],
  *,
  workers: int,
  restarts: int,
  grace_seconds: float,
) -> int:
  """Runs the command in all workers.

  Args:
    arguments: The command, as a list of words.
    workers: Number of processes.
    restarts: How many times to restart all of them after one was killed.
    grace_seconds: Seconds that the others have to end by themselves, once one
      has failed or worker 0 has ended.

  Returns:
    The exit code of the worker that failed first, as a shell reports it, or 0.
  """
  stopped = _Stopped()
  exit_codes: dict[int, int] = {}
  with contextlib.closing(orphans.Guard()) as guard:
    for left in range(restarts, -1, -1):
      exit_codes = _attempt(arguments, workers, grace_seconds, guard, stopped)
      killed = [index for index, code in exit_codes.items() if code in _KILLED]
      # Once worker 0 has ended, all results are written.
      if stopped.by or not killed or exit_codes.get(0) == 0:
        break
      name = _KILLED[exit_codes[killed[0]]]
      _say(f"worker {killed[0]} was killed ({name}); {_left(left)} left.")
  if stopped.by == signal.SIGINT:
    raise KeyboardInterrupt
  if stopped.by:
    return 128 + stopped.by
  return next((code for code in exit_codes.values() if code), 0)


class _Stopped:
  """The signal that asked the launcher to end.

  An exception would interrupt the launcher at any place, also while it ends
  its workers. It asks for the signal instead.
  """

  by = 0

  def __init__(self):
    for number in _STOPPING:
      # `nohup` ignores one of them.
      if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, self._set)

  def _set(self, number: int, _: Any) -> None:
    self.by = number


def _attempt(
  arguments, workers, grace_seconds, guard, stopped
) -> dict[int, int]:
  """Runs all workers once and returns the result of `_wait`."""
  processes: list[subprocess.Popen] = []
  try:
    for process in _start(arguments, workers, guard):
      processes.append(process)
    return _wait(processes, grace_seconds, stopped)
  finally:
    for process in processes:
      # The signal goes to the whole group, because a worker may have children.
      guard.end(process.pid)
      process.wait()


def _start(arguments, workers, guard) -> Iterator[subprocess.Popen]:
  """Starts the workers one by one and yields their processes."""
  addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
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
    guard.add(process.pid)
    yield process
    _say(f"worker {index} is process {process.pid}.")
    if index:
      threading.Thread(
        target=_relay, args=(index, process.stdout), daemon=True
      ).start()


def _wait(processes, grace_seconds, stopped) -> dict[int, int]:
  """Returns the exit codes by worker, in the order in which they ended.

  A worker that still runs `grace_seconds` after another has failed, or after
  worker 0 has ended, is left out, and so are all when the launcher shall end. A
  worker that is suspended for `grace_seconds` is killed: the others would wait
  for it forever.
  """
  exit_codes: dict[int, int] = {}
  suspended: dict[int, float] = {}
  end = math.inf
  while len(exit_codes) < len(processes) and time.monotonic() < end:
    if stopped.by:
      break
    for index, process in enumerate(processes):
      code = process.poll()
      if index in exit_codes:
        continue
      if code is None:
        _end_if_suspended(process, suspended, grace_seconds)
        continue
      # A shell reports signal n as 128 + n, and Python as -n.
      exit_codes[index] = code if code >= 0 else 128 - code
      if code or index == 0:
        end = min(end, time.monotonic() + grace_seconds)
    time.sleep(_PAUSE)
  return exit_codes


def _end_if_suspended(process, suspended, grace_seconds) -> None:
  """Kills a process that has been suspended (SIGSTOP) for too long.

  Args:
    process: The process.
    suspended: Since when processes are suspended, by their number. The process
      is entered or removed.
    grace_seconds: Seconds that it may stay so.
  """
  change = os.waitid(
    os.P_PID, process.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG
  )
  if change:
    suspended.pop(process.pid, None)
    if change.si_code == os.CLD_STOPPED:
      suspended[process.pid] = time.monotonic()
  if time.monotonic() > suspended.get(process.pid, math.inf) + grace_seconds:
    process.kill()


def free_ports(count: int) -> list[int]:
  """Returns ports of this machine that nothing listens at."""
  sockets = [socket.socket() for _ in range(count)]
  try:
    for one in sockets:
      one.bind(("127.0.0.1", 0))
    return [one.getsockname()[1] for one in sockets]
  finally:
    for one in sockets:
      one.close()


def _relay(index, stream) -> None:
  """Prints the output of a worker with its number."""
  for line in stream:
    sys.stderr.write(f"[worker {index}] {line.decode(errors='replace')}")


def _left(restarts) -> str:
  return "1 restart is" if restarts == 1 else f"{restarts} restarts are"


def _say(line) -> None:
  print(f"[launch] {line}", file=sys.stderr, flush=True)


def _check_strategy(arguments) -> None:
  """Refuses a trainer whose workers would each train a learner of their own."""
  is_trainer = any(word.startswith("trainers.") for word in arguments)
  text = " ".join(arguments).replace("=", " ")
  if is_trainer and not re.search(r"--?(strategy multi_worker|flagfile)", text):
    raise ValueError(
      "The workers of a trainer must train one learner together: add "
      f"--strategy=multi_worker to its command. Received: {' '.join(arguments)}"
    )


def main(arguments: Sequence[str]) -> int:
  """Runs the command that follows after `--`."""
  if len(arguments) < 2:
    raise ValueError(
      "The command of a worker must follow after --, as in `python -m "
      "trainers.launch --workers=2 -- python -m trainers.maml "
      "--strategy=multi_worker`. Received: nothing"
    )
  _check_strategy(arguments[1:])
  return run(
    arguments[1:],
    workers=_FLAGS.workers,
    restarts=_FLAGS.restarts,
    grace_seconds=_FLAGS.grace_seconds,
  )


if __name__ == "__main__":
  define()
  command_line.run(main, takes_arguments=True)
