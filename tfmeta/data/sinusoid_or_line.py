"""Sinusoids and lines: regression tasks that few points leave ambiguous."""

import math

import tensorflow as tf

from tfmeta.data import curves
from tfmeta.data import sampler
from tfmeta.data import task


def sinusoid_or_line(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  amplitude: tuple[float, float] = (0.1, 5.0),
  phase: tuple[float, float] = (0.0, math.pi),
  slope: tuple[float, float] = (-3.0, 3.0),
  intercept: tuple[float, float] = (-3.0, 3.0),
  x_range: tuple[float, float] = (-5.0, 5.0),
  noise_stddev: float = 0.3,
) -> tf.data.Dataset:
  """Draws `amplitude * sin(x - phase)` or `slope * x + intercept`, without end.

  Each task is one or the other with equal chance; everything is uniform in its
  range, and all targets have Gaussian noise. The defaults are those that [1]
  is reported to have used.

  Args:
    split: "train", "validation" or "test": draws that have nothing in common.
    spec: A `tfmeta.TaskSpec` without ways, as in
      `TaskSpec(shots=5, query_shots=50)`.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the settings,
      the seed and i alone.
    amplitude: Range of the amplitude.
    phase: Range of the phase, in radians.
    slope: Range of the slope.
    intercept: Range of the intercept.
    x_range: Range of the inputs.
    noise_stddev: Standard deviation, >= 0, of the noise on targets.

  Returns:
    Single tasks, as those of `sinusoid`.

  Raises:
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If the split is unknown, `spec` has ways, a range is empty, or
      an option is out of its bounds.

  References:
    [1] C. Finn, K. Xu, S. Levine. Probabilistic Model-Agnostic Meta-Learning.
        NeurIPS 2018. https://arxiv.org/abs/1806.02817
  """
  sampler.check_choice("split", split, curves.SPLITS)
  task.check_has_no_ways(spec)
  ranges = {
    "amplitude": amplitude,
    "phase": phase,
    "slope": slope,
    "intercept": intercept,
  }
  for name, bounds in {**ranges, "x_range": x_range}.items():
    curves.check_range(name, bounds)
  curves.check_noise(noise_stddev)
  size = spec.support_size + spec.query_size

  def draw(key: tf.Tensor) -> task.TaskElement:
    which, x_key, noise_key, key = sampler.split(key, 4)
    height, shift, rise, level = curves.draw_parameters(key, ranges.values())
    x = sampler.uniform(x_key, [size, 1], *x_range)
    is_line = sampler.uniform(which, [], 0.0, 1.0) < 0.5
    y = tf.where(is_line, rise * x + level, height * tf.sin(x - shift))
    noise = tf.random.stateless_normal(
      [size, 1], noise_key, alg=sampler.ALGORITHM
    )
    return task.to_element(x, y + noise_stddev * noise, spec)

  salt = curves.SPLITS.index(split)
  return sampler.task_dataset(draw, seed=seed, start=start, salt=salt)
