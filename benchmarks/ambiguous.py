"""Whether draws cover both answers where a support set fits two.

  python -m benchmarks.ambiguous
  python -m benchmarks.ambiguous --source=omniglot

Tasks of 2 ways and 1 shot whose examples are two characters side by side: by
the support set either half may be what tells the class, and in a query where
the halves are of different classes the two readings differ. Five draws are held
against both. Covered are the tasks where one draw gives the left half's answers
to these queries a probability of 0.8, on average, and another the right half's.
A mean of both readings is right in three of four queries at best, and its loss
is ln(2)/2 at least.

Characters are given as codes, those of a classifier of other characters that is
trained first. `benchmarks/results/ambiguous.json` and `.png` are written, or
`ambiguous_omniglot`. Settings were chosen with `--split=validation`.
"""

import json
import pathlib
import sys

from absl import app
from absl import flags
import keras
import numpy as np
import tensorflow as tf

from benchmarks import ambiguous_picture
from benchmarks import codes
from benchmarks import readings
from benchmarks.shared import sampled_predictions
import tfmeta

_SOURCE = flags.DEFINE_enum(
  "source", "glyphs", ("glyphs", "omniglot"), "What the pairs are of."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where TFDS keeps Omniglot; its own default if not given."
)
_SPLIT = flags.DEFINE_enum(
  "split", "test", ("validation", "test"), "Characters to measure on."
)
_LEARNERS = flags.DEFINE_list("learners", None, "Some of them; all by default.")
_UPDATES = flags.DEFINE_integer("updates", 3000, "Of each learner.")
_TASKS = flags.DEFINE_integer("tasks", 400, "To measure on.")
_OUTPUT = flags.DEFINE_string(
  "output", None, "Written: .json and .png; by default as said above."
)

META_BATCH = 16
MEMORY = 8000  # Training tasks, kept and shown again.
# Enough open queries in a task that luck is no reading.
QUERY_SHOTS = {"train": 12, "validation": 25, "test": 25}
# The first 600 train the coder, the others the learners.
GLYPHS = {"train": 1000, "validation": 200, "test": 200}
CODED = 0.6
EPOCHS = 8  # Of the coder.
SHOWN = 3
DRAWS = 5  # Of each learner, to be held against the readings.
# A learner, its outer learning rate, its settings.
LEARNERS = {
  "MAML": (tfmeta.MAML, 0.003, {"inner_learning_rate": 0.1}),
  "EMAML": (
    tfmeta.EMAML,
    0.003,
    {"inner_learning_rate": 0.1, "num_particles": 5},
  ),
  "BMAML": (
    tfmeta.BMAML,
    0.01,
    {
      "inner_learning_rate": 0.4,
      "num_particles": 5,
      "meta_loss": "nll",
      "repulsion_scale": 0.1,
    },
  ),
  "PLATIPUS": (
    tfmeta.PLATIPUS,
    0.01,
    {
      "inner_learning_rate": 0.1,
      "num_samples": 20,
      "initial_scale": 0.15,
      "initial_shift_rate": 4.0,
      "kl_weight": 0.02,
    },
  ),
}


def drawings(split: str) -> np.ndarray:
  """Images `[characters, drawings, 28, 28, 1]`, ink = 255."""
  if _SOURCE.value == "omniglot":
    return tfmeta.data.omniglot_drawings(
      split, data_dir=_DATA_DIR.value, turns=False
    )
  drawn = tfmeta.data.glyph_drawings(GLYPHS[split], 20, split=split)
  return np.round(255 * drawn.numpy()).astype(np.uint8)


