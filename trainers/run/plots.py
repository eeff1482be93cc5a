"""Plots of a run: learning curve, tasks, calibration and learned rates."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

import tfmeta
from trainers.run import tasks
from trainers.run import tensorboard_logs

LEARNING_CURVE = "learning_curve.png"
TASKS = "tasks.png"
CALIBRATION = "calibration.png"
LEARNED_RATES = "learned_rates.png"

_RIGHT, _WRONG, _SUPPORT = "#2e7d32", "#c62828", "#444444"

# Most classes, support images and queries of each class in the plot of a task.
_CLASSES = 8
_SUPPORT_IMAGES = 3
_QUERIES = 6

# Letters of the name of a class that fit above an image.
_LETTERS = 8

# Most sampled functions in the plot of a regression.
_SAMPLES = 10


def new_figure(width: float, height: float) -> Any:
  """Returns an empty figure, with sizes in inches."""
  # matplotlib is an extra, and whoever evaluates a run needs no plots.
  from matplotlib import figure

  return figure.Figure(figsize=(width, height), layout="constrained")


def plot_learning_curve(folder: pathlib.Path, history) -> None:
  """Plots loss and accuracy of training and validation by epoch, if any."""
  names = [name for name in ("loss", "accuracy") if name in history]
  if not names:
    return
  figure = new_figure(5 * len(names), 3.6)
  row = figure.subplots(1, len(names), squeeze=False)[0]
  for axes, name in zip(row, names, strict=True):
    epochs = np.arange(1, len(history[name]) + 1)
    axes.plot(epochs, history[name], label="training tasks")
    axes.plot(epochs, history[f"val_{name}"], label="validation tasks")
    axes.set_xlabel("epoch")
    axes.set_title(f"query {name} after adapting")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
  figure.savefig(folder / LEARNING_CURVE, dpi=120)


def plot_tasks(folder: pathlib.Path, config, learner) -> None:
  """Plots test tasks before and after adapting.

  It shows one classification task or four regressions. Embeddings are skipped,
  because they cannot be shown.
  """
  if config.is_embeddings:
    return
  count = 4 if config.is_regression else 1
  found = tasks.evaluation_tasks(config, config.eval_split, count)
  examples = list(found.unbatch())
  if config.is_regression:
    figure = _plot_regressions(learner, examples)
  else:
    names = tasks.class_names(config, config.eval_split)
    figure = _plot_classification(learner, examples, names)
  figure.savefig(folder / TASKS, dpi=120)


def _plot_classification(learner, found, class_names) -> Any:
  """Shows the support set, and the queries under the predicted classes."""
  ((inputs, labels),) = found
  path = learner.adaptation_path(inputs["support_x"], inputs["support_y"])
  ends = (path[0], path[-1])
  predictions = [
    np.argmax(learner.predict_with(weights, inputs["query_x"]), axis=-1)
    for weights in ends
  ]
  shares = [_shares(learner, w, inputs["query_x"]) for w in ends]
  queries = _by_class(labels, _QUERIES)
  support = _by_class(inputs["support_y"], _SUPPORT_IMAGES)
  columns = support.shape[1] + 2 * queries.shape[1]
  figure = new_figure(0.8 * columns + 1.2, 0.95 * queries.shape[0] + 1.0)
  widths = [support.shape[1] + 0.6, *[queries.shape[1]] * 2]
  parts = figure.subfigures(1, 3, width_ratios=widths, squeeze=False)[0]
  support_y = inputs["support_y"].numpy()
  _show_images(
    parts[0],
    inputs["support_x"],
    support,
    support_y,
    support_y,
    color=_SUPPORT,
    names=class_names,
  )
  # The other titles have a second line where shares are shown.
  parts[0].suptitle("support set" + ("" if shares[0] is None else "\n"))
  names = ("before adapting", "after adapting")
  for part, name, predicted, share in zip(
    parts[1:], names, predictions, shares, strict=True
  ):
    _show_images(
      part,
      inputs["query_x"],
      queries,
      predicted,
      labels.numpy(),
      shares=share,
      names=class_names,
    )
    right = np.sum(predicted == labels)
    note = "" if share is None else "\npercent: samples that agree"
    part.suptitle(f"queries {name}: {right} of {len(predicted)} right{note}")
  return figure


def _shares(learner, weights, query_x) -> np.ndarray | None:
  """Returns the share `[n, W]` of samples that predict each class."""
  if getattr(learner, "num_samples", 1) == 1:
    return None
  outputs = np.asarray(learner.predict_samples(weights, query_x))
  return np.mean(np.eye(outputs.shape[-1])[outputs.argmax(axis=-1)], axis=0)


def _show_images(
  part, images, order, predicted, labels, color=None, shares=None, names=None
) -> None:
  """Shows images in a grid, one class in each row.

  Args:
    part: Subfigure to use.
    images: Images `[n, h, w, c]`.
    order: Index of the image in each place of the grid.
    predicted: Classes `[n]` that are written above the images.
    labels: True classes `[n]`.
    color: Color of all frames. Defaults to one color for right predictions
      and another for wrong ones.
    shares: Array `[n, W]` of `_shares`, or `None`.
    names: Names of the classes, or `None` to write their numbers.
  """
  grid = part.subplots(*order.shape, squeeze=False)
  for axes, index in zip(grid.flat, order.flat, strict=True):
    right = predicted[index] == labels[index]
    edge = color or (_RIGHT if right else _WRONG)
    axes.imshow(np.squeeze(images[index]), cmap="gray_r")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=edge, linewidth=2.5)
    mark = "" if color else (" ✓" if right else " ✗")
    if shares is not None:
      mark += f" {shares[index, predicted[index]]:.0%}"
    name = _short(names[predicted[index]]) if names else predicted[index]
    axes.set_title(f"{name}{mark}", color=edge, size=9, pad=3)


def _short(name: str) -> str:
  """Returns as much of a name as fits above an image."""
  return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _by_class(labels, count: int) -> np.ndarray:
  """Returns indices `[classes, count]` of examples, one class in each row.

  Classes beyond `_CLASSES` are left out. If a class has fewer examples than
  `count`, all rows are that short.
  """
  labels = np.asarray(labels)
  classes = np.unique(labels)[:_CLASSES]
  rows = [np.flatnonzero(labels == label) for label in classes]
  count = min(count, *map(len, rows))
  return np.stack([row[:count] for row in rows])


def _plot_regressions(learner, found) -> Any:
  figure = new_figure(9, 6)
  grid = figure.subplots(2, 2, sharex=True).flat
  for axes, (inputs, targets) in zip(grid, found, strict=True):
    _plot_regression(axes, learner, inputs, targets)
  handles, names = figure.axes[0].get_legend_handles_labels()
  figure.legend(handles, names, loc="outside lower center", ncols=4)
  return figure


def _plot_regression(axes, learner, inputs, targets) -> None:
  support_x, support_y = inputs["support_x"], inputs["support_y"]
  path = learner.adaptation_path(support_x, support_y)
  x = np.linspace(*_range(inputs), 200, dtype="float32")[:, np.newaxis]
  order = np.argsort(inputs["query_x"][:, 0])
  axes.plot(
    inputs["query_x"].numpy()[order, 0],
    targets.numpy()[order, 0],
    "o",
    color="0.6",
    label="queries",
  )
  if learner.probabilistic:
    samples = learner.predict_samples(path[-1], tf.constant(x))
    for y in np.asarray(samples)[:_SAMPLES]:
      axes.plot(x, y, color="C0", alpha=0.25, linewidth=0.8)
  for weights, style, name in (
    (path[0], ":", "before adapting"),
    (path[-1], "-", "after adapting"),
  ):
    y = learner.predict_with(weights, tf.constant(x))
    axes.plot(x, y, style, color="C0", label=name)
  axes.plot(support_x, support_y, "^", color="C3", label="support set")
  axes.grid(alpha=0.3)


def _range(inputs) -> tuple[float, float]:
  x = tf.concat([inputs["support_x"], inputs["query_x"]], axis=0)
  return float(tf.reduce_min(x)), float(tf.reduce_max(x))


def plot_calibration(folder: pathlib.Path, measured) -> None:
  """Plots accuracy by confidence, and by the share of queries answered.

  The plot is logged for TensorBoard too. Regressions have none.

  Args:
    folder: The workdir.
    measured: An `EvaluationResult`.
  """
  if measured.reliability is None:
    return
  figure = new_figure(10, 4)
  left, right = figure.subplots(1, 2)
  _plot_reliability(left, measured)
  _plot_selective_accuracy(right, measured)
  figure.suptitle(
    f"{measured.tasks} tasks, after adapting: NLL {measured.nll[-1]:.3f}, "
    f"Brier score {measured.brier[-1]:.3f}"
  )
  figure.savefig(folder / CALIBRATION, dpi=120)
  tensorboard_logs.write_calibration(folder, measured, folder / CALIBRATION)


def _plot_reliability(axes, measured) -> None:
  # Sums over the queries of each bin of confidence.
  count, confidence, right = measured.reliability.T
  bins, shown = len(count), count > 0
  centers = (np.arange(bins) + 0.5) / bins
  accuracy = right[shown] / count[shown]
  axes.plot([0, 1], [0, 1], "--", color="0.5", label="calibrated")
  axes.bar(
    centers[shown], accuracy, 0.92 / bins, alpha=0.7, label="accuracy in a bin"
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
    centers,
    count / count.sum(),
    0.92 / bins,
    fill=False,
    edgecolor="0.3",
    label="share of queries",
  )
  axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
  axes.set_title(f"reliability: calibration error {measured.ece[-1]:.3f}")
  axes.legend(loc="upper left", fontsize=8)


def _plot_selective_accuracy(axes, measured) -> None:
  axes.plot(
    tfmeta.metrics.COVERAGES,
    measured.selective_accuracy,
    "o-",
    label="this learner",
  )
  # If all queries are answered, confidence selects nothing.
  axes.axhline(
    measured.selective_accuracy[-1],
    linestyle="--",
    color="0.5",
    label="if confidence told nothing",
  )
  axes.set(xlabel="share of queries answered, most confident first")
  axes.set_title("accuracy on the queries answered")
  axes.set_xlim(0, 1.02)
  axes.grid(alpha=0.3)
  axes.legend(loc="lower left", fontsize=8)


def plot_learned_rates(folder: pathlib.Path, learner) -> None:
  """Plots the learned rate of each tensor in each step, if there are any."""
  rates = tensorboard_logs.learned_rates(learner)
  if not rates:
    return
  table = np.stack(list(rates.values()))
  rows, columns = table.shape
  figure = new_figure(3.2 + 0.8 * columns, 1.7 + 0.3 * rows)
  axes = figure.subplots()
  middle = learner.inner_learning_rate
  # Colors are centered on the initial rate; all rates may still be equal to it.
  reach = max(np.abs(table - middle).max(), 1e-9)
  axes.imshow(
    table, cmap="RdBu", aspect="auto", vmin=middle - reach, vmax=middle + reach
  )
  for row, column in np.ndindex(table.shape):
    value = table[row, column]
    is_dark = abs(value - middle) > 0.6 * reach
    axes.text(
      column,
      row,
      f"{value:.3g}",
      ha="center",
      va="center",
      size=8,
      color="white" if is_dark else "black",
    )
  axes.set_yticks(range(rows), list(rates))
  steps = [f"step {step}" for step in range(columns)]
  axes.set_xticks(range(columns), steps if columns > 1 else ["all steps"])
  axes.set_title(f"learned inner rates (all started at {middle:g})")
  figure.savefig(folder / LEARNED_RATES, dpi=120)
