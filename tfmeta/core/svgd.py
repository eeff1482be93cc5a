"""Stein variational gradient descent: particles that share out a density.

Particles are a tensor `[M, ...]`, M of them, or a list of such tensors, which
are parts of the same particles. They are not put together into one, as nothing
here is dearer than passes over all particles.
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta.typing import Weights

Particles = tf.Tensor | Weights

# Of identical particles, so that no distance is divided by zero.
_LEAST_BANDWIDTH = 1e-12


def squared_distances(particles: Particles) -> tf.Tensor:
  """Squared distances `[M, M]` of particles."""
  parts = tf.nest.flatten(particles)
  return tf.add_n([_squared_distances(_rows(part)) for part in parts])


def median_bandwidth(distances: tf.Tensor) -> tf.Tensor:
  """`median / log M` of the squared distances of different particles.

  Args:
    distances: `[M, M]`, with M >= 2 known when traced.

  Returns:
    Scalar h > 0.
  """
  count = distances.shape[0]
  pairs = np.stack(np.triu_indices(count, k=1), axis=-1)
  ordered = tf.sort(tf.gather_nd(distances, pairs))
  low, high = (len(pairs) - 1) // 2, len(pairs) // 2
  median = (ordered[low] + ordered[high]) / 2
  return tf.maximum(median / math.log(count), _LEAST_BANDWIDTH)


def rbf_kernel(
  particles: Particles, *, stop_bandwidth: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
  """Kernel `exp(-|a - b|^2 / h)` of particles, with their own median for h.

  Args:
    particles: `[M, ...]`, or a list of such, with M >= 2 known when traced.
    stop_bandwidth: Whether an outer tape takes h for a constant.

  Returns:
    The kernel `[M, M]` and the bandwidth h, a scalar.
  """
  distances = squared_distances(particles)
  bandwidth = median_bandwidth(distances)
  if stop_bandwidth:
    bandwidth = tf.stop_gradient(bandwidth)
  return tf.exp(-distances / bandwidth), bandwidth


def svgd_direction(
  particles: Particles,
  gradients: Particles,
  *,
  repulsion_scale: float = 1.0,
  stop_bandwidth: bool = True,
  scale: float | tf.Tensor = 1.0,
) -> Particles:
  """Direction in which particles come to share out a density [1].

      phi(a) = mean over b of  k(b, a) grad log p(b) + grad_b k(b, a)

  Args:
    particles: `[M, ...]`, or a list of such, with M known when traced.
    gradients: As `particles`, those of the log-density there.
    repulsion_scale: Float >= 0, by which the second term is multiplied. 1.0
      (default) is exact; the released code of BMAML [2] for sinusoids has 0.5,
      which halves the covariance that the particles settle to.
    stop_bandwidth: As in `rbf_kernel`.
    scale: By which the direction is multiplied, cheaper than afterwards.

  Returns:
    As `particles`; of a single particle, its gradient.

  References:
    [1] Q. Liu, D. Wang. Stein Variational Gradient Descent: A General Purpose
        Bayesian Inference Algorithm. NeurIPS 2016.
        https://arxiv.org/abs/1608.04471
    [2] https://github.com/jsikyoon/bmaml
  """
  count = tf.nest.flatten(particles)[0].shape[0]
  if count == 1:
    return tf.nest.map_structure(lambda g: scale * g, gradients)
  kernel, bandwidth = rbf_kernel(particles, stop_bandwidth=stop_bandwidth)
  # Gradients of the kernel are (a - b) k(b, a) 2 / h. All factors are with the
  # small matrices.
  factor = scale / tf.cast(count, kernel.dtype)
  attracted = factor * kernel
  repelled = _laplacian(kernel) * (factor * repulsion_scale * 2 / bandwidth)

  def direction(part: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    offsets = _offsets(_rows(part))
    moves = _product(attracted, _rows(gradient)) + _product(repelled, offsets)
    return tf.reshape(moves, part.shape)

  return tf.nest.map_structure(direction, particles, gradients)


def svgd_step(
  particles: Weights,
  gradients: Weights,
  specific: Sequence[bool],
  learning_rate: float | tf.Tensor,
  **options: Any,
) -> Weights:
  """A step along `svgd_direction`, some parts of particles left to the mean.

  Args:
    particles: Tensors `[M, ...]`.
    gradients: As `particles`, those of the log-density.
    specific: For each tensor, whether the kernel compares particles by it. The
      others, equal in all particles, follow the mean of their gradients, as
      they would under a kernel of 1.
    learning_rate: By which directions are multiplied.
    **options: Those of `svgd_direction`.

  Returns:
    As `particles`.
  """
  own = [p for p, s in zip(particles, specific, strict=True) if s]
  own_gradients = [g for g, s in zip(gradients, specific, strict=True) if s]
  moves = iter(
    svgd_direction(own, own_gradients, scale=learning_rate, **options)
  )
  return [
    p + (next(moves) if s else learning_rate * tf.reduce_mean(g, axis=0))
    for p, g, s in zip(particles, gradients, specific, strict=True)
  ]


def squared_distance(particles: Weights, others: Weights) -> tf.Tensor:
  """Squared distance of two sets of particles, summed over all of them."""
  pairs = zip(particles, others, strict=True)
  return tf.add_n(
    [tf.reduce_sum(tf.math.squared_difference(a, b)) for a, b in pairs]
  )


@tf.custom_gradient
def _squared_distances(rows: tf.Tensor) -> Any:
  # Not by the products of the rows, whose difference would lose all digits.
  apart = tf.math.squared_difference(
    tf.expand_dims(rows, 1), tf.expand_dims(rows, 0)
  )

  # A product, where the gradient of the line above has several `[M, M, D]`.
  def gradient(upstream: tf.Tensor) -> tf.Tensor:
    both = upstream + tf.transpose(upstream)
    return _product(2 * _laplacian(both), _offsets(rows))

  return tf.reduce_sum(apart, axis=-1), gradient


def _laplacian(weights: tf.Tensor) -> tf.Tensor:
  """Matrix that maps rows to the weighted sums of what they are from others."""
  diagonal = tf.eye(weights.shape[0], dtype=weights.dtype)
  # Without a row's own weight, beside which small ones would lose all digits.
  others = weights * (1 - diagonal)
  return tf.reduce_sum(others, axis=1, keepdims=True) * diagonal - others


def _offsets(rows: tf.Tensor) -> tf.Tensor:
  """From the first one: sums of differences are the same, with more digits."""
  # Of whatever it is, a Laplacian makes nothing, and of its gradient neither.
  return rows - tf.stop_gradient(rows[:1])


@tf.custom_gradient
def _product(kernel: tf.Tensor, rows: tf.Tensor) -> Any:
  """`kernel @ rows`."""

  def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    of_kernel = tf.matmul(upstream, rows, transpose_b=True)
    return of_kernel, _product(tf.transpose(kernel), upstream)

  # The product of batches, of none here: `tf.vectorized_map` makes tasks the
  # batch then, where `tf.matmul` would transpose all rows if the kernel is the
  # same for all tasks. In a product of `[T, 1, ...]` and `[1, 1, ...]`, which a
  # batch of one would make of it, oneDNN writes where it may not.
  return tf.raw_ops.BatchMatMulV2(x=kernel, y=rows), gradient


def _rows(part: tf.Tensor) -> tf.Tensor:
  """Matrix of what `part`, `[M, ...]`, has of each particle."""
  return tf.reshape(part, [part.shape[0], math.prod(part.shape[1:])])
