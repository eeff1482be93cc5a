"""Draws which reading each draw takes, query by query."""

import pathlib

from matplotlib import colors
from matplotlib import figure
from matplotlib import patches
import numpy as np

QUERIES = 12
LEFT, RIGHT = "#2166ac", "#f4a582"
READINGS = colors.ListedColormap([LEFT, RIGHT])


def draw(shown: dict[str, np.ndarray], tasks: list, path: pathlib.Path) -> None:
  """A column for each task: its support set, open queries, and all answers.

  Args:
    shown: Answers of each draw by the name of the learner, `[T, M, Q]`.
    tasks: T pairs of inputs and readings `[Q, 2]`, as `ambiguous_pairs` draws
      them of images.
    path: Of the PNG.
  """
  counts = [answers.shape[1] for answers in shown.values()]
  heights = [1.3, 0.9, *(0.1 + 0.17 * count for count in counts)]
  canvas = figure.Figure(
    figsize=(0.9 + 4.6 * len(tasks), 1.8 + sum(heights)), layout="constrained"
  )
  grid = canvas.subplots(
    len(heights), len(tasks), height_ratios=heights, squeeze=False
  )
  for column, (inputs, readings) in enumerate(tasks):
    chosen = np.flatnonzero(readings[:, 0] != readings[:, 1])[:QUERIES]
    support, queries, *rows = grid[:, column]
    _show_support(support, inputs, column)
    _show_queries(queries, inputs["query_x"][chosen])
    if column == 0:
      queries.set_yticks([0.5, 1.5], ["left half", "right half"])
    for axes, (name, answers) in zip(rows, shown.items(), strict=True):
      by_right = answers[column][:, chosen] == readings[chosen, 1]
      _show_answers(axes, by_right, name if column == 0 else "")
  handles = [patches.Patch(color=c) for c in (LEFT, RIGHT)]
  canvas.legend(
    handles,
    ["answers by the left half", "answers by the right half"],
    loc="outside upper center",
    ncols=2,
    frameon=False,
    title="a row is a draw; rows of both colours cover both readings",
  )
  canvas.savefig(path, dpi=100)


def _show_support(axes, inputs, number: int) -> None:
  order = np.argsort(inputs["support_y"])
  images = [_framed(inputs["support_x"][row]) for row in order]
  axes.imshow(np.concatenate(images, axis=1), cmap="gray_r", vmin=0, vmax=1)
  width = images[0].shape[1]
  for label in range(len(images)):
    axes.text(
      (label + 0.5) * width, -1, f"class {label}", ha="center", va="bottom"
    )
  axes.set_title(f"task {number + 1}: all that is known", pad=18)
  axes.axis("off")


def _show_queries(axes, images: np.ndarray) -> None:
  """Queries as columns, each above its answers: left half over right half."""
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
  axes.set_title("queries whose halves are of different classes", fontsize=9)


def _show_answers(axes, by_right: np.ndarray, name: str) -> None:
  """A row for each draw, those that answer by the left half first."""
  rows = by_right[np.argsort(by_right.mean(axis=1), kind="stable")]
  axes.imshow(rows, cmap=READINGS, vmin=0, vmax=1, aspect="auto")
  axes.set_xticks(np.arange(rows.shape[1] + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
  axes.grid(which="minor", color="white", linewidth=1.5)
  axes.tick_params(which="both", length=0)
  axes.set(xticks=[], yticks=[])
  axes.set_ylabel(name, rotation=0, ha="right", va="center")


def _framed(image: np.ndarray) -> np.ndarray:
  return np.pad(image[..., 0], 1, constant_values=0.3)
