"""Trains on disks that are too small, then on enough, and compares the ends.

`tests.endurance` starts this program. It prints one JSON object for each disk.
Each disk is a file system in memory that only the run can see. Linux lets a
user mount it in a name space of his own. Where it does not, nothing is printed.
"""

import json
import pathlib
import re
import subprocess
import tempfile
from typing import Any

from absl import app
from absl import flags
import numpy as np

from tests.endurance import runs

_DISKS = flags.DEFINE_integer("disks", 4, "Number of sizes.")
_TRAINER = flags.DEFINE_string("trainer", "maml", "Key of `runs.COMMANDS`.")

_SMALLEST = 2**14  # Bytes.
_ENOUGH = "1g"

# Arguments: disk, size, folder for what is kept, command.
_SCRIPT = """
disk=$1; size=$2; kept=$3; shift 3
mount -t tmpfs -o size=$size tmpfs $disk || exit 1
"$@" --workdir=$disk/run > $kept/first.log 2>&1
echo $? > $kept/code
mkdir $kept/first
cp -r $disk/run/checkpoints $kept/first 2> /dev/null
mount -o remount,size=ENOUGH $disk
"$@" --workdir=$disk/run > $kept/second.log 2>&1 || exit 1
cp -r $disk/run $kept/second
""".replace("ENOUGH", _ENOUGH)


def train(name: str, size: int | str, kept: pathlib.Path) -> bool:
  """Trains twice, first on a disk of that size; returns whether it may."""
  kept.mkdir()
  with tempfile.TemporaryDirectory(prefix="tfmeta_disk_") as disk:
    done = subprocess.run(
      [
        *("unshare", "--map-root-user", "--mount", "sh", "-c", _SCRIPT, "sh"),
        *(disk, str(size), str(kept)),
        *runs.COMMANDS[name],
      ],
      cwd=runs.ROOT,
      stdin=subprocess.DEVNULL,
      check=False,
    )
  if not (kept / "code").exists():
    return False
  if done.returncode:
    raise RuntimeError((kept / "second.log").read_text()[-2000:])
  return True


def row_of(size: int, kept: pathlib.Path, expected: Any) -> dict[str, Any]:
  """Returns what happened on a disk that was too small."""
  code = int((kept / "code").read_text())
  said = (kept / "first.log").read_text(errors="replace").strip()
  sentence = said.splitlines()[-1] if code else ""
  # The folder differs from run to run.
  sentence = re.sub(r"/\S*tfmeta_disk_[^/\s]*", "DISK", sentence)
  second = kept / "second"
  return {
    "bytes": size,
    "exit_code": code,
    "said": sentence,
    "is_sentence": not code or _is_sentence(sentence),
    "tracebacks": said.count("Traceback (most recent call last)"),
    "epochs": runs.finished_epochs(kept / "first"),
    "differences": runs.differences(
      expected, runs.fingerprints(second), second
    ),
  }


def _is_sentence(said: str) -> bool:
  """Returns whether a message is whole and has no names of TensorFlow's own."""
  return said.startswith("error: ") and said.endswith(".") and "{{" not in said


def main(_) -> None:
  name = _TRAINER.value
  with tempfile.TemporaryDirectory(prefix="tfmeta_kept_") as parent:
    whole = pathlib.Path(parent, "whole")
    if not train(name, _ENOUGH, whole):
      return
    expected = runs.fingerprints(whole / "second")
    most = sum(p.stat().st_size for p in (whole / "second").rglob("*"))
    for size in np.geomspace(_SMALLEST, most, _DISKS.value).astype(int):
      kept = pathlib.Path(parent, str(size))
      train(name, int(size), kept)
      print(json.dumps(row_of(int(size), kept, expected)), flush=True)


if __name__ == "__main__":
  app.run(main)
