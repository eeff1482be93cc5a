"""What data sets of functions to fit have in common."""

from collections.abc import Iterable
import math

import numpy as np
import tensorflow as tf

from tfmeta.data import sampler

SPLITS = ("train", "validation", "test")


def draw_parameters(
  key: tf.Tensor, ranges: Iterable[tuple[float, float]]
) -> list[tf.Tensor]:
  """Draws a number of each range, all apart."""
  bounds = list(ranges)
  keys = sampler.split(key, len(bounds))
  return [sampler.uniform(k, [], *b) for k, b in zip(keys, bounds, strict=True)]


def check_noise(noise_stddev: float) -> None:
  """Checks the standard deviation of noise on targets."""
  if not 0.0 <= noise_stddev < math.inf:
    raise ValueError(
      "`noise_stddev` must be finite and at least 0. Received: "
      f"noise_stddev={noise_stddev}"
    )


def check_range(name: str, bounds: tuple[float, float]) -> None:
  """Checks the bounds of what is drawn."""
  values = np.asarray(bounds, np.float64)
  if values.shape != (2,) or not np.isfinite(values).all():
    raise ValueError(
      f"`{name}` must be two finite numbers. Received: {name}={bounds}"
    )
  if values[0] > values[1]:
    raise ValueError(
      f"`{name}` must begin with its lower end. Received: {name}={bounds}"
    )
