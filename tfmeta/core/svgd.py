"""Stein variational gradient descent: particles that approximate a density.

M particles are a tensor `[M, ...]`, or a list of such tensors. Each tensor of a
list holds one part of every particle. The parts are not concatenated, because
passes over all particles are the most expensive operations here.
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta.core import custom_gradients
from tfmeta.typing import Weights

Particles = tf.Tensor | Weights

# Identical particles get this bandwidth, which prevents a division by zero.
_LEAST_BANDWIDTH = 1e-12


def squared_distances(particles: Particles) -> tf.Tensor:
  """Returns the squared distances `[M, M]` between particles."""
  parts = tf.nest.flatten(particles)
  return tf.add_n([_squared_distances(_rows(part)) for part in parts])


def median_bandwidth(distances: tf.Tensor) -> tf.Tensor:
  """Returns `median / log M` of the squared distances of distinct particles.

  With this bandwidth, the kernel of two particles at the median distance is
  `1 / M`. The other particles together then count about as much as a particle
  counts for itself.

  Args:
    distances: Squared distances `[M, M]`, with M >= 2 known when traced.

  Returns:
    Scalar h > 0.
  """
  count = distances.shape[0]
  # The upper triangle holds each pair of particles once.
  pairs = np.stack(np.triu_indices(count, k=1), axis=-1)
  ordered = tf.sort(tf.gather_nd(distances, pairs))
  # If the number of pairs is even, the median is the mean of the middle two.
  low, high = (len(pairs) - 1) // 2, len(pairs) // 2
  median = (ordered[low] + ordered[high]) / 2
  return tf.maximum(median / math.log(count), _LEAST_BANDWIDTH)


def mean_distance_bandwidth(distances: tf.Tensor) -> tf.Tensor:
  """Returns `mean^2 / log(M + 1)`, for the mean distance of two particles.

  Args:
    distances: Squared distances `[M, M]`, with M >= 2 known when traced.

  Returns:
    Scalar h > 0.
  """
  count = distances.shape[0]
  # The derivative of the root is infinite at 0, which is the distance of a
  # particle to itself.
  apart = tf.maximum(distances, _LEAST_BANDWIDTH)
  roots = tf.sqrt(apart) * (1 - tf.eye(count, dtype=apart.dtype))
  mean = tf.reduce_sum(roots) / (count * (count - 1))
  return tf.maximum(mean**2 / math.log(count + 1), _LEAST_BANDWIDTH)


_BANDWIDTHS = {
  "median": median_bandwidth,
  "mean_distance": mean_distance_bandwidth,
}


def rbf_kernel(
  particles: Particles,
  *,
  bandwidth: str = "median",
  stop_bandwidth: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the kernel `exp(-|a - b|^2 / h)`.

  Args:
    particles: `[M, ...]`, or a list of such tensors, with M >= 2 known when
      traced.
    bandwidth: Name of the function that returns h: `"median"` (default) for
      `median_bandwidth`, or `"mean_distance"` for `mean_distance_bandwidth`.
    stop_bandwidth: Whether an outer tape treats h as a constant. Defaults to
      `True`.

  Returns:
    The kernel `[M, M]` and the bandwidth h, a scalar.
  """
  distances = squared_distances(particles)
  h = _BANDWIDTHS[bandwidth](distances)
  if stop_bandwidth:
    h = tf.stop_gradient(h)
  return tf.exp(-distances / h), h


