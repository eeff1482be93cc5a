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
  shown = [
    (drawn, found)
    for drawn, found in ((_draw_case, cases), (_draw_growth, growth))
    if found
  ]
  columns = max((len(found) for _, found in shown), default=1)
  size = (3.2 * columns + 1, 2.8 * max(len(shown), 1))
  canvas = figure.Figure(figsize=size, layout="constrained")
  rows = canvas.subplots(max(len(shown), 1), columns, squeeze=False)
  for axes in rows.flat:
    axes.set_visible(False)
  for row, (drawn, found) in zip(rows, shown, strict=False):
    for number, (name, figures) in enumerate(found.items()):
      row[number].set_visible(True)
      drawn(row[number], name, figures)
  for axes in rows[0, 1:] if cases else ():
    axes.set_yticklabels([])
  canvas.savefig(path, dpi=110)


def _draw_case(axes, case, medians):
  """A bar for each contender, in the same places for all cases."""
  speeds = [medians.get(name, {}).get("tasks_per_second") for name in _NAMES]
  colors = ["C0" if name == "tfmeta_fit" else "0.7" for name in _NAMES]
  bars = axes.barh([*_NAMES.values()], [s or 0 for s in speeds], color=colors)
  axes.bar_label(bars, labels=[_label(speed) for speed in speeds], padding=3)
  axes.set(title=case, xlabel="tasks per second")
  axes.set_xlim(0, 1.4 * max(speed or 0 for speed in speeds))
  axes.invert_yaxis()


def _label(speed):
  if speed is None:
    return "not measured"
  return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _draw_growth(axes, field, runs):
  costs = [1000 * found["cpu_seconds_per_task"] for found in runs.values()]
  values = [int(value) for value in runs]
  axes.plot(values, costs, "o-")
  axes.set(
    title=f"conv4 by {field.replace('_', ' ')}",
    xlabel=field.replace("_", " "),
    ylabel="CPU milliseconds a task",
    xlim=(0, 1.1 * max(values)),
    ylim=(0, 1.1 * max(costs)),
  )
  axes.grid(alpha=0.3)
