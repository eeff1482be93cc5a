"""Sinusoids: the regression tasks of the MAML paper, and their relatives."""

from collections.abc import Callable
import math

import tensorflow as tf

from tfmeta.data import curves
from tfmeta.data import sampler
from tfmeta.data import task


def sinusoid(
  split: str,
  spec: task.TaskSpec,
  *,
  seed: int = 0,
  start: int = 0,
  amplitude: tuple[float, float] = (0.1, 5.0),
  phase: tuple[float, float] = (0.0, math.pi),
  frequency: tuple[float, float] = (1.0, 1.0),
  x_range: tuple[float, float] = (-5.0, 5.0),
  noise_stddev: float = 0.0,
  relative_noise: bool = False,
  noisy_query: bool = True,
  num_tasks: int | None = None,
) -> tf.data.Dataset:
  """Draws sinusoids `y = amplitude * sin(frequency * x - phase)`, without end.

  Amplitude, phase, frequency and every x are uniform in the given ranges; the
  defaults are those of [1]. The tasks of [2] have `phase=(0, 2 * math.pi)`,
  `frequency=(0.5, 2)`, `noise_stddev=0.01`, `relative_noise=True` and
  `num_tasks` 100 or 1000, and at test `noisy_query=False`.

  Args:
    split: "train", "validation" or "test": draws that have nothing in common.
    spec: A `tfmeta.TaskSpec` without ways, as in
      `TaskSpec(shots=10, query_shots=10)`.
    seed: Integer in `[0, 2**63)`. Default 0.
    start: Index of the first task. Default 0. Task i depends on the settings,
      the seed and i alone.
    amplitude: Range of the amplitude.
    phase: Range of the phase, in radians.
    frequency: Range of the angular frequency, in radians per unit of x.
    x_range: Range of the inputs.
    noise_stddev: Standard deviation, >= 0, of the Gaussian noise on targets.
    relative_noise: Whether `noise_stddev` counts in amplitudes of the task.
    noisy_query: Whether query targets have noise as the support's do.
    num_tasks: Integer >= 1, how many sinusoids there are; each task is one of
      them, with new x. The seed chooses them. `None` (default): no two alike.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [shots, 1],
    "support_y": [shots, 1], "query_x": [query_shots, 1]}, query_y
    [query_shots, 1])`, all float32; batch it.

  Raises:
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If the split is unknown, `spec` has ways, a range is empty, or
      an option is out of its bounds.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017. https://arxiv.org/abs/1703.03400
    [2] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
  """
  sampler.check_choice("split", split, curves.SPLITS)
  task.check_has_no_ways(spec)
  ranges = {"amplitude": amplitude, "phase": phase, "frequency": frequency}
  for name, bounds in {**ranges, "x_range": x_range}.items():
    curves.check_range(name, bounds)
  curves.check_noise(noise_stddev)
  sampler.check_index("seed", seed)
  salt = curves.SPLITS.index(split)
  functions = _functions([seed, salt + len(curves.SPLITS)], num_tasks)
  size = spec.support_size + spec.query_size

  def draw(key: tf.Tensor) -> task.TaskElement:
    function_key, x_key, noise_key = sampler.split(key, 3)
    scale, shift, rate = curves.draw_parameters(
      functions(function_key), ranges.values()
    )
    x = sampler.uniform(x_key, [size, 1], *x_range)
    noise = _noise(noise_key, spec, noisy_query) * noise_stddev
    noise = noise * scale if relative_noise else noise
    return task.to_element(x, scale * tf.sin(rate * x - shift) + noise, spec)

  return sampler.task_dataset(draw, seed=seed, start=start, salt=salt)


def _functions(
  root: list[int], num_tasks: int | None
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns what makes a task's key the key of its function."""
  if num_tasks is None:
    return lambda key: key
  task.check_positive("num_tasks", num_tasks)

  def one_of_them(key: tf.Tensor) -> tf.Tensor:
    number = tf.random.stateless_uniform(
      [], key, 0, num_tasks, tf.int64, alg=sampler.ALGORITHM
    )
    return sampler.fold(tf.constant(root, tf.int64), number)

  return one_of_them


def _noise(key: tf.Tensor, spec: task.TaskSpec, noisy_query: bool) -> tf.Tensor:
  """Draws standard normal noise, `[S + Q, 1]`, and zero where none shall be."""
  size = spec.support_size + spec.query_size
  noise = tf.random.stateless_normal([size, 1], key, alg=sampler.ALGORITHM)
  has_noise = (tf.range(size) < spec.support_size) | noisy_query
  return tf.where(has_noise[:, tf.newaxis], noise, 0.0)
