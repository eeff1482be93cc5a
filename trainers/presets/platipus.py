"""PLATIPUS's setting for sinusoids or lines.

No code of the authors is public; the flags of their run are quoted in
re-implementations. Their network also has 20 inputs that are learned, and
adapted as biases are, which this one has not.
"""

SOURCE = "the authors' flags, as re-implementations quote them"

PRESETS = {
  "sinusoid_or_line_5shot": {
    "dataset": "sinusoid_or_line",
    "shots": 5,
    "query_shots": 50,
    "train_query_shots": 50,
    "hidden": [100, 100, 100],
    "inner_steps": 5,
    "inner_learning_rate": 0.001,
    "meta_batch_size": 25,
    "kl_weight": 0.1,
    "steps_per_epoch": 1000,
    "epochs": 70,
  },
}
