"""Regression tasks: sinusoids, and a mixture of sinusoids and lines."""

from collections.abc import Callable
from collections.abc import Iterable
import math

import tensorflow as tf

from tfmeta import arguments
from tfmeta.data import sampler
from tfmeta.data import splits
from tfmeta.data import task

# They are kept in memory.
_MOST_FUNCTIONS = 10**7


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
  """Samples sinusoids `y = amplitude * sin(frequency * x - phase)`.

  Amplitude, phase, frequency and every x are uniform in the given ranges. The
  defaults are those of [1]. The tasks of [2] have `phase=(0, 2 * math.pi)`,
  `frequency=(0.5, 2)`, `noise_stddev=0.01`, `relative_noise=True` and
  `num_tasks` 100 or 1000; at test time, `noisy_query=False`.

  Args:
    split: "train", "validation" or "test"; they share no random number.
    spec: A `tfmeta.TaskSpec` without ways, such as
      `TaskSpec(shots=10, query_shots=10)`.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the other arguments and i.
    amplitude: Range of the amplitude. Defaults to (0.1, 5).
    phase: Range of the phase in radians. Defaults to (0, pi).
    frequency: Range of the angular frequency, in radians per unit of x.
      Defaults to (1, 1).
    x_range: Range of the inputs. Defaults to (-5, 5).
    noise_stddev: Number >= 0, the standard deviation of the Gaussian noise on
      the targets. Defaults to 0.
    relative_noise: Whether the standard deviation is `noise_stddev` times the
      amplitude of the task. Defaults to `False`.
    noisy_query: Whether query targets have noise too. Defaults to `True`.
    num_tasks: Integer in [1, 10**7], the number of different sinusoids, which
      follow from the seed and are kept in memory, 12 bytes each. Each task
      takes one of them, with new inputs. Defaults to `None`: every task has a
      new sinusoid.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [shots, 1],
    "support_y": [shots, 1], "query_x": [query_shots, 1]}, query_y
    [query_shots, 1])`, all float32. Batch the dataset before use.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`, or if an integer argument is not
      an integer.
    ValueError: If `split` is unknown, `spec` has ways, a range is not in order,
      or an argument is out of bounds.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017. https://arxiv.org/abs/1703.03400
    [2] J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn. Bayesian
        Model-Agnostic Meta-Learning. NeurIPS 2018.
        https://arxiv.org/abs/1806.03836
  """
  salt = splits.index_of(split)
  task.check_has_no_ways(spec)
  ranges = {"amplitude": amplitude, "phase": phase, "frequency": frequency}
  _check_ranges(**ranges, x_range=x_range)
  arguments.check_number("noise_stddev", noise_stddev, least=0.0)
  arguments.check_integer("seed", seed, 0, sampler.LARGEST_INDEX)
  # These salts differ from those of the tasks' own keys.
  function_key = tf.constant([seed, salt + len(splits.SPLITS)], tf.int64)
  functions_of = _functions(function_key, ranges.values(), num_tasks)
  size = spec.support_size + spec.query_size

  def sample_block(key: tf.Tensor) -> task.TaskElement:
    function_key, x_key, noise_key = sampler.split_key(key, 3)
    height, shift, rate = functions_of(function_key)
    x = sampler.uniform(x_key, [sampler.BLOCK, size, 1], *x_range)
    noise = _sample_noise(noise_key, spec, noisy_query) * noise_stddev
    noise = noise * height if relative_noise else noise
    y = height * tf.sin(rate * x - shift)
    return task.to_element(x, y + noise, spec, leading=1)

  return sampler.task_dataset(
    sample_block, seed=seed, start=start, salt=salt, in_blocks=True
  )


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
  """Samples sinusoids and lines, which are ambiguous given few points.

  Each task is `amplitude * sin(x - phase)` or `slope * x + intercept`, with
  equal probability. All parameters and every x are uniform in the given ranges.
  All targets have Gaussian noise. The defaults are those that [1] is reported
  to have used.

  Args:
    split: "train", "validation" or "test"; they share no random number.
    spec: A `tfmeta.TaskSpec` without ways, such as
      `TaskSpec(shots=5, query_shots=50)`.
    seed: Integer in [0, 2**63). Defaults to 0.
    start: Integer in [0, 2**63), the index of the first task. Defaults to 0.
      Task i depends only on the other arguments and i.
    amplitude: Range of the amplitude. Defaults to (0.1, 5).
    phase: Range of the phase in radians. Defaults to (0, pi).
    slope: Range of the slope. Defaults to (-3, 3).
    intercept: Range of the intercept. Defaults to (-3, 3).
    x_range: Range of the inputs. Defaults to (-5, 5).
    noise_stddev: Number >= 0, the standard deviation of the noise on the
      targets. Defaults to 0.3.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [shots, 1],
    "support_y": [shots, 1], "query_x": [query_shots, 1]}, query_y
    [query_shots, 1])`, all float32. Batch the dataset before use.

  Raises:
    TypeError: If `spec` is not a `TaskSpec`, or if an integer argument is not
      an integer.
    ValueError: If `split` is unknown, `spec` has ways, a range is not in order,
      or an argument is out of bounds.

  References:
    [1] C. Finn, K. Xu, S. Levine. Probabilistic Model-Agnostic Meta-Learning.
        NeurIPS 2018. https://arxiv.org/abs/1806.02817
  """
  salt = splits.index_of(split)
  task.check_has_no_ways(spec)
  ranges = {
    "amplitude": amplitude,
    "phase": phase,
    "slope": slope,
    "intercept": intercept,
  }
  _check_ranges(**ranges, x_range=x_range)
  arguments.check_number("noise_stddev", noise_stddev, least=0.0)
  size = spec.support_size + spec.query_size

  def sample_block(key: tf.Tensor) -> task.TaskElement:
    kind_key, x_key, noise_key, key = sampler.split_key(key, 4)
    height, shift, rise, level = _sample_parameters(
      key, sampler.BLOCK, ranges.values()
    )
    x = sampler.uniform(x_key, [sampler.BLOCK, size, 1], *x_range)
    is_line = sampler.uniform(kind_key, [sampler.BLOCK, 1, 1], 0.0, 1.0) < 0.5
    y = tf.where(is_line, rise * x + level, height * tf.sin(x - shift))
    noise = sampler.normal(noise_key, x.shape)
    return task.to_element(x, y + noise_stddev * noise, spec, leading=1)

  return sampler.task_dataset(
    sample_block, seed=seed, start=start, salt=salt, in_blocks=True
  )


