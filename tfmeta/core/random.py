"""Random numbers as a function of a seed, and seeds as a function of data.

The numbers are a hash of the seed and of a counter. TensorFlow's own stateless
random numbers are unsuitable: unless their seed is a constant, they differ
between XLA and other execution, and `tf.vectorized_map` loops over them.

The hash is triple32 by C. Wellons, https://github.com/skeeto/hash-prospector.
It is a bijection of 32-bit numbers. If one bit of the input flips, each bit of
the output flips in half of all cases, to within 0.02%.
"""

from typing import Any

import numpy as np
import tensorflow as tf

_ROUNDS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))
_LAST_SHIFT = 14

# The multiples of this number, 2**32 divided by the golden ratio, are spread
# evenly.
_ODD = 0x9E3779B9
# `fold_in` mixes two words into `a + _EVEN * b` and `b + _EVEN * a`. An even
# factor makes the determinant odd, so no two pairs give the same mixture.
_EVEN = 0x2C1B3C6E

# A fingerprint multiplies floats by each of these before it truncates them to
# integers. Multiplying by a power of two does not round. Together the factors
# distinguish magnitudes from 2**-38 to 2**24: if one product is clipped to the
# largest integer, the product with the next factor still distinguishes.
_MAGNIFIED = (2.0**38, 2.0**22, 2.0**6)
_LARGEST = 2.0**30

_BITS = 23  # With half a unit added, float32 still resolves this many bits.


def fingerprint(x: Any, y: tf.Tensor, weight: Any = None) -> tf.Tensor:
  """Returns a hash of examples and targets that ignores their order.

  Args:
    x: Examples, `[n, ...]`, or a structure of such tensors.
    y: Targets, `[n, ...]`.
    weight: Weights `[n]`. Examples of weight 0 do not enter the hash. Defaults
      to `None`: all examples do.

  Returns:
    Int32 scalar.
  """
  rows = [tf.reshape(t, [tf.shape(t)[0], -1]) for t in tf.nest.flatten((x, y))]
  row = tf.concat([_numbers(t) for t in rows], axis=1)
  row = tf.concat([_cut(row * factor) for factor in _MAGNIFIED], axis=1)
  # The place of a number enters its hash, because order matters in an example.
  # The sum over examples ignores their order.
  places = _words(tf.range(1, tf.shape(row)[1] + 1))
  hashes = _scrambled(_words(row) + places * _word(_ODD))
  of_rows = _scrambled(_words(_sum(hashes, axis=1)))
  if weight is not None:
    of_rows *= tf.cast(weight > 0, of_rows.dtype)
  return _sum(of_rows, axis=0)


def fold_in(seed: tf.Tensor, data: tf.Tensor | int) -> tf.Tensor:
  """Derives a new seed from `seed` and an integer.

  The result is the same in eager mode, graphs, vectorized maps and under XLA.
  With one seed, different integers give different results.

  Args:
    seed: Integers `[2]`.
    data: Integer scalar, such as an index or the number of a stream.

  Returns:
    Int32 `[2]`.
  """
  steps = np.array([_ODD, 3 * _ODD % 2**32], np.uint32)
  both = _scrambled(_words(seed) + (_words(data) + _word(1)) * steps)
  # Mixing makes each half depend on both halves of the seed.
  return tf.cast(both + tf.reverse(both, [0]) * _word(_EVEN), tf.int32)


