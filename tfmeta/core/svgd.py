"""Stein variational gradient descent: particles that share out a density.

Particles are the rows of a matrix `[M, D]`, M of them with D numbers each.
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta.typing import Weights

# Of identical particles, so that no distance is divided by zero.
_LEAST_BANDWIDTH = 1e-12


@tf.custom_gradient
def squared_distances(particles: tf.Tensor) -> Any:
  """Squared distances `[M, M]` of the rows of `particles`, `[M, D]`."""
  # Not by the products of the rows, whose difference would lose all digits.
  apart = tf.math.squared_difference(
    tf.expand_dims(particles, 1), tf.expand_dims(particles, 0)
  )

  # A product, where the gradient of the line above has several `[M, M, D]`.
  def gradient(upstream: tf.Tensor) -> tf.Tensor:
    both = upstream + tf.transpose(upstream)
    return _product(2 * _laplacian(both), _offsets(particles))

  return tf.reduce_sum(apart, axis=-1), gradient


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
  particles: tf.Tensor, *, stop_bandwidth: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
  """Kernel `exp(-|a - b|^2 / h)` of particles, with their own median for h.

  Args:
    particles: `[M, D]`, with M >= 2 known when traced.
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
  particles: tf.Tensor,
  gradients: tf.Tensor,
  *,
  repulsion_scale: float = 1.0,
  stop_bandwidth: bool = True,
  scale: float | tf.Tensor = 1.0,
) -> tf.Tensor:
  """Direction in which particles come to share out a density [1].

      phi(a) = mean over b of  k(b, a) grad log p(b) + grad_b k(b, a)

  Args:
    particles: `[M, D]`, with M known when traced.
    gradients: `[M, D]`, those of the log-density at the particles.
    repulsion_scale: Float >= 0, by which the second term is multiplied. 1.0
      (default) is exact; the released code of BMAML [2] for sinusoids has 0.5,
      which halves the covariance that the particles settle to.
    stop_bandwidth: As in `rbf_kernel`.
    scale: By which the direction is multiplied, cheaper than afterwards.

  Returns:
    `[M, D]`; of a single particle, its gradient.

  References:
    [1] Q. Liu, D. Wang. Stein Variational Gradient Descent: A General Purpose
        Bayesian Inference Algorithm. NeurIPS 2016.
        https://arxiv.org/abs/1608.04471
    [2] https://github.com/jsikyoon/bmaml
  """
  if particles.shape[0] == 1:
    return scale * gradients
  kernel, bandwidth = rbf_kernel(particles, stop_bandwidth=stop_bandwidth)
  # Gradients of the kernel are (a - b) k(b, a) 2 / h. All factors are with the
  # small matrices, as nothing here is dearer than passes over the particles.
  count = tf.cast(particles.shape[0], particles.dtype)
  factor = scale / count
  repelled = _laplacian(kernel) * (factor * repulsion_scale * 2 / bandwidth)
  return _product(factor * kernel, gradients) + _product(
    repelled, _offsets(particles)
  )


def svgd_step(
  particles: Weights,
  gradients: Weights,
  specific: Sequence[bool],
  learning_rate: float | tf.Tensor,
  **options: Any,
) -> Weights:
  """A step along `svgd_direction`, for particles that are lists of tensors.

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
  moves = svgd_direction(
    _rows(own), _rows(own_gradients), scale=learning_rate, **options
  )
  sizes = [math.prod(p.shape[1:]) for p in own]
  parts = iter(tf.split(moves, sizes, axis=1))
  return [
    p + tf.reshape(next(parts), p.shape)
    if s
    else p + learning_rate * tf.reduce_mean(g, axis=0)
    for p, g, s in zip(particles, gradients, specific, strict=True)
  ]


def squared_distance(particles: Weights, others: Weights) -> tf.Tensor:
  """Squared distance of two sets of particles, summed over all of them."""
  pairs = zip(particles, others, strict=True)
  return tf.add_n(
    [tf.reduce_sum(tf.math.squared_difference(a, b)) for a, b in pairs]
  )


def _laplacian(weights: tf.Tensor) -> tf.Tensor:
  """Matrix that maps rows to the weighted sums of what they are from others."""
  diagonal = tf.eye(weights.shape[0], dtype=weights.dtype)
  # Without a row's own weight, beside which small ones would lose all digits.
  others = weights * (1 - diagonal)
  return tf.reduce_sum(others, axis=1, keepdims=True) * diagonal - others


def _offsets(particles: tf.Tensor) -> tf.Tensor:
  """From the first one: sums of differences are the same, with more digits."""
  # Of whatever it is, a Laplacian makes nothing, and of its gradient neither.
  return particles - tf.stop_gradient(particles[:1])


@tf.custom_gradient
def _product(kernel: tf.Tensor, rows: tf.Tensor) -> Any:
  """`kernel @ rows`."""
  # As a batch of one: `tf.vectorized_map` makes tasks the batch then, where it
  # would transpose all rows if the kernel is the same for all tasks.
  batches = (tf.expand_dims(t, axis=0) for t in (kernel, rows))

  # Not by batches of one too: of products of rows with rows that are the same
  # for all tasks, those of oneDNN write where they may not.
  def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    of_kernel = tf.matmul(upstream, rows, transpose_b=True)
    return of_kernel, _product(tf.transpose(kernel), upstream)

  return tf.squeeze(tf.matmul(*batches), axis=0), gradient


def _rows(tensors: Weights) -> tf.Tensor:
  """Matrix `[M, D]` of tensors `[M, ...]`."""
  flat = [tf.reshape(t, [t.shape[0], math.prod(t.shape[1:])]) for t in tensors]
  return tf.concat(flat, axis=1)