def _check_ranges(**ranges: tuple[float, float]) -> None:
  for name, bounds in ranges.items():
    arguments.check_range(name, bounds)


def _sample_parameters(
  key: tf.Tensor, count: int, ranges: Iterable[tuple[float, float]]
) -> list[tf.Tensor]:
  """Samples `count` numbers `[count, 1, 1]` in each range, independently."""
  bounds = list(ranges)
  keys = sampler.split_key(key, len(bounds))
  shape = [count, 1, 1]
  return [
    sampler.uniform(k, shape, *b) for k, b in zip(keys, bounds, strict=True)
  ]


def _functions(
  root: tf.Tensor,
  ranges: Iterable[tuple[float, float]],
  num_tasks: int | None,
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
  """Returns the function from a key to the parameters of a block's sinusoids.

  Args:
    root: Key of the sinusoids if their number is limited.
    ranges: Range of each parameter.
    num_tasks: Number of different sinusoids, or `None`.
  """
  if num_tasks is None:
    return lambda key: _sample_parameters(key, sampler.BLOCK, ranges)
  arguments.check_integer("num_tasks", num_tasks, 1, _MOST_FUNCTIONS)
  # Other devices may round differently.
  with tf.device("CPU"):
    parameters = _sample_parameters(root, num_tasks, ranges)

  def choose_functions(key: tf.Tensor) -> list[tf.Tensor]:
    numbers = sampler.uniform_integers(key, [sampler.BLOCK], num_tasks)
    return [tf.gather(values, numbers) for values in parameters]

  return choose_functions


def _sample_noise(
  key: tf.Tensor, spec: task.TaskSpec, noisy_query: bool
) -> tf.Tensor:
  """Samples standard normal noise, `[BLOCK, S + Q, 1]`.

  Without `noisy_query` the noise of query targets is zero. The noise of support
  targets is the same either way.
  """
  size = spec.support_size + spec.query_size
  noise = sampler.normal(key, [sampler.BLOCK, size, 1])
  has_noise = (tf.range(size) < spec.support_size) | noisy_query
  return tf.where(has_noise[:, tf.newaxis], noise, 0.0)
