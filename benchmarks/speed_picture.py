"""Draws what the speed benchmark found."""

import pathlib

from matplotlib import figure

_NAMES = {
  "tfmeta_fit": "tfmeta",
  "tf_eager": "TensorFlow, eager loop",
  "torch_func": "torch.func, vmap",
  "torch_loop": "PyTorch, autograd loop",
  "jax_vmap": "JAX, vmap and jit",
}


def draw(report: dict, path: pathlib.Path) -> None:
  """Contenders by case, and how the cost of a task grows."""
  cases = report["summary"].get("cases", {})
  growth = report["parts"].get("growth", {}).get("runs", {})
  columns = max(len(cases), len(growth), 1)
  canvas = figure.Figure(figsize=(3.4 * columns, 6.4), layout="constrained")
  rows = canvas.subplots(2, columns, squeeze=False)
  for axes in rows.flat:
    axes.set_visible(False)
  for number, (case, medians) in enumerate(cases.items()):
    _draw_case(rows[0, number], case, medians)
  for number, (field, runs) in enumerate(growth.items()):
    _draw_growth(rows[1, number], field, runs)
  canvas.savefig(path, dpi=110)


def _draw_case(axes, case, medians):
  axes.set_visible(True)
  names = [_NAMES[name] for name in medians]
  speeds = [found["tasks_per_second"] for found in medians.values()]
  colors = ["C0" if name == "tfmeta_fit" else "0.7" for name in medians]
  bars = axes.barh(names, speeds, color=colors)
  axes.bar_label(bars, fmt="{:.3g}", padding=3)
  axes.set(title=case, xlabel="tasks per second", xscale="log")
  axes.set_xlim(min(speeds) / 2, 4 * max(speeds))
  axes.invert_yaxis()


def _draw_growth(axes, field, runs):
  axes.set_visible(True)
  costs = [1000 * found["cpu_seconds_per_task"] for found in runs.values()]
  axes.plot([int(value) for value in runs], costs, "o-")
  axes.set(
    title=f"conv4 by {field.replace('_', ' ')}",
    xlabel=field.replace("_", " "),
    ylabel="CPU milliseconds a task",
    xlim=(0, None),
    ylim=(0, None),
  )
  axes.grid(alpha=0.3)
