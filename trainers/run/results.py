"""The results of a run, as they are written and printed."""

import importlib.metadata
import math
import os
import platform
import sys
from typing import Any

import tfmeta
from trainers.run import tasks
from trainers.run import workdir

_PACKAGES = ("tensorflow", "keras", "numpy")


def final_results(config, learner, checkpoint) -> tuple[Any, dict[str, Any]]:
  """Evaluates a trained learner.

  Args:
    config: A `Configuration`.
    learner: The learner, with the weights of the best epoch.
    checkpoint: The `tfmeta.callbacks.Checkpoint` of the run.

  Returns:
    The result of `measure`, whose dict also tells of the training. `seconds` is
    the time that all finished epochs took, with their validation, over all
    starts of the run; an epoch that was interrupted and repeated counts once.
  """
  measured, written = measure(
    config, [learner], config.eval_split, config.eval_tasks
  )
  return measured, {
    **written,
    "epochs": checkpoint.epoch,
    "best_epochs": checkpoint.best_epochs,
    "seconds": round(sum(checkpoint.history.get("seconds", [])), 1),
    "history": checkpoint.history,
  }


def write(path, values: dict[str, Any]) -> None:
  """Writes the results, and says which figures of them are no numbers."""
  wrong = workdir.write_json(path, values)
  if wrong:
    print(
      f"Not finite, and therefore null in {path}: {', '.join(wrong[:5])}"
      f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}.",
      file=sys.stderr,
    )


def measure(
  config, learners, split: str, count: int, **how: Any
) -> tuple[Any, dict[str, Any]]:
  """Evaluates learners together on the first `count` tasks of a split.

  Args:
    config: The `Configuration` of their run.
    learners: Learners whose outputs are averaged.
    split: "train", "validation" or "test".
    count: Number of tasks.
    **how: Further arguments of `tfmeta.evaluate`.

  Returns:
    An `EvaluationResult`, and a dict with the same numbers and with what is
    needed to reproduce them.
  """
  noise = _noise_stddev(config, learners)
  measured = tfmeta.evaluate(
    learners,
    tasks.evaluation_tasks(config, split, count),
    noise_stddev=noise,
    nearest_neighbour=config.is_images,
    **how,
  )
  return measured, {
    "trainer": config.algorithm,
    "dataset": config.dataset,
    "split": split,
    **measured.to_dict(),
    "noise_stddev": noise,
    "seed": config.seed,
    "inner_steps": config.inner_steps,
    **config.own,
    "train_shots": config.train_shots or config.shots,
    "train_query_shots": config.train_query_shots or config.query_shots,
    "parameters": learners[0].model.count_params(),
    "versions": versions(),
    "machine": machine(),
    "command": " ".join(["python", *sys.orig_argv[1:]]),
  }


def export_normalization(config, learner) -> str:
  """Returns the normalization of queries in the exported learner."""
  single = config.export_normalization == "support_stats"
  if single and learner.transductive:
    return "support_stats"
  return learner.normalization


def measure_export(config, learner) -> Any:
  """Evaluates a learner as it is exported, on the tasks of `final_results`.

  Returns:
    An `EvaluationResult`, or `None` if the export predicts as the learner does.
  """
  normalization = export_normalization(config, learner)
  if normalization == learner.normalization:
    return None
  return tfmeta.evaluate(
    learner,
    tasks.evaluation_tasks(config, config.eval_split, config.eval_tasks),
    normalization=normalization,
  )


def shortened(measured) -> dict[str, Any]:
  """Returns the main numbers of an `EvaluationResult`."""
  values = measured.to_dict()
  names = ("normalization", "transductive", measured.metric, "interval")
  return {name: values[name] for name in names}


def line_of_export(measured) -> str:
  """Returns what the exported learner achieves, as one line."""
  interval = ""
  if measured.interval:
    interval = f" {tfmeta.metrics.plus_minus()} {measured.interval:.2%}"
  return (
    f"exported with normalization {measured.normalization!r}, for any number "
    f"of queries at once: {measured.mean:.2%}{interval}"
  )


def _noise_stddev(config, learners) -> float | None:
  """Returns the standard deviation of the noise that likelihoods assume.

  For regression it is the root mean squared error on validation tasks, also
  where a learner has learned its own noise: likelihoods of learners can be
  compared only under the same estimate. There is none, and no likelihood, if
  that error is not finite.
  """
  if not config.is_regression:
    return None
  validation = tasks.evaluation_tasks(
    config, "validation", config.validation_tasks
  )
  error = tfmeta.evaluate(learners, validation).mean
  return max(math.sqrt(error), 1e-6) if math.isfinite(error) else None


def machine() -> str:
  """Returns what kind of machine this is."""
  cores = f"{os.cpu_count()} cores"
  return ", ".join([platform.system(), platform.machine(), cores])


def versions() -> dict[str, str]:
  """Returns the versions of Python and of the packages that compute."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {
    "tfmeta": tfmeta.__version__,
    "python": platform.python_version(),
    **versions,
  }
