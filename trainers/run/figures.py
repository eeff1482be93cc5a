"""Pictures of a run: its learning curve, tasks before and after adapting."""

from matplotlib import figure
import numpy as np
import tensorflow as tf

from trainers.run import datasets

LEARNING_CURVE = "learning_curve.png"
TASKS = "tasks.png"

_RIGHT, _WRONG, _SUPPORT = "#2e7d32", "#c62828", "#444444"
# In the picture of a task, at most.
_CLASSES = 8
_QUERIES = 6  # Of each class.


def draw_learning_curve(folder, history) -> None:
  """Draws loss and accuracy, in training and validation, by epoch."""
  kinds = [k for k in ("loss", "accuracy") if k in history]
  canvas = figure.Figure(figsize=(5 * len(kinds), 3.6), layout="constrained")
  for axes, kind in zip(_row(canvas, len(kinds)), kinds, strict=True):
    epochs = np.arange(1, len(history[kind]) + 1)
    axes.plot(epochs, history[kind], label="training tasks")
    axes.plot(epochs, history[f"val_{kind}"], label="validation tasks")
    axes.set_xlabel("epoch")
    axes.set_title(f"query {kind} after adapting")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
  canvas.savefig(folder / LEARNING_CURVE, dpi=120)


def draw_tasks(folder, settings, learner) -> None:
  """Draws tasks of the end, as the learner sees them before and after.

  Of embeddings nothing is drawn.
  """
  if settings.is_embeddings:
    return
  count = 4 if settings.is_regression else 1
  tasks = datasets.evaluation_tasks(settings, settings.eval_split, count)
  draw = _draw_regressions if settings.is_regression else _draw_task
  draw(learner, list(tasks.unbatch())).savefig(folder / TASKS, dpi=120)


def _draw_task(learner, tasks):
  ((inputs, labels),) = tasks
  path = learner.adaptation_path(inputs["support_x"], inputs["support_y"])
  found = [
    np.argmax(learner.predict_with(weights, inputs["query_x"]), axis=-1)
    for weights in (path[0], path[-1])
  ]
  shares = [_shares(learner, w, inputs["query_x"]) for w in (path[0], path[-1])]
  order = _by_class(labels, _QUERIES)
  shots = _by_class(inputs["support_y"], 3)
  rows, columns = order.shape[0], shots.shape[1] + 2 * order.shape[1]
  canvas = figure.Figure(
    figsize=(0.8 * columns + 1.2, 0.95 * rows + 1.0), layout="constrained"
  )
  widths = [shots.shape[1] + 0.6, *[order.shape[1]] * 2]
  parts = canvas.subfigures(1, 3, width_ratios=widths, squeeze=False)[0]
  support = (inputs["support_x"], inputs["support_y"].numpy())
  _draw_images(parts[0], support[0], shots, support[1], support[1], _SUPPORT)
  second_line = "" if shares[0] is None else "\n"  # As the others have.
  parts[0].suptitle(f"support set{second_line}")
  names = ("before adapting", "after adapting")
  for part, name, guess, share in zip(
    parts[1:], names, found, shares, strict=True
  ):
    right = np.sum(guess == labels)
    _draw_images(
      part, inputs["query_x"], order, guess, labels.numpy(), shares=share
    )
    draws = "" if share is None else "\npercent: draws that say so"
    part.suptitle(f"queries {name}: {right} of {len(guess)} right{draws}")
  return canvas


def _shares(learner, weights, query_x):
  """For each query, the share of draws `[W]` that take it for each class."""
  if getattr(learner, "num_samples", 1) == 1:
    return None
  outputs = np.asarray(learner.predict_samples(weights, query_x))
  return np.mean(np.eye(outputs.shape[-1])[outputs.argmax(axis=-1)], axis=0)


def _draw_images(part, images, order, guess, labels, color=None, shares=None):
  """Images in a grid, a class per row, each under the class it is taken for."""
  grid = part.subplots(*order.shape, squeeze=False)
  for axes, index in zip(grid.flat, order.flat, strict=True):
    right = guess[index] == labels[index]
    edge = color or (_RIGHT if right else _WRONG)
    axes.imshow(np.squeeze(images[index]), cmap="gray_r")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=edge, linewidth=2.5)
    sign = "" if color else (" ✓" if right else " ✗")
    if shares is not None:
      sign += f" {shares[index, guess[index]]:.0%}"
    axes.set_title(f"{guess[index]}{sign}", color=edge, size=9, pad=3)


def _by_class(labels, count):
  """Indices `[classes, count]` of examples, a row for each of a few classes."""
  labels = np.asarray(labels)
  classes = np.unique(labels)[:_CLASSES]
  rows = [np.flatnonzero(labels == label) for label in classes]
  count = min(count, *map(len, rows))
  return np.stack([row[:count] for row in rows])


def _draw_regressions(learner, tasks):
  canvas = figure.Figure(figsize=(9, 6), layout="constrained")
  grid = canvas.subplots(2, 2, sharex=True).flat
  for axes, (inputs, targets) in zip(grid, tasks, strict=True):
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
    if hasattr(learner, "predict_samples"):
      drawn = learner.predict_samples(path[-1], tf.constant(x))
      for y in np.asarray(drawn)[:10]:
        axes.plot(x, y, color="C0", alpha=0.25, linewidth=0.8)
    for weights, style, name in ((path[0], ":", "before"), (path[-1], "-", "")):
      y = learner.predict_with(weights, tf.constant(x))
      axes.plot(x, y, style, color="C0", label=f"{name or 'after'} adapting")
    axes.plot(support_x, support_y, "^", color="C3", label="support set")
    axes.grid(alpha=0.3)
  handles, names = canvas.axes[0].get_legend_handles_labels()
  canvas.legend(handles, names, loc="outside lower center", ncols=4)
  return canvas


def _range(inputs):
  x = tf.concat([inputs["support_x"], inputs["query_x"]], axis=0)
  return float(tf.reduce_min(x)), float(tf.reduce_max(x))


def _row(canvas, count):
  return canvas.subplots(1, count, squeeze=False)[0]
