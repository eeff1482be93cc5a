"""Measures whether samples cover both answers where a support set allows two.

  python -m benchmarks.ambiguous
  python -m benchmarks.ambiguous --source=omniglot

Examples are pairs of characters, side by side. In a task of 2 ways and 1 shot,
either half may decide the class, so the support set has two readings: "the left
half decides" and "the right half decides". In an open query, whose halves
belong to different classes, the readings give different answers.

A sample takes a reading if it gives that reading's answers to the open queries
a probability of 0.8 or more, on average. A task is covered if one of five
samples takes the left reading and another takes the right one. The paper of
PLATIPUS counts differently, without a threshold: it has the number of readings
that are the likeliest for at least one sample, here 1 or 2. By that count, a
MAML with noise in its initial weights covers as much as PLATIPUS in the paper,
so one is trained too.

A mean of both readings is right in three of four queries at best, and its loss
is ln(2) / 2 or more.

Characters are replaced by codes of 32 numbers, which come from a classifier of
other characters that is trained first. The command writes
`benchmarks/results/ambiguous.json` and `.png`, or `ambiguous_omniglot`.
Hyperparameters were chosen with `--split=validation`.
"""

import pathlib
from typing import Any

from absl import app
from absl import flags
import keras
from matplotlib import colors
from matplotlib import figure
from matplotlib import patches
import numpy as np
import tensorflow as tf

from benchmarks.shared import noisy_maml
from benchmarks.shared import reading_metrics
from benchmarks.shared import reports
from benchmarks.shared import sampled_predictions
import tfmeta

_SOURCE = flags.DEFINE_enum(
  "source", "glyphs", ("glyphs", "omniglot"), "Characters to make pairs of."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "Folder in which TFDS keeps Omniglot. Defaults to TFDS's own.",
)
_SPLIT = flags.DEFINE_enum(
  "split", "test", ("validation", "test"), "Characters to measure on."
)
_LEARNERS = flags.DEFINE_list(
  "learners", None, "Learners to train. Defaults to all."
)
_UPDATES = flags.DEFINE_integer("updates", 3000, "Updates of each learner.")
_TASKS = flags.DEFINE_integer("tasks", 400, "Number of tasks to measure on.")
_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "File to write, without the endings .json and .png. Defaults to a file "
  "in benchmarks/results, named after the other flags.",
)

META_BATCH = 16
# Training tasks are sampled once and shown again.
TRAINING_TASKS = 8000
# Held-out tasks have so many queries that no sample takes a reading by luck.
QUERY_SHOTS = {"train": 12, "validation": 25, "test": 25}

# Number of glyph classes, by split.
GLYPHS = {"train": 1000, "validation": 200, "test": 200}
# This share of the training characters trains the encoder, and the others
# train the learners.
ENCODER_SHARE = 0.6
ENCODER_EPOCHS = 8
CODE_SIZE = 32

# Samples of each learner that are compared with the readings.
SAMPLES = 5

# Tasks and queries in the plot, and its colors.
SHOWN_TASKS, SHOWN_QUERIES = 3, 12
LEFT, RIGHT = "#2166ac", "#f4a582"

WITH_NOISE = "MAML with noise"
INNER_STEPS = 5

# Class, outer learning rate and constructor arguments of each learner.
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
      "inner_loss_reduction": "mean",
      "num_samples": 20,
      "initial_scale": 0.15,
      "initial_prior_rate": 4.0,
      "initial_posterior_rate": 4.0,
      "kl_weight": 0.02,
    },
  ),
  # It is trained after PLATIPUS, whose learned scales its noise has.
  WITH_NOISE: (
    tfmeta.PLATIPUS,
    0.003,
    {
      "inner_learning_rate": 0.1,
      "inner_loss_reduction": "mean",
      "num_samples": 20,
    },
  ),
}


