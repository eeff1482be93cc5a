"""What M particles cost, in updates of MAML on the same network.

  python -m benchmarks.particle_cost

An update of EMAML and of BMAML with five particles, and of PLATIPUS, which
learns from one draw: on the sinusoid network (25 tasks, 1 inner step), where
particles are vectorised, and on conv-4 (8 tasks, 5 ways, 1 shot, 5 inner
steps), where they come one after the other. All learners train in turn, several
rounds, in one process; the time is that of the median update.
`benchmarks/results/particle_cost.json` is written.
"""

import itertools
import json
import pathlib
import statistics
import sys
import time

from absl import app
from absl import flags
import keras

from benchmarks.shared import workload
import tfmeta

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of each learner.")
_OUTPUT = flags.DEFINE_string(
  "output", "benchmarks/results/particle_cost.json", "Written."
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


def make(case: str, name: str) -> tfmeta.MetaLearner:
  """A compiled learner."""
  settings = workload.CASES[case]
  if settings.ways is None:
    model = tfmeta.models.mlp((1,), outputs=1)
  else:
    model = tfmeta.models.conv4(settings.image, ways=settings.ways)
  learner_class, options = LEARNERS[name]
  learner = learner_class(
    model,
    inner_steps=settings.inner_steps,
    inner_learning_rate=1e-3,
    inner_loss="mse" if settings.ways is None else None,
    **options,
  )
  learner.compile(keras.optimizers.Adam(1e-3))
  return learner


def time_updates(learner: tfmeta.MetaLearner, case: str) -> list[float]:
  """Seconds of single updates, the first one left out."""
  inputs = workload.make_tasks(workload.CASES[case])
  batch = (inputs, inputs.pop("query_y"))
  ticks = []
  for _ in range(UPDATES[case]):
    learner.train_on_batch(*batch)
    ticks.append(time.perf_counter())
  return [b - a for a, b in itertools.pairwise(ticks)]


def measure(case: str) -> dict[str, dict[str, float]]:
  """Median update of each learner, and its ratio to that of MAML."""
  learners = {name: make(case, name) for name in LEARNERS}
  times = {name: [] for name in learners}
  for number in range(_ROUNDS.value + 1):
    for name, learner in learners.items():
      found = time_updates(learner, case)
      if number:  # The first turn traces.
        times[name] += found
  medians = {name: statistics.median(found) for name, found in times.items()}
  return {
    name: {"seconds": seconds, "updates_of_maml": seconds / medians["MAML"]}
    for name, seconds in medians.items()
  }


def main(_) -> None:
  """Measures both cases."""
  report = {
    "command": " ".join(["python -m benchmarks.particle_cost", *sys.argv[1:]]),
    "particles": PARTICLES,
    "cases": {case: measure(case) for case in UPDATES},
  }
  for case, found in report["cases"].items():
    for name, figures in found.items():
      print(
        f"{case:9} {name:13} {1000 * figures['seconds']:9.2f} ms  "
        f"{figures['updates_of_maml']:.2f} updates of MAML"
      )
  output = pathlib.Path(_OUTPUT.value)
  output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