def svgd_direction(
  particles: Particles,
  gradients: Particles,
  *,
  repulsion_scale: float = 1.0,
  bandwidth: str = "median",
  stop_bandwidth: bool = True,
  scale: float | tf.Tensor = 1.0,
) -> Particles:
  """Returns the direction in which particles move to approximate a density [1].

      phi(a) = mean over b of  k(b, a) grad log p(b) + grad_b k(b, a)

  The first term moves particles toward regions of high density. The second term
  moves them apart.

  Args:
    particles: `[M, ...]`, or a list of such tensors, with M known when traced.
    gradients: Gradients of the log-density at the particles, of the same
      structure.
    repulsion_scale: Float >= 0, the factor of the second term. Defaults to 1.0,
      which is exact. The released code of BMAML [2] for sinusoids uses 0.5,
      which halves the covariance that the particles settle to.
    bandwidth: `"median"` (default) or `"mean_distance"`, see `rbf_kernel`.
    stop_bandwidth: Whether an outer tape treats the bandwidth of the kernel as
      a constant. Defaults to `True`.
    scale: Factor of the direction, such as a learning rate. It multiplies the
      small kernel matrices, which costs less than scaling the result. Defaults
      to 1.0.

  Returns:
    The directions, in the structure of `particles`. The direction of a single
    particle is its gradient, times `scale`.

  References:
    [1] Q. Liu, D. Wang. Stein Variational Gradient Descent: A General Purpose
        Bayesian Inference Algorithm. NeurIPS 2016.
        https://arxiv.org/abs/1608.04471
    [2] https://github.com/jsikyoon/bmaml
  """
  count = tf.nest.flatten(particles)[0].shape[0]
  if count == 1:
    return tf.nest.map_structure(lambda g: scale * g, gradients)
  kernel, h = rbf_kernel(
    particles, bandwidth=bandwidth, stop_bandwidth=stop_bandwidth
  )
  # The gradient of the kernel is (a - b) k(b, a) 2 / h. Its sum over b is the
  # Laplacian of the kernel times the particles. All factors multiply the small
  # matrices rather than the particles.
  factor = scale / tf.cast(count, kernel.dtype)
  attracted = factor * kernel
  repelled = _laplacian(kernel) * (factor * repulsion_scale * 2 / h)

  def direction(part: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    offsets = _offsets(_rows(part))
    # The gradient of a layer of time steps may have no known shape.
    rows = _rows(tf.ensure_shape(gradient, part.shape))
    moves = _product(attracted, rows) + _product(repelled, offsets)
    return tf.reshape(moves, part.shape)

  return tf.nest.map_structure(direction, particles, gradients)


def svgd_step(
  particles: Weights,
  gradients: Weights,
  specific: Sequence[bool],
  learning_rate: float | tf.Tensor,
  **options: Any,
) -> Weights:
  """Takes a step along `svgd_direction`.

  Args:
    particles: Tensors `[M, ...]`.
    gradients: Gradients of the log-density, tensors `[M, ...]`.
    specific: For each tensor, whether the kernel compares particles by it. The
      other tensors are equal in all particles. They move along the mean of
      their gradients, as they would under a kernel of 1.
    learning_rate: Factor of the directions, the step size.
    **options: `repulsion_scale`, `bandwidth` and `stop_bandwidth` of
      `svgd_direction`.

  Returns:
    The new particles, tensors `[M, ...]`.
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
  """Returns the sum over particles of their squared distances to `others`.

  Args:
    particles: Tensors `[M, ...]`.
    others: Tensors of the same shapes.
  """
  pairs = zip(particles, others, strict=True)
  return tf.add_n(
    [tf.reduce_sum(tf.math.squared_difference(a, b)) for a, b in pairs]
  )


@custom_gradients.custom_gradient
def _squared_distances(rows: tf.Tensor) -> Any:
  # The identity |a - b|^2 = a a - 2 a b + b b would lose all digits for close
  # particles, so this function squares the differences.
  apart = tf.math.squared_difference(
    tf.expand_dims(rows, 1), tf.expand_dims(rows, 0)
  )

  # A matrix product replaces the several `[M, M, D]` tensors that the gradient
  # of the line above would have.
  def gradient(upstream: tf.Tensor) -> tf.Tensor:
    both = upstream + tf.transpose(upstream)
    return _product(2 * _laplacian(both), _offsets(rows))

  return tf.reduce_sum(apart, axis=-1), gradient


def _laplacian(weights: tf.Tensor) -> tf.Tensor:
  """Returns the matrix that maps rows to weighted sums of their differences.

  Row i of the product with rows `x` is the sum over j of `weights[i, j] * (x[i]
  - x[j])`.
  """
  diagonal = tf.eye(weights.shape[0], dtype=weights.dtype)
  # The weight of a row for itself is left out. It would cancel, but small
  # weights would lose all digits beside it.
  others = weights * (1 - diagonal)
  return tf.reduce_sum(others, axis=1, keepdims=True) * diagonal - others


def _offsets(rows: tf.Tensor) -> tf.Tensor:
  """Returns the rows relative to the first row, which keeps more digits."""
  # Laplacian rows sum to zero, so the reference point cancels, in values and in
  # gradients.
  return rows - tf.stop_gradient(rows[:1])


@custom_gradients.custom_gradient
def _product(kernel: tf.Tensor, rows: tf.Tensor) -> Any:
  """Returns `kernel @ rows`."""

  def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    of_kernel = tf.matmul(upstream, rows, transpose_b=True)
    return of_kernel, _product(tf.transpose(kernel), upstream)

  # Nothing is batched here, but `tf.vectorized_map` turns the tasks into the
  # batch of this operation. It would turn `tf.matmul` into a transposition of
  # all rows if the kernel is the same for all tasks. Adding a batch axis of
  # length 1 does not help: it leads to a product of `[T, 1, ...]` and `[1, 1,
  # ...]`, in which oneDNN writes out of bounds.
  return tf.raw_ops.BatchMatMulV2(x=kernel, y=rows), gradient


def _rows(part: tf.Tensor) -> tf.Tensor:
  """Returns `part`, `[M, ...]`, as a matrix with a row for each particle."""
  return tf.reshape(part, [part.shape[0], math.prod(part.shape[1:])])