def coded() -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Codes to train on and to measure on, and the drawings of the latter."""
  images = drawings("train")
  count = int(CODED * len(images))
  model = codes.coder(images[:count], epochs=EPOCHS)
  held_out = drawings(_SPLIT.value)
  return {
    "train": codes.codes_of(model, images[count:]),
    _SPLIT.value: codes.codes_of(model, held_out),
  }, held_out


def tasks(split: str, images: np.ndarray, **options) -> tf.data.Dataset:
  """Tasks of pairs, without end."""
  spec = tfmeta.TaskSpec(ways=2, shots=1, query_shots=QUERY_SHOTS[split])
  return tfmeta.data.ambiguous_pairs(images, spec, **options)


def train(name: str, training: tuple) -> tfmeta.MetaLearner:
  """A learner after all its updates, in the same order for all learners."""
  learner_class, outer_rate, options = LEARNERS[name]
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1, 2 * codes.CODE, 1), outputs=2, hidden=(32,))
  learner = learner_class(model, inner_steps=5, **options)
  rate = keras.optimizers.schedules.CosineDecay(outer_rate, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipvalue=0.1), steps_per_execution=50
  )
  data = tf.data.Dataset.from_tensor_slices(training)
  data = data.shuffle(MEMORY, seed=0).repeat().batch(META_BATCH).prefetch(2)
  learner.fit(data, steps_per_epoch=_UPDATES.value, verbose=0)
  return learner


def probabilities(learner: tfmeta.MetaLearner, inputs: dict) -> np.ndarray:
  """Of each draw, `[T, M, Q, 2]`."""

  def one_task(support_x, support_y, query_x):
    weights = learner.adapt(support_x, support_y)
    return tf.nn.softmax(
      sampled_predictions.samples_of(learner, weights, query_x)
    )

  keys = ("support_x", "support_y", "query_x")
  arrays = (inputs[key] for key in keys)
  return sampled_predictions.of_tasks(learner, one_task, *arrays).numpy()


def measure(learner: tfmeta.MetaLearner, images) -> tuple[dict, np.ndarray]:
  """Figures on held out tasks, and the answers of each draw."""
  count = _TASKS.value
  result = tfmeta.evaluate(
    learner, tasks(_SPLIT.value, images).take(count).batch(50)
  )
  both = tasks(_SPLIT.value, images, readings=True).batch(count)
  inputs, answers = next(iter(both))
  found = probabilities(learner, inputs)
  adapted = result.by_step()[-1]
  report = {
    **{key: adapted[key] for key in ("accuracy", "interval", "nll", "ece")},
    "draws": found.shape[1],
    **readings.figures(found[:, :DRAWS], answers.numpy()),
    "covered_by_all_draws": readings.covered(found, answers.numpy()).mean(),
  }
  return report, found.argmax(axis=-1)


def _output() -> pathlib.Path:
  """Where to write; what is published has a name of its own."""
  usual = {"glyphs", "test"}
  chosen = [_SOURCE.value, _SPLIT.value, *(_LEARNERS.value or [])]
  name = "_".join(["ambiguous", *(c for c in chosen if c not in usual)])
  return pathlib.Path(_OUTPUT.value or f"benchmarks/results/{name}")


def _given() -> list[str]:
  """The flags of this run, but for those that say where things are."""
  places = ("--data_dir", "--output")
  return [flag for flag in sys.argv[1:] if not flag.startswith(places)]


def main(_) -> None:
  """Trains, measures and draws all learners."""
  output = _output()
  report = {
    "command": " ".join(["python -m benchmarks.ambiguous", *_given()]),
    "updates": _UPDATES.value,
    "tasks": _TASKS.value,
    "split": _SPLIT.value,
    "runs": {},
  }
  images, held_out = coded()
  training = next(iter(tasks("train", images["train"]).batch(MEMORY)))
  shown = {}
  for name in _LEARNERS.value or LEARNERS:
    learner = train(name, training)
    report["runs"][name], answers = measure(learner, images[_SPLIT.value])
    shown[name] = answers[:SHOWN]
    print(name, report["runs"][name], flush=True)
    keras.utils.clear_session()
  output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
  # Tasks are drawn by position: these are the ones that were answered.
  seen = tasks(_SPLIT.value, held_out, readings=True).take(SHOWN)
  ambiguous_picture.draw(
    shown, list(seen.as_numpy_iterator()), output.with_suffix(".png")
  )


if __name__ == "__main__":
  app.run(main)
