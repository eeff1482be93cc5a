"""Draws what the sinusoid benchmark found."""

import pathlib

from matplotlib import figure
import numpy as np

import tfmeta

# Amplitude and phase of the functions that are drawn.
FUNCTIONS = ((4.0, 0.5), (1.5, 2.5))
COLORS = {"MAML": "tab:blue", "joint training": "tab:orange"}


def draw(results: dict, learners: dict, path: pathlib.Path) -> None:
  """Error by inner step, and two functions fitted by each learner.

  Args:
    results: `EvaluationResult` by name of the learner.
    learners: The learners, by the same names.
    path: Of the PNG.
  """
  picture = figure.Figure(figsize=(15, 4), layout="constrained")
  axes = picture.subplots(1, 1 + len(FUNCTIONS))
  _draw_errors(axes[0], results)
  for axis, function in zip(axes[1:], FUNCTIONS, strict=True):
    _draw_function(axis, learners, *function)
  handles = axes[1].get_legend_handles_labels()
  picture.legend(*handles, loc="outside right upper", fontsize="small")
  picture.savefig(path, dpi=120)


def _draw_errors(axis, results):
  for name, result in results.items():
    rows = result.by_step()
    axis.errorbar(
      [row["steps"] for row in rows],
      [row["mse"] for row in rows],
      yerr=[row["interval"] for row in rows],
      label=name,
      color=COLORS[name],
      marker="o",
      capsize=2,
    )
  tasks = next(iter(results.values())).tasks
  axis.set(
    title=f"{tasks} test tasks, 95 % interval",
    xlabel="inner steps",
    ylabel="mean squared error",
    yscale="log",
  )
  axis.legend()


def _draw_function(axis, learners, amplitude, phase):
  x = np.linspace(-5, 5, 200, dtype="float32")[:, None]
  support_x = np.random.default_rng(0).uniform(-5, 5, (10, 1))
  support_x = support_x.astype("float32")
  support_y = amplitude * np.sin(support_x - phase)
  axis.plot(x, amplitude * np.sin(x - phase), "k", linewidth=1, label="true")
  axis.plot(support_x, support_y, "k^", label="support")
  for name, learner in learners.items():
    _draw_fit(axis, name, learner, (support_x, support_y), x)
  axis.set(title=f"{amplitude} sin(x - {phase})", xlabel="x")


def _draw_fit(
  axis, name: str, learner: tfmeta.MetaLearner, support: tuple, x: np.ndarray
):
  path = learner.adaptation_path(*support)
  for steps, style in ((0, ":"), (1, "--"), (len(path) - 1, "-")):
    y = learner.predict_with(path[steps], x)
    label = f"{name}, {steps} step" + ("" if steps == 1 else "s")
    axis.plot(x, y, style, color=COLORS[name], label=label)
