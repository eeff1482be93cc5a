"""How far a learner's confidence can be trusted, drawn and for TensorBoard."""

from matplotlib import figure
import numpy as np
import tensorflow as tf

import tfmeta

PICTURE = "calibration.png"


def draw(folder, measured) -> None:
  """Draws accuracy by confidence, and by how many queries are answered.

  Args:
    folder: Where the picture is written, and the logs are.
    measured: An `EvaluationResult`; nothing is done of a regression.
  """
  if measured.reliability is None:
    return
  canvas = figure.Figure(figsize=(10, 4), layout="constrained")
  left, right = canvas.subplots(1, 2)
  _draw_reliability(left, measured)
  _draw_selection(right, measured)
  canvas.suptitle(
    f"{measured.tasks} tasks, after adapting: NLL {measured.nll[-1]:.3f}, "
    f"Brier score {measured.brier[-1]:.3f}"
  )
  canvas.savefig(folder / PICTURE, dpi=120)
  _log(folder, measured)


def _draw_reliability(axes, measured):
  count, confidence, right = measured.reliability.T
  bins, shown = len(count), count > 0
  centres = (np.arange(bins) + 0.5) / bins
  accuracy = right[shown] / count[shown]
  axes.plot([0, 1], [0, 1], "--", color="0.5", label="calibrated")
  axes.bar(
    centres[shown], accuracy, 0.92 / bins, alpha=0.7, label="accuracy of a bin"
  )
  axes.plot(
    confidence[shown] / count[shown],
    accuracy,
    "o",
    color="C3",
    markersize=4,
    label="at its mean confidence",
  )
  axes.bar(
    centres,
    count / count.sum(),
    0.92 / bins,
    fill=False,
    edgecolor="0.3",
    label="share of queries",
  )
  axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
  axes.set_title(f"reliability: calibration error {measured.ece[-1]:.3f}")
  axes.legend(loc="upper left", fontsize=8)


def _draw_selection(axes, measured):
  coverages = tfmeta.metrics.COVERAGES
  axes.plot(
    coverages, measured.selective_accuracy, "o-", label="of this learner"
  )
  axes.axhline(
    measured.selective_accuracy[-1],
    linestyle="--",
    color="0.5",
    label="if confidence said nothing",
  )
  axes.set(xlabel="share of queries answered, the most confident first")
  axes.set_title("accuracy on the queries answered")
  axes.set_xlim(0, 1.02)
  axes.grid(alpha=0.3)
  axes.legend(loc="lower left", fontsize=8)


def _log(folder, measured):
  """The same for TensorBoard; its steps are percents of queries answered."""
  picture = tf.io.decode_png((folder / PICTURE).read_bytes(), channels=3)
  pairs = zip(
    tfmeta.metrics.COVERAGES, measured.selective_accuracy, strict=True
  )
  with tf.summary.create_file_writer(
    str(folder / "logs" / "test")
  ).as_default():
    tf.summary.image("calibration", picture[tf.newaxis], step=0)
    for coverage, accuracy in pairs:
      percent = round(100 * coverage)
      tf.summary.scalar("selective_accuracy", accuracy, step=percent)
