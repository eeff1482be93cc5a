"""Measures what several particles cost, in updates of MAML.

  python -m benchmarks.particle_cost

The command times an update of EMAML and of BMAML with five particles, and of
PLATIPUS, which learns from one sample. It does so for the sinusoid network (25
tasks, 1 inner step), where particles are vectorized, and for conv-4 (8 tasks, 5
ways, 1 shot, 5 inner steps), where they run one after another. All learners
train in turn for several rounds in one process, and the median update counts.
The command writes `benchmarks/results/particle_cost.json`.
"""

import itertools
import pathlib
import statistics
import time

from absl import app
from absl import flags
import keras

from benchmarks.shared import reports
from benchmarks.shared import workload
import tfmeta

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed turns of each learner.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/particle_cost.json", "JSON file to write."
)

PARTICLES = 5
LEARNERS = {
  "MAML": (tfmeta.MAML, {}),
  "EMAML": (tfmeta.EMAML, {"num_particles": PARTICLES}),
  "BMAML": (
    tfmeta.BMAML,
    {"num_particles": PARTICLES, "meta_loss": "nll", "prior": "flat"},
  ),
  "BMAML, chaser": (
    tfmeta.BMAML,
    {"num_particles": PARTICLES, "meta_loss": "chaser", "prior": "flat"},
  ),
  "PLATIPUS": (tfmeta.PLATIPUS, {"num_samples": PARTICLES}),
}

# Updates in each turn, by case.
UPDATES = {"sinusoid": 200, "conv4": 4}


def make_learner(case_name: str, name: str) -> tfmeta.MetaLearner:
  """Returns a compiled learner for one of the cases."""
  case = workload.CASES[case_name]
  if case.ways is None:
    model = tfmeta.models.mlp((1,), outputs=1)
  else:
    model = tfmeta.models.conv4(case.image, ways=case.ways)
  learner_class, options = LEARNERS[name]
  learner = learner_class(
    model,
    inner_steps=case.inner_steps,
    inner_learning_rate=1e-3,
    inner_loss="mse" if case.ways is None else None,
    **options,
  )
  learner.compile(keras.optimizers.Adam(1e-3))
  return learner


def time_updates(learner: tfmeta.MetaLearner, case_name: str) -> list[float]:
  """Returns the seconds of each update of a turn, except the first."""
  inputs = workload.make_tasks(workload.CASES[case_name])
  batch = (inputs, inputs.pop("query_y"))
  ticks = []
  for _ in range(UPDATES[case_name]):
    learner.train_on_batch(*batch)
    ticks.append(time.perf_counter())
  return [b - a for a, b in itertools.pairwise(ticks)]


def measure(case_name: str) -> dict[str, dict[str, float]]:
  """Returns each learner's median update and its ratio to that of MAML."""
  learners = {name: make_learner(case_name, name) for name in LEARNERS}
  times = {name: [] for name in learners}
  for number in range(_ROUNDS.value + 1):
    for name, learner in learners.items():
      found = time_updates(learner, case_name)
      # The first turn does not count, because TensorFlow traces in it.
      if number:
        times[name] += found
  medians = {name: statistics.median(found) for name, found in times.items()}
  return {
    name: {"seconds": seconds, "updates_of_maml": seconds / medians["MAML"]}
    for name, seconds in medians.items()
  }


def main(_) -> None:
  """Measures both cases, prints the ratios and writes JSON."""
  report = {
    "command": reports.command("particle_cost"),
    "particles": PARTICLES,
    "cases": {case_name: measure(case_name) for case_name in UPDATES},
  }
  for case_name, learners in report["cases"].items():
    for name, found in learners.items():
      print(
        f"{case_name:9} {name:13} {1000 * found['seconds']:9.2f} ms  "
        f"{found['updates_of_maml']:.2f} updates of MAML"
      )
  reports.write(pathlib.Path(_OUTPUT.value), report)


if __name__ == "__main__":
  app.run(main)
