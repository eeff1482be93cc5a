"""Trains EMAML: an ensemble of MAMLs, each with initial weights of its own.

python -m trainers.emaml
python -m trainers.emaml --dataset=sinusoid --num_particles=10
"""

from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

SOURCE = "github.com/jsikyoon/bmaml (bmaml_main.py, emaml_main.py), 10ef3e5"

# The rate of the released code falls by 2% in each of a hundred stages. Here
# it falls smoothly to the same final rate.
_SINUSOID = {
  "dataset": "varied_sinusoid",
  "hidden": [40, 40, 40],
  "num_particles": 10,
  "inner_steps": 1,
  "inner_learning_rate": 0.001,
  "meta_batch_size": 10,
  "learning_rate": 0.001,
  "learning_rate_decay": "exponential",
  "final_learning_rate": 0.001 * 0.98**100,
  "steps_per_epoch": 1000,
  "epochs": 100,
}

PRESETS = {
  f"sinusoid_{tasks}_tasks_{shots}shot": {
    **_SINUSOID,
    "num_tasks": tasks,
    "shots": shots,
    "query_shots": shots,
    "train_query_shots": shots,
  }
  for tasks in (100, 1000)
  for shots in (5, 10)
}

# Flags of learners that have particles.
PARTICLES = (
  option.Option(
    "num_particles", int, 5, "Number of initial weights that are learned."
  ),
  option.Option(
    "particle_weights",
    str,
    "all",
    "Weights that each particle has of its own: all, or those of the head.",
    choices=("all", "head"),
  ),
  flags.FIRST_ORDER,
)

TRAINER = flags.Trainer(
  "emaml",
  "EMAML",
  options=(*PARTICLES, *flags.INNER_OPTIONS),
  presets=PRESETS,
  source=SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