def uniform(shape: Any, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
  """Samples uniform numbers in the open interval (0, 1).

  Args:
    shape: Shape of the result.
    seed: Integers `[2]`, which alone determine the numbers.
    dtype: Float type of the result.
  """
  size = tf.reduce_prod(shape)
  first, second = tf.unstack(_words(seed))
  # The two halves of the seed enter before and after the first hash, so that
  # both matter and cannot cancel.
  bits = _scrambled(_words(tf.range(size)) * _word(_ODD) + first)
  bits = _scrambled(tf.bitwise.bitwise_xor(bits, second))
  whole = tf.cast(tf.bitwise.right_shift(bits, _word(32 - _BITS)), tf.float32)
  # The half excludes 0 and 1, where normal numbers would be infinite.
  return tf.cast(tf.reshape((whole + 0.5) * 2.0**-_BITS, shape), dtype)


def normal(shape: Any, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
  """Samples standard normal numbers.

  Args:
    shape: Shape of the result.
    seed: Integers `[2]`, which alone determine the numbers.
    dtype: Float type of the result.
  """
  return tf.cast(tf.math.ndtri(uniform(shape, seed, tf.float32)), dtype)


def dropped_out(
  features: tf.Tensor,
  rate: float,
  copies: int,
  seed: tf.Tensor,
  counted: tf.Tensor | None = None,
) -> list[tf.Tensor]:
  """Returns copies of `features`, each with its own dropout mask.

  Args:
    features: `[n, d]`.
    rate: Share of the numbers that become 0. The others are divided by
      `1 - rate`, which keeps the mean.
    copies: Number of copies.
    seed: Integers `[2]`, which alone determine the masks.
    counted: Booleans `[n]`, the examples that count; `None` for all. These
      examples get the masks that they would get alone.
  """
  if not rate:
    return [features] * copies
  shape = tf.concat([[copies], tf.shape(features)], axis=0)
  numbers = uniform(shape, seed, features.dtype)
  if counted is not None:
    places = tf.cumsum(tf.cast(counted, tf.int32), exclusive=True)
    numbers = without_gaps(numbers, tf.where(counted, places, 0), counted)
  kept = numbers >= rate
  masks = tf.cast(kept, features.dtype) / (1.0 - rate)
  return tf.unstack(features * masks, copies)


def without_gaps(
  numbers: tf.Tensor, places: tf.Tensor, counted: tf.Tensor | None
) -> tf.Tensor:
  """Gives examples the numbers that they would have without padding.

  The numbers of a smaller shape are the first ones of a larger shape, so a part
  of the numbers of all examples, padding included, serves the others.

  Args:
    numbers: Numbers of shape `[..., n, d]`, from `normal` or `uniform`.
    places: Integers `[n]`: the place that each example has among those that
      count, and any number below n for the others.
    counted: Booleans `[n]`, the examples that count; `None` for all.

  Returns:
    Numbers `[..., n, d]`. If m examples count, their numbers are the rows
    `places` of the numbers that a shape `[..., m, d]` has.
  """
  shape = tf.shape(numbers)
  rows = tf.reshape(numbers, tf.concat([[-1], shape[-1:]], axis=0))
  blocks = tf.range(tf.shape(rows)[0] // shape[-2])
  counted = tf.ones_like(places) if counted is None else counted
  size = tf.reduce_sum(tf.cast(counted, tf.int32))
  chosen = blocks[:, tf.newaxis] * size + places
  gathered = tf.reshape(tf.gather(rows, chosen), shape)
  return tf.ensure_shape(gathered, numbers.shape)


def ranks_of(labels: tf.Tensor) -> tf.Tensor:
  """Returns the place `[n]` of each label in the sorted order.

  Equal labels keep their order.
  """
  mine, other = labels[:, tf.newaxis], labels[tf.newaxis]
  places = tf.range(tf.shape(labels)[0])
  earlier = places[tf.newaxis] < places[:, tf.newaxis]
  before = (other < mine) | ((other == mine) & earlier)
  return tf.reduce_sum(tf.cast(before, tf.int32), axis=1)


def _scrambled(words: tf.Tensor) -> tf.Tensor:
  """Hashes each uint32 number. Different numbers have different hashes."""
  for shift, factor in _ROUNDS:
    words = _folded(words, shift) * _word(factor)
  return _folded(words, _LAST_SHIFT)


def _folded(words: tf.Tensor, shift: int) -> tf.Tensor:
  shifted = tf.bitwise.right_shift(words, _word(shift))
  return tf.bitwise.bitwise_xor(words, shifted)


def _numbers(values: tf.Tensor) -> tf.Tensor:
  """Returns floats; different strings become different ones, most likely."""
  if values.dtype == tf.string:
    values = tf.strings.to_hash_bucket_fast(values, 2**_BITS)
  return tf.cast(values, tf.float32)


def _cut(numbers: tf.Tensor) -> tf.Tensor:
  """Truncates to int32, because `tf.vectorized_map` cannot map `tf.bitcast`."""
  return tf.cast(tf.clip_by_value(numbers, -_LARGEST, _LARGEST), tf.int32)


def _sum(words: tf.Tensor, axis: int) -> tf.Tensor:
  """Returns the int32 sum, which wraps around."""
  return tf.reduce_sum(tf.cast(words, tf.int32), axis=axis)


def _words(numbers: Any) -> tf.Tensor:
  return tf.cast(tf.cast(numbers, tf.int32), tf.uint32)


def _word(number: int) -> np.uint32:
  return np.uint32(number)
