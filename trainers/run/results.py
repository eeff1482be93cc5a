"""The figures of a run, as they are written and printed."""

import importlib.metadata
import math
import os
import platform
import sys
from typing import Any

import tfmeta
from trainers.run import datasets

_PACKAGES = ("tensorflow", "keras", "numpy")


def evaluate(settings, learner, checkpoint) -> tuple[Any, dict[str, Any]]:
  """Figures on the tasks at the end, and what `result.json` holds.

  Returns:
    As `measure`; the dict also has `seconds`: the time all finished epochs
    took, validation included, over all starts of the run. What a kill made a
    run do twice counts once.
  """
  result, figures = measure(
    settings, [learner], settings.eval_split, settings.eval_tasks
  )
  return result, {
    **figures,
    "epochs": checkpoint.epoch,
    "best_epochs": checkpoint.best_epochs,
    "seconds": round(sum(checkpoint.history["seconds"]), 1),
    "history": checkpoint.history,
  }


def measure(settings, learners, split, count) -> tuple[Any, dict[str, Any]]:
  """Evaluates learners together on the first `count` tasks of a split.

  Returns:
    A `tfmeta.evaluation.EvaluationResult`, and the same as a dict together with
    what is needed to get it again.
  """
  noise = _noise(settings, learners)
  result = tfmeta.evaluate(
    learners,
    datasets.evaluation_tasks(settings, split, count),
    noise_stddev=noise,
    nearest_neighbour=settings.is_images,
  )
  return result, {
    "trainer": settings.algorithm,
    "dataset": settings.dataset,
    "split": split,
    **result.to_dict(),
    "noise_stddev": noise,
    "seed": settings.seed,
    "inner_steps": settings.inner_steps,
    **settings.own,
    "train_shots": settings.train_shots or settings.shots,
    "train_query_shots": settings.train_query_shots or settings.query_shots,
    "parameters": learners[0].model.count_params(),
    "versions": _versions(),
    "machine": _machine(),
    "command": " ".join(["python", *sys.orig_argv[1:]]),
  }


def _noise(settings, learners):
  """In regression, the root mean squared error on validation tasks.

  Of targets around a prediction; the same for learners that have learned a
  noise of their own, so that their likelihoods can be compared.
  """
  if not settings.is_regression:
    return None
  count = settings.validation_tasks
  tasks = datasets.evaluation_tasks(settings, "validation", count)
  return max(math.sqrt(tfmeta.evaluate(learners, tasks).mean), 1e-6)


def _machine():
  cores = f"{os.cpu_count()} cores"
  return ", ".join([platform.system(), platform.machine(), cores])


def _versions():
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {
    "tfmeta": tfmeta.__version__,
    "python": platform.python_version(),
    **versions,
  }
