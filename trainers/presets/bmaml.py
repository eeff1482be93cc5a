"""BMAML's settings for sinusoids, and EMAML's beside them: the released code's.

Its learning rate falls in a hundred steps by 2 % each; here it falls smoothly
to the same end.
"""

SOURCE = "github.com/jsikyoon/bmaml (bmaml_main.py, emaml_main.py), 10ef3e5"

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

EMAML = {
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

BMAML = {
  name: {
    **preset,
    "meta_loss": "chaser",
    "leader_steps": 1,
    "prior": "hierarchical",
    "repulsion_scale": 0.5,
  }
  for name, preset in EMAML.items()
}
