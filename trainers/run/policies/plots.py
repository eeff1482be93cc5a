"""Plots of a run of a policy: the learning curve, and paths in some tasks."""

import pathlib
from typing import Any

import numpy as np

import tfmeta
from trainers.run import plots

LEARNING_CURVE = plots.LEARNING_CURVE
TASKS = plots.TASKS

_BEFORE, _AFTER, _JOINT = "#8d99ae", "#1565c0", "#ef6c00"
_GOAL = "#c62828"

# Tasks in the plot of paths, and episodes of each.
_TASKS, _EPISODES = 6, 3

# Half the width of the plot of a task.
_REACH = 0.75
_TICKS = (-0.5, 0.0, 0.5)


def plot_learning_curve(
  folder: pathlib.Path, config: Any, histories: dict[str, Any]
) -> None:
  """Plots the returns before and after adapting by update."""
  history = histories["learner"]
  figure = plots.new_figure(6.4, 4)
  axes = figure.subplots()
  updates = config.steps_per_epoch * np.arange(1, len(history["return"]) + 1)
  lines = [("val_return_before", "before adapting", _BEFORE)]
  if config.inner_steps:
    word = "step" if config.inner_steps == 1 else "steps"
    label = f"after {config.inner_steps} inner {word}"
    lines.append(("val_return", label, _AFTER))
  for name, label, color in lines:
    axes.plot(updates, history[name], color=color, label=label)
    train = name.removeprefix("val_")
    axes.plot(updates, history[train], color=color, alpha=0.4, ls="--")
  if "joint" in histories:
    joint = histories["joint"]["val_return"]
    axes.plot(updates, joint, color=_JOINT, label="joint policy")
  axes.plot([], [], color="black", label="validation tasks")
  axes.plot([], [], color="black", ls="--", label="training tasks, by epoch")
  axes.set_xlabel("update")
  axes.set_ylabel("mean return")
  axes.grid(alpha=0.3)
  axes.legend()
  figure.savefig(folder / LEARNING_CURVE, dpi=120)


def plot_tasks(folder: pathlib.Path, config: Any, learner: Any) -> None:
  """Plots paths of the point in unseen tasks, before and after adapting.

  Other environments than `Navigation` are skipped, because their observations
  are not positions.
  """
  if not isinstance(learner.environment, tfmeta.environments.Navigation):
    return
  tasks = learner.environment.tasks(config.eval_split, seed=config.seed)
  batch = next(iter(tasks.batch(_TASKS)))
  episodes = tfmeta.rl.collect_episodes(learner, batch, steps=1)
  before, after = (_paths(one) for one in episodes)
  goals = batch["goal"].numpy()
  figure = plots.new_figure(8.4, 6.4)
  grid = figure.subplots(2, _TASKS // 2, sharex=True, sharey=True)
  for index, axes in enumerate(grid.flat):
    _draw(axes, before[index], _BEFORE, "before adapting")
    _draw(axes, after[index], _AFTER, "after one inner step")
    axes.plot(0, 0, "o", color="black", ms=5, label="start")
    axes.plot(*goals[index], "*", color=_GOAL, ms=14, label="goal")
    axes.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH), aspect="equal")
    axes.set(xticks=_TICKS, yticks=_TICKS)
    axes.set_title(_returns(episodes, index), fontsize=10)
    axes.grid(alpha=0.3)
  handles, labels = grid.flat[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=4)
  figure.savefig(folder / TASKS, dpi=120)


def _draw(axes: Any, paths: list[np.ndarray], color: str, label: str) -> None:
  for number, path in enumerate(paths):
    # A legend names the paths of a policy once.
    name = label if number == 0 else None
    axes.plot(*path.T, color=color, lw=0.8, alpha=0.8, label=name)


def _returns(episodes: Any, index: int) -> str:
  """Returns the mean returns of a task before and after adapting, as text."""
  means = [np.mean(np.sum(one.rewards, axis=-1)[index]) for one in episodes]
  return f"return {means[0]:.0f} before, {means[1]:.0f} after"


def _paths(episodes: Any) -> list[list[np.ndarray]]:
  """Returns a list of paths `[steps, 2]` for each task."""
  tasks, *_, horizon = episodes.mask.shape
  positions = np.reshape(episodes.observations, [tasks, -1, horizon, 2])
  lengths = np.sum(episodes.mask, axis=-1).reshape(tasks, -1).astype(int)
  return [
    [path[:length] for path, length in zip(*of_task, strict=True)][:_EPISODES]
    for of_task in zip(positions, lengths, strict=True)
  ]
