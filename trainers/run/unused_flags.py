"""Reasons why a flag would have no effect in a run.

Each function takes a `Configuration` and returns a clause such as "the data set
'sinusoid' has no images", or `None` if the flag has an effect.
"""

from collections.abc import Callable
from typing import Any

from trainers.run import data_sets

# The normalizations under which queries normalize each other.
_TRANSDUCTIVE = ("transductive", "per_step_transductive")


def _without(kind: str, owns: str) -> Callable[[Any], str | None]:
  """Returns a reason for flags that are for one kind of data set alone."""

  def why_unused(config):
    if not data_sets.is_known(config.dataset) or config.kind == kind:
      return None
    return f"the data set {config.dataset!r} has no {owns}"

  return why_unused


without_images = _without(data_sets.IMAGES, "images")
without_regression = _without(data_sets.REGRESSION, "targets of a regression")


def without_classes(config) -> str | None:
  """Returns why tasks have no classes, or `None` if they have."""
  if config.is_regression:
    return f"the tasks of {config.dataset!r} have no classes"
  return None


def not_read_by_data_set(name: str) -> Callable[[Any], str | None]:
  """Returns a reason for flags that some data sets read and others do not."""

  def why_unused(config):
    known = data_sets.is_known(config.dataset)
    if known and name not in data_sets.find(config.dataset).flags:
      return f"the data set {config.dataset!r} does not use it"
    return None

  return why_unused


def without_normalization(config) -> str | None:
  """Returns why the network has no normalization, or `None` if it has."""
  if config.is_images and config.network_normalization == "none":
    return "--network_normalization=none builds a network without normalization"
  return without_images(config)


def without_batch_normalization(config) -> str | None:
  """Returns why no layer uses statistics of a batch, or `None` if one does."""
  if config.is_images and config.network_normalization != "batch":
    return (
      f"--network_normalization={config.network_normalization} builds a "
      "network without batch normalization"
    )
  return without_images(config)


def without_transduction(config) -> str | None:
  """Returns why queries do not normalize each other, or `None` if they do."""
  if config.normalization not in (*_TRANSDUCTIVE, None):
    return (
      f"--normalization={config.normalization} does not normalize queries by "
      "each other"
    )
  return without_batch_normalization(config)


def without_moving_statistics(config) -> str | None:
  """Returns why no moving statistics are updated, or `None` if some are."""
  if config.normalization != "per_step_running":
    return "only --normalization=per_step_running uses moving statistics"
  return without_batch_normalization(config)


def without_decay(config) -> str | None:
  """Returns why the learning rate stays constant, or `None` if it falls."""
  if config.learning_rate_decay == "none":
    return "--learning_rate_decay=none keeps the learning rate constant"
  return None


def with_several_workers(config) -> str | None:
  """Returns why updates are not executed together, or `None` if they are."""
  if config.strategy == "multi_worker" and config.steps_per_execution > 1:
    return "--strategy=multi_worker makes one update in each call of the graph"
  return None


def without_strategy(strategy: str) -> Callable[[Any], str | None]:
  """Returns a reason for flags that are for one strategy alone."""

  def why_unused(config):
    if config.strategy == strategy:
      return None
    return f"it is for --strategy={strategy}"

  return why_unused
