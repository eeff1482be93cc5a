"""Measures how many tasks per second a data set delivers on its own."""

import argparse
import json
import time

import tensorflow as tf

from benchmarks.shared import workload
import tfmeta

# Tasks that Python takes at once, by case. Learners of sinusoids run many
# updates in one call.
BATCHES = {"conv4": 32, "sinusoid": 2500}


def main() -> None:
  """Prints the speed of one data set as a line of JSON."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--dataset", choices=workload.CONSUMERS)
  parser.add_argument(
    "--data_dir", help="folder in which TFDS has prepared Omniglot"
  )
  parser.add_argument("--seconds", type=float, default=8.0)
  args = parser.parse_args()
  batch = BATCHES[workload.CONSUMERS[args.dataset]]
  tasks = iter(_make_tasks(args.dataset, args.data_dir).batch(batch))
  begin = time.perf_counter()
  next(tasks)
  first_call = time.perf_counter() - begin
  done, begin = 0, time.perf_counter()
  while not done or time.perf_counter() - begin < args.seconds:
    next(tasks)
    done += batch
  elapsed = time.perf_counter() - begin
  found = {"tasks_per_second": done / elapsed, "first_call_seconds": first_call}
  print(json.dumps(found))


def _make_tasks(dataset: str, data_dir: str | None) -> tf.data.Dataset:
  case = workload.CASES[workload.CONSUMERS[dataset]]
  spec = tfmeta.TaskSpec(
    ways=case.ways, shots=case.shots, query_shots=case.query_shots
  )
  if dataset == "sinusoid":
    return tfmeta.data.sinusoid("train", spec, seed=0)
  if dataset == "omniglot":
    return tfmeta.data.omniglot("train", spec, seed=0, data_dir=data_dir)
  return tfmeta.data.glyphs("train", spec, seed=0)


if __name__ == "__main__":
  main()