@flags.validator(
  "learners",
  f"must be some of {', '.join(LEARNERS)}; {WITH_NOISE} after PLATIPUS.",
)
def _is_possible(names: list[str] | None) -> bool:
  known = all(name in LEARNERS for name in names or ())
  if not known or WITH_NOISE not in (names or ()):
    return known
  return "PLATIPUS" in names[: names.index(WITH_NOISE)]


def load_drawings(split: str) -> np.ndarray:
  """Returns images `[characters, drawings, 28, 28, 1]` in which ink is 255."""
  if _SOURCE.value == "omniglot":
    return tfmeta.data.omniglot_drawings(
      split, data_dir=_DATA_DIR.value, turns=False
    )
  drawings = tfmeta.data.glyph_drawings(GLYPHS[split], 20, split=split)
  return np.round(255 * drawings.numpy()).astype(np.uint8)


def train_encoder(
  drawings: np.ndarray, *, epochs: int, seed: int = 0
) -> keras.Model:
  """Trains a classifier of characters and returns it up to its codes.

  Args:
    drawings: uint8 `[characters, drawings, height, width, 1]`.
    epochs: Passes over all drawings.
    seed: Seed of the initial weights and of the order of drawings.

  Returns:
    A model from images `[n, height, width, 1]` in [0, 1] to codes
    `[n, CODE_SIZE]` in [0, 1].
  """
  keras.utils.set_random_seed(seed)
  characters, count, *shape = drawings.shape
  images = drawings.reshape(-1, *shape) / np.float32(255)
  labels = np.repeat(np.arange(characters), count)
  network = tfmeta.models.conv4(
    shape, ways=CODE_SIZE, filters=32, pooling="stride", momentum=0.9
  )
  codes = keras.activations.sigmoid(network.output)
  logits = keras.layers.Dense(characters)(codes)
  classifier = keras.Model(network.input, logits)
  steps = epochs * len(images) // 128
  classifier.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  classifier.fit(images, labels, batch_size=128, epochs=epochs, verbose=0)
  return keras.Model(network.input, codes)


def encode(encoder: keras.Model, drawings: np.ndarray) -> np.ndarray:
  """Returns codes as images, uint8 `[characters, drawings, 1, CODE_SIZE, 1]`.

  Images one pixel high can be put side by side like the drawings themselves.
  """
  images = drawings.reshape(-1, *drawings.shape[2:]) / np.float32(255)
  codes = encoder.predict(images, batch_size=500, verbose=0)
  codes = np.round(255 * codes).astype(np.uint8)
  return codes.reshape(*drawings.shape[:2], 1, CODE_SIZE, 1)


