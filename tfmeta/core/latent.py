"""Pieces of latent embedding optimisation, as functions of tensors."""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfmeta.core import inner_loop
from tfmeta.core import random

SCALES = ("softplus", "release")

_LEAST_SCALE = 1e-10


class Codes(NamedTuple):
  """Codes of a task, `[C, n]`: one for each of C classes or examples.

  Attributes:
    mean: With `stddev` the Gaussian that they were drawn from.
    stddev: As `mean`.
    drawn: Before the inner loop.
    moved: After it.
  """

  mean: tf.Tensor
  stddev: tf.Tensor
  drawn: tf.Tensor
  moved: tf.Tensor


def split_scale(
  values: tf.Tensor, *, kind: str, initial: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mean and standard deviation out of the two halves of the last axis.

  Args:
    values: `[..., 2 n]`.
    kind: `"softplus"`: `softplus(u)`, scaled to `initial` at u = 0 (to
      `log 2` if `initial` is 0). `"release"`: `exp(u) - 1 + initial`, but at
      least 1e-10, as in the released code of LEO: with `initial=0` half of all
      entries begin there, and get no gradient.
    initial: Float >= 0. The standard deviation at u = 0.

  Returns:
    Two tensors `[..., n]`.
  """
  mean, u = tf.split(values, 2, axis=-1)
  if kind == "release":
    return mean, tf.maximum(tf.exp(u) - (1.0 - initial), _LEAST_SCALE)
  factor = initial / math.log(2) if initial else 1.0
  return mean, factor * tf.nn.softplus(u)


def pairs_of(codes: tf.Tensor) -> tf.Tensor:
  """All ordered pairs `[S, S, 2 n]` of rows of `codes`, `[S, n]`."""
  count = tf.shape(codes)[0]
  first = tf.repeat(codes[:, tf.newaxis], count, axis=1)
  second = tf.repeat(codes[tf.newaxis], count, axis=0)
  return tf.concat([first, second], axis=-1)


def class_shares(
  labels: tf.Tensor, ways: int, dtype: tf.dtypes.DType
) -> tf.Tensor:
  """Matrix `[W, S]` that takes the mean over the examples of each class."""
  member = tf.one_hot(labels, ways, axis=0, dtype=dtype)
  size = tf.reduce_sum(member, axis=1, keepdims=True)
  return tf.math.divide_no_nan(member, size)


class Noise(NamedTuple):
  """Standard normal numbers that all draws of a task are made of.

  Attributes:
    codes: `[C, n]`.
    classifiers: `[steps + 1, C, d]`, for each time that codes are decoded.
  """

  codes: tf.Tensor
  classifiers: tf.Tensor


def noise_for(
  codes: Sequence[Any],
  classifiers: Sequence[Any],
  *,
  seed: tf.Tensor,
  dtype: tf.dtypes.DType,
  labels: tf.Tensor | None = None,
) -> Noise:
  """Noise of these shapes, a function of `seed`, `[2]`.

  Args:
    codes: Shape `[..., C, n]`.
    classifiers: Shape `[..., C, d]`.
    seed: Integer `[2]`.
    dtype: Of the numbers.
    labels: `[C]`, classes of the codes. If given, the order of the codes does
      not matter: the first of the first class has the first noise.
  """
  shapes = (codes, classifiers)
  drawn = [
    random.normal(shape, random.fold_in(seed, place), dtype)
    for place, shape in enumerate(shapes)
  ]
  if labels is not None:
    drawn = [tf.gather(noise, _ranks(labels), axis=-2) for noise in drawn]
  return Noise(*drawn)


def _ranks(labels: tf.Tensor) -> tf.Tensor:
  """Place `[C]` of each of the labels once they are sorted."""
  mine, other = labels[:, tf.newaxis], labels[tf.newaxis]
  places = tf.range(tf.shape(labels)[0])
  earlier = places[tf.newaxis] < places[:, tf.newaxis]
  before = (other < mine) | ((other == mine) & earlier)
  return tf.reduce_sum(tf.cast(before, tf.int32), axis=1)


def dropped_out(
  features: tf.Tensor, rate: float, copies: int, seed: tf.Tensor
) -> list[tf.Tensor]:
  """Copies of `features`, each with a mask of its own.

  Args:
    features: `[n, d]`.
    rate: Share of the numbers that are 0; the others are scaled up for it.
    copies: How many.
    seed: Integer `[2]`.
  """
  if not rate:
    return [features] * copies
  shape = tf.concat([[copies], tf.shape(features)], axis=0)
  kept = random.uniform(shape, seed, features.dtype) >= rate
  masks = tf.cast(kept, features.dtype) / (1.0 - rate)
  return tf.unstack(features * masks, copies)


def divergence_from_standard(mean: tf.Tensor, stddev: tf.Tensor) -> tf.Tensor:
  """Elementwise divergence of Gaussians from the standard one, in nats."""
  standard = tfp.distributions.Normal(
    tf.zeros([], mean.dtype), tf.ones([], mean.dtype)
  )
  return tfp.distributions.kl_divergence(
    tfp.distributions.Normal(mean, stddev), standard
  )


def log_ratio_to_standard(
  drawn: tf.Tensor, mean: tf.Tensor, stddev: tf.Tensor
) -> tf.Tensor:
  """Elementwise estimate of that divergence from one draw."""
  standard = tfp.distributions.Normal(
    tf.zeros([], mean.dtype), tf.ones([], mean.dtype)
  )
  own = tfp.distributions.Normal(mean, stddev)
  return own.log_prob(drawn) - standard.log_prob(drawn)


def descend(
  decode: Callable[[tf.Tensor, Any], tf.Tensor],
  loss_of: Callable[[tf.Tensor, Any], tf.Tensor],
  codes: tf.Tensor,
  *,
  rates: tuple[Any, Any],
  steps: tuple[int, int],
) -> tuple[tf.Tensor, list[tf.Tensor]]:
  """Gradient steps on codes, and then on the classifiers that they give.

  Args:
    decode: From codes and the number of the step to classifiers.
    loss_of: From classifiers and the number of the step to the inner loss.
    codes: Where to begin.
    rates: Learning rates of codes and of classifiers, each as in
      `gradient_path`.
    steps: Numbers of steps of both kinds.

  Returns:
    Codes after their steps, and classifiers before and after each step of both
    kinds.
  """
  on_codes = inner_loop.gradient_path(
    lambda z, step: loss_of(decode(z[0], step), step),
    [codes],
    rates[0],
    steps[0],
  )
  decoded = [decode(z[0], step) for step, z in enumerate(on_codes)]
  on_weights = inner_loop.gradient_path(
    lambda w, step: loss_of(w[0], steps[0] + step),
    [decoded[-1]],
    rates[1],
    steps[1],
  )
  return on_codes[-1][0], [*decoded, *[w[0] for w in on_weights[1:]]]


def code_terms(codes: Codes, kind: str) -> tuple[tf.Tensor, tf.Tensor]:
  """Two penalties of codes: their divergence, and how far steps took them.

  Args:
    codes: Those of a task; where they moved is a constant to the gradient.
    kind: `"paper"`, for sums, and the divergence in closed form; or
      `"release"`, for means, and an estimate of it from the one draw.

  Returns:
    Two scalars.
  """
  moved = tf.stop_gradient(codes.moved)
  squares = tf.math.squared_difference(moved, codes.drawn)
  if kind == "paper":
    away = divergence_from_standard(codes.mean, codes.stddev)
    return tf.reduce_sum(away), tf.reduce_sum(squares)
  away = log_ratio_to_standard(codes.drawn, codes.mean, codes.stddev)
  return tf.reduce_mean(away), tf.reduce_mean(squares)


def correlation_error(matrix: tf.Tensor) -> tf.Tensor:
  """Cosines of the angles between rows of `matrix`, less the unit matrix.

  LEO's paper calls them correlations; its code, as this, centres no rows.

  Args:
    matrix: `[r, n]`.

  Returns:
    `[r, r]`, zero if and only if the rows are orthogonal.
  """
  unit = tf.math.l2_normalize(matrix, axis=1)
  rows = tf.shape(matrix)[0]
  return tf.matmul(unit, unit, transpose_b=True) - tf.eye(
    rows, dtype=matrix.dtype
  )
