"""Random numbers as a function of a seed, and seeds as a function of data.

The numbers are a hash of the seed and of a counter. TensorFlow's own stateless
random numbers do not serve: unless their seed is a constant, they differ
between XLA and other execution, and `tf.vectorized_map` loops over them.

The hash is triple32 by C. Wellons, https://github.com/skeeto/hash-prospector.
It is a bijection of 32 bits in which each bit of the input flips each bit of
the output in half of all cases, to within 0.02 %.
"""

from typing import Any

import numpy as np
import tensorflow as tf

_ROUNDS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))
_LAST_SHIFT = 14

# 2**32 divided by the golden ratio: its multiples are spread evenly.
_ODD = 0x9E3779B9
# The factor is even, so that adding a multiple of one number to another can be
# undone.
_EVEN = 0x2C1B3C6E

# A fingerprint multiplies floats by each of these before it truncates them to
# integers. Powers of two round nothing. Together they distinguish magnitudes
# from 2**-38 to 2**24: where one factor exceeds the largest integer and clips,
# the next one still distinguishes.
_MAGNIFIED = (2.0**38, 2.0**22, 2.0**6)
_LARGEST = 2.0**30

_BITS = 23  # Random bits of a uniform number: what float32 resolves below 1.


def fingerprint(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  """Returns a hash of examples and labels that ignores their order.

  Args:
    x: `[n, ...]`, any numbers.
    y: `[n, ...]`.

  Returns:
    Int32 scalar.
  """
  rows = [tf.reshape(t, [tf.shape(t)[0], -1]) for t in (x, y)]
  row = tf.concat([tf.cast(t, tf.float32) for t in rows], axis=1)
  row = tf.concat([_cut(row * factor) for factor in _MAGNIFIED], axis=1)
  places = _words(tf.range(1, tf.shape(row)[1] + 1))
  hashes = _scrambled(_words(row) + places * _word(_ODD))
  of_rows = _scrambled(_words(_sum(hashes, axis=1)))
  return _sum(of_rows, axis=0)


def fold_in(seed: tf.Tensor, data: tf.Tensor | int) -> tf.Tensor:
  """Returns the seed of stream `data` of `seed`.

  It is the same in eager mode, graphs, vectorized maps and under XLA.

  Args:
    seed: Integers `[2]`.
    data: Integer scalar.

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
  bits = _scrambled(_words(tf.range(size)) * _word(_ODD) + first)
  bits = _scrambled(tf.bitwise.bitwise_xor(bits, second))
  whole = tf.cast(tf.bitwise.right_shift(bits, _word(32 - _BITS)), tf.float32)
  return tf.cast(tf.reshape((whole + 0.5) * 2.0**-_BITS, shape), dtype)


def normal(shape: Any, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
  """Samples standard normal numbers.

  Args:
    shape: Shape of the result.
    seed: Integers `[2]`, which alone determine the numbers.
    dtype: Float type of the result.
  """
  return tf.cast(tf.math.ndtri(uniform(shape, seed, tf.float32)), dtype)


def _scrambled(words: tf.Tensor) -> tf.Tensor:
  """Hashes uint32 numbers, one by one; different numbers stay different."""
  for shift, factor in _ROUNDS:
    words = _folded(words, shift) * _word(factor)
  return _folded(words, _LAST_SHIFT)


def _folded(words: tf.Tensor, shift: int) -> tf.Tensor:
  shifted = tf.bitwise.right_shift(words, _word(shift))
  return tf.bitwise.bitwise_xor(words, shifted)


def _cut(numbers: tf.Tensor) -> tf.Tensor:
  """Truncates to int32, because `tf.vectorized_map` has no `tf.bitcast`."""
  return tf.cast(tf.clip_by_value(numbers, -_LARGEST, _LARGEST), tf.int32)


def _sum(words: tf.Tensor, axis: int) -> tf.Tensor:
  """Returns the int32 sum, which wraps around."""
  return tf.reduce_sum(tf.cast(words, tf.int32), axis=axis)


def _words(numbers: Any) -> tf.Tensor:
  return tf.cast(tf.cast(numbers, tf.int32), tf.uint32)


def _word(number: int) -> np.uint32:
  return np.uint32(number)