def load_codes() -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Returns codes to train on and to measure on, and drawings of the latter."""
  images = load_drawings("train")
  count = int(ENCODER_SHARE * len(images))
  encoder = train_encoder(images[:count], epochs=ENCODER_EPOCHS)
  held_out = load_drawings(_SPLIT.value)
  return {
    "train": encode(encoder, images[count:]),
    _SPLIT.value: encode(encoder, held_out),
  }, held_out


def make_tasks(split: str, images: np.ndarray, **options) -> tf.data.Dataset:
  """Returns an infinite data set of tasks of pairs."""
  spec = tfmeta.TaskSpec(ways=2, shots=1, query_shots=QUERY_SHOTS[split])
  return tfmeta.data.ambiguous_pairs(images, spec, **options)


def make_learner(name: str, platipus: Any) -> tfmeta.MetaLearner:
  """Returns a learner that has not been trained.

  Args:
    name: A key of `LEARNERS`.
    platipus: The trained PLATIPUS, which a MAML with noise needs.
  """
  learner_class, _, options = LEARNERS[name]
  keras.utils.set_random_seed(0)
  model = tfmeta.models.mlp((1, 2 * CODE_SIZE, 1), outputs=2, hidden=(32,))
  if name == WITH_NOISE:
    return noisy_maml.make(
      platipus, model, inner_steps=INNER_STEPS + 1, **options
    )
  return learner_class(model, inner_steps=INNER_STEPS, **options)


def train(
  name: str, training: tuple, platipus: Any = None
) -> tfmeta.MetaLearner:
  """Returns a learner trained on `training`, in the same order for all."""
  learner = make_learner(name, platipus)
  _, outer_rate, _ = LEARNERS[name]
  rate = keras.optimizers.schedules.CosineDecay(outer_rate, _UPDATES.value)
  learner.compile(
    keras.optimizers.Adam(rate, clipvalue=0.1), steps_per_execution=50
  )
  data = tf.data.Dataset.from_tensor_slices(training)
  data = data.shuffle(TRAINING_TASKS, seed=0).repeat()
  learner.fit(
    data.batch(META_BATCH).prefetch(2),
    steps_per_epoch=_UPDATES.value,
    verbose=0,
  )
  return learner


def predict(learner: tfmeta.MetaLearner, inputs: dict) -> np.ndarray:
  """Returns the probabilities of each sample, `[T, M, Q, 2]`."""

  def one_task(support_x, support_y, query_x):
    weights = learner.adapt(support_x, support_y)
    return tf.nn.softmax(
      sampled_predictions.predict_samples(learner, weights, query_x)
    )

  keys = ("support_x", "support_y", "query_x")
  arrays = (inputs[key] for key in keys)
  return sampled_predictions.map_tasks(learner, one_task, *arrays).numpy()


def measure(learner: tfmeta.MetaLearner, images) -> tuple[dict, np.ndarray]:
  """Returns the metrics on held-out tasks, and the answers of each sample."""
  count = _TASKS.value
  result = tfmeta.evaluate(
    learner, make_tasks(_SPLIT.value, images).take(count).batch(50)
  )
  both = make_tasks(_SPLIT.value, images, readings=True).batch(count)
  inputs, readings = next(iter(both))
  found = predict(learner, inputs)
  adapted = result.by_step()[-1]
  report = {
    **{key: adapted[key] for key in ("accuracy", "interval", "nll", "ece")},
    "samples": found.shape[1],
    **reading_metrics.all_metrics(found[:, :SAMPLES], readings.numpy()),
    "covered_by_all_samples": reading_metrics.is_covered(
      found, readings.numpy()
    ).mean(),
  }
  return report, found.argmax(axis=-1)


def plot(
  answers: dict[str, np.ndarray], tasks: list, path: pathlib.Path
) -> None:
  """Plots which reading each sample follows, query by query.

  A column shows one task: its support set, its open queries, and the answers of
  all learners.

  Args:
    answers: Answers of each sample `[T, M, Q]`, by learner.
    tasks: T pairs of inputs and readings `[Q, 2]`, as `ambiguous_pairs` makes
      them from images.
    path: PNG file to write.
  """
  counts = [of_samples.shape[1] for of_samples in answers.values()]
  heights = [1.3, 0.9, *(0.1 + 0.17 * count for count in counts)]
  canvas = figure.Figure(
    figsize=(0.9 + 4.6 * len(tasks), 1.8 + sum(heights)), layout="constrained"
  )
  grid = canvas.subplots(
    len(heights), len(tasks), height_ratios=heights, squeeze=False
  )
  for column, (inputs, readings) in enumerate(tasks):
    chosen = np.flatnonzero(reading_metrics.is_open(readings))[:SHOWN_QUERIES]
    support, queries, *rows = grid[:, column]
    _show_support(support, inputs, column)
    _show_queries(queries, inputs["query_x"][chosen])
    if column == 0:
      queries.set_yticks([0.5, 1.5], ["left half", "right half"])
    for axes, (name, of_samples) in zip(rows, answers.items(), strict=True):
      by_right = of_samples[column][:, chosen] == readings[chosen, 1]
      _show_answers(axes, by_right, name if column == 0 else "")
  canvas.legend(
    [patches.Patch(color=color) for color in (LEFT, RIGHT)],
    ["the answer follows the left half", "the answer follows the right half"],
    loc="outside upper center",
    ncols=2,
    frameon=False,
    title="Each row is a sample. A row of one color takes one reading; a task "
    "with such rows in both colors is covered.",
  )
  canvas.savefig(path, dpi=100)


def _show_support(axes, inputs: dict, number: int) -> None:
  order = np.argsort(inputs["support_y"])
  images = [
    np.pad(inputs["support_x"][index][..., 0], 1, constant_values=0.3)
    for index in order
  ]
  axes.imshow(np.concatenate(images, axis=1), cmap="gray_r", vmin=0, vmax=1)
  width = images[0].shape[1]
  for label in range(len(images)):
    axes.text(
      (label + 0.5) * width, -1, f"class {label}", ha="center", va="bottom"
    )
  axes.set_title(f"task {number + 1}: support set", pad=18)
  axes.axis("off")


def _show_queries(axes, images: np.ndarray) -> None:
  """Shows queries above their answers, the left half above the right half."""
  halves = np.split(images[..., 0], 2, axis=2)
  stacked = np.concatenate(halves, axis=1)  # [n, 2 * height, width]
  stacked = np.pad(stacked, [(0, 0), (0, 0), (1, 1)], constant_values=0.3)
  axes.imshow(
    np.concatenate(list(stacked), axis=1),
    cmap="gray_r",
    vmin=0,
    vmax=1,
    aspect="auto",
    extent=(-0.5, len(images) - 0.5, 2, 0),
  )
  axes.axhline(1, color="0.7", linewidth=0.8)
  axes.tick_params(length=0)
  axes.set(xticks=[], yticks=[])
  axes.set_title("queries whose halves belong to different classes", fontsize=9)


def _show_answers(axes, by_right: np.ndarray, name: str) -> None:
  """Shows a row for each sample, beginning with those that follow the left."""
  rows = by_right[np.argsort(by_right.mean(axis=1), kind="stable")]
  both = colors.ListedColormap([LEFT, RIGHT])
  axes.imshow(rows, cmap=both, vmin=0, vmax=1, aspect="auto")
  axes.set_xticks(np.arange(rows.shape[1] + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
  axes.grid(which="minor", color="white", linewidth=1.5)
  axes.tick_params(which="both", length=0)
  axes.set(xticks=[], yticks=[])
  axes.set_ylabel(name, rotation=0, ha="right", va="center")


def _output() -> pathlib.Path:
  """Returns the file to write; runs with default flags have the short name."""
  default = {"glyphs", "test"}
  chosen = [_SOURCE.value, _SPLIT.value, *(_LEARNERS.value or [])]
  name = "_".join(["ambiguous", *(c for c in chosen if c not in default)])
  return pathlib.Path(_OUTPUT.value or f"benchmarks/results/{name}")


def main(_) -> None:
  """Trains, measures and plots all learners."""
  output = _output()
  report = {
    "command": reports.command("ambiguous", hide=("--data_dir", "--output")),
    "updates": _UPDATES.value,
    "tasks": _TASKS.value,
    "split": _SPLIT.value,
    "runs": {},
  }
  codes, held_out = load_codes()
  training = next(
    iter(make_tasks("train", codes["train"]).batch(TRAINING_TASKS))
  )
  shown, platipus = {}, None
  for name in _LEARNERS.value or LEARNERS:
    learner = train(name, training, platipus)
    if name == "PLATIPUS":
      platipus = learner
    report["runs"][name], answers = measure(learner, codes[_SPLIT.value])
    shown[name] = answers[:SHOWN_TASKS]
    print(name, report["runs"][name], flush=True)
    keras.utils.clear_session()
  reports.write(output.with_suffix(".json"), report)
  # Tasks are a function of their index, so these are the tasks of the answers.
  tasks = make_tasks(_SPLIT.value, held_out, readings=True).take(SHOWN_TASKS)
  plot(shown, list(tasks.as_numpy_iterator()), output.with_suffix(".png"))


if __name__ == "__main__":
  app.run(main)
