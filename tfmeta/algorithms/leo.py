"""LEO (Rusu, Rao, Sygnowski, Vinyals, Pascanu, Osindero, Hadsell, 2019)."""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmeta import arguments
from tfmeta import layers
from tfmeta import packages
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import example_weights
from tfmeta.core import inner_loop
from tfmeta.core import inputs
from tfmeta.core import losses
from tfmeta.core import random
from tfmeta.typing import Reduction
from tfmeta.typing import Weights

_PENALTIES = ("kl_weight", "encoder_penalty", "orthogonality", "l2")
_OWN_ARGUMENTS = (
  *_PENALTIES,
  "num_latents",
  "finetuning_steps",
  "finetuning_learning_rate",
  "dropout_rate",
  "variant",
  "spread",
)

# Maps codes and the number of the step to classifiers.
Decode = Callable[[tf.Tensor, Any], tf.Tensor]
# Maps classifiers and the number of the step to the inner loss.
LossOf = Callable[[tf.Tensor, Any], tf.Tensor]

VARIANTS = ("paper", "release")
SPREADS = ("softplus", "release")

_SMALLEST_SCALE = 1e-10

# Streams of random numbers of one task: for the noise, and for the dropout
# masks of the support set and of the queries.
_NOISE_STREAM, _MASK_STREAM, _QUERY_STREAM = range(3)


@keras.saving.register_keras_serializable("tfmeta")
class LEO(probabilistic.ProbabilisticLearner):
  """Meta-learner that adapts latent codes, which generate a linear classifier.

  LEO works on embeddings of images. An encoder and a relation network turn the
  support set into a Gaussian over codes z. A decoder turns codes into a
  Gaussian over the weights of a classifier without bias. The inner loop first
  moves the codes, and then the weights [1]:

      z ~ Normal(relation(encoder(support_x)));  w ~ Normal(decoder(z))
      repeat inner_steps times:       z -= latent_rates * grad(loss(w(z)))(z)
      repeat finetuning_steps times:  w -= weight_rates * grad(loss(w))(w)
      minimize  query_loss(w) + kl_weight * KL(q(z) || standard normal)
                + encoder_penalty * |stop(z after its steps) - z|^2
                + l2 * |networks|^2 + orthogonality * |corr(decoder) - 1|

  By default, inner losses are sums over the support set. Training samples codes
  and weights. A prediction uses their means, unless `num_samples` is above 1.

  The classifier before adapting is decoded from the codes before the first
  step. It already depends on the support set, because the codes do.

  `variant="release"` follows the authors' code. It makes K codes for each class
  of K shots, and averages their classifiers. It estimates the divergence from
  one sample. It also scales the penalties differently: see `code_penalties` and
  `ClassifierGenerator.weight_penalties`. The default weights of the penalties
  belong to this variant. The query loss is a mean in both variants.

  Differences from the authors' code:
    - The learner does not replace gradients that are NaN. It clips gradients
      only if `clipvalue` or `clipnorm` is set; the authors use `clipvalue=0.1,
      clipnorm=0.1`.
    - With `spread="softplus"`, the codes start with a nonzero spread; see
      `split_scale`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`, that ends in a `Dense`
      layer without bias or activation, whose weights are generated. The layers
      before it, such as `keras.layers.UnitNormalization`, are kept as they are.
    num_latents: Integer >= 1. Size of a code. Defaults to 64.
    finetuning_steps: Integer >= 0. Number of gradient steps on the classifier.
      Defaults to 5.
    finetuning_learning_rate: Float > 0. Initial value of the learned rates of
      the classifier's weights. Defaults to 1e-3.
    kl_weight: Float >= 0. Weight of the divergence of the codes. Defaults to
      1e-3.
    encoder_penalty: Float >= 0. Weight of the penalty that pulls the codes
      toward their values after the inner loop. It trains only the encoder and
      the relation network. Defaults to 1e-9.
    orthogonality: Float >= 0. Weight of the penalty that makes the rows of the
      decoder orthogonal. Defaults to 1e-3.
    l2: Float >= 0. Weight of the squared weights of the three networks.
      Defaults to 1e-8.
    dropout_rate: Float in [0, 1). Share of each embedding that is dropped in
      training. Defaults to 0.5.
    variant: Which description of the algorithm to follow: `"release"` (default)
      or `"paper"`.
    spread: How networks output standard deviations: `"softplus"` (default), or
      `"release"`, the parametrization of the authors' code.
    num_samples: Integer >= 1. Number of samples over which a prediction is
      averaged. With 1 (default), a prediction uses the means of codes and
      weights instead.
    inner_steps: Integer >= 0. Number of gradient steps on the codes in
      training. Defaults to 5.
    inner_learning_rate: Float > 0. Initial value of the learned rates of the
      codes. Defaults to 1.0.
    eval_inner_steps: Integer >= 0. Number of inner steps in `evaluate`,
      `predict`, `adapt` and exported models. Defaults to `inner_steps`.
    inner_loss: A Keras loss of integer labels, its name, or a function `(y,
      y_pred) -> [n]`, for the support set and the query set. Defaults to
      `SparseCategoricalCrossentropy(from_logits=True)`.
    inner_loss_reduction: How the inner loss is reduced over the support set:
      `"sum"` (default), `"mean"` or `"sum_over_ways"` (the sum divided by the
      shots).
    normalization: Which statistics batch normalization uses for the queries of
      a prediction. `"transductive"`: the statistics of the query set itself.
      `"none"`: the moving statistics of the model, which training does not
      update. The moving statistics always normalize the support set, so there
      is no `"support_stats"`. Defaults to `"transductive"` if the model has
      batch normalization, else to `"none"`.
    seed: Integer of 32 bits. Determines all random numbers, together with the
      training step and the index of the task. Defaults to 0.
    **kwargs: Forwarded to `MetaLearner`: `task_map`, `clipvalue`, `clipnorm`,
      and `name` and `dtype` of the Keras model.

  Raises:
    ImportError: If TensorFlow Probability is not installed.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
    Released code: https://github.com/google-deepmind/leo
  """

  takes_weights = True
  normalizations = ("transductive", "none")

  def __init__(
    self,
    model: keras.Model,
    *,
    num_latents: int = 64,
    finetuning_steps: int = 5,
    finetuning_learning_rate: float = 1e-3,
    kl_weight: float = 1e-3,
    encoder_penalty: float = 1e-9,
    orthogonality: float = 1e-3,
    l2: float = 1e-8,
    dropout_rate: float = 0.5,
    variant: str = "release",
    spread: str = "softplus",
    num_samples: int = 1,
    inner_steps: int = 5,
    inner_learning_rate: float = 1.0,
    eval_inner_steps: int | None = None,
    inner_loss: Any = None,
    inner_loss_reduction: Reduction = "sum",
    normalization: str | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    packages.probability()
    super().__init__(
      model,
      num_samples=num_samples,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      eval_inner_steps=eval_inner_steps,
      inner_loss=inner_loss,
      inner_loss_reduction=inner_loss_reduction,
      normalization=normalization,
      seed=seed,
      **kwargs,
    )
    self.num_latents = num_latents
    self.finetuning_steps = finetuning_steps
    self.finetuning_learning_rate = finetuning_learning_rate
    self.kl_weight = kl_weight
    self.encoder_penalty = encoder_penalty
    self.orthogonality = orthogonality
    self.l2 = l2
    self.dropout_rate = dropout_rate
    self.variant = variant
    self.spread = spread
    self._check_arguments()
    self._body, head = _linear_head(model)
    self._add_generator(*head.kernel.shape, dtype=head.variable_dtype)

  def sampled_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor, context: Context
  ) -> list[Weights]:
    def path_of_sample(*noise: tf.Tensor, context: Context) -> list[Weights]:
      sampled = Noise(*noise) if noise else None
      _, path = self._adapt(support_x, support_y, sampled, context)
      return [[kernel] for kernel in path]

    several = self.num_samples > 1
    noise = self._noise(support_y, context, self.num_samples) if several else ()
    return self.for_each_sample(path_of_sample, *noise, context=context)

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    noise = self._noise(support_y, context)
    codes, path = self._adapt(support_x, support_y, noise, context)
    (features,) = self._dropped(self._body(query_x), 1, _QUERY_STREAM, context)
    outputs = features @ path[-1]
    loss = self.query_loss(query_y, outputs, context)
    return loss + self._penalty(codes), outputs

  def get_config(self) -> dict[str, Any]:
    own = {name: getattr(self, name) for name in _OWN_ARGUMENTS}
    return {**super().get_config(), **own}

  def _check_arguments(self) -> None:
    arguments.check_integer("num_latents", self.num_latents, least=1)
    arguments.check_integer("finetuning_steps", self.finetuning_steps, least=0)
    rate = self.finetuning_learning_rate
    arguments.check_number("finetuning_learning_rate", rate, above=0)
    arguments.check_choice("variant", self.variant, VARIANTS)
    arguments.check_choice("spread", self.spread, SPREADS)
    arguments.check_number("dropout_rate", self.dropout_rate, least=0, below=1)
    for name in _PENALTIES:
      arguments.check_number(name, getattr(self, name), least=0)
    if self.target_kind is not losses.Targets.LABELS:
      raise ValueError(
        "`inner_loss` must take integer labels, because LEO generates a "
        f"classifier: leave it out. Received: inner_loss={self.inner_loss!r}"
      )

  def _add_generator(self, features: int, ways: int, dtype: Any) -> None:
    self.generator = ClassifierGenerator(
      features,
      ways,
      num_latents=self.num_latents,
      spread=self.spread,
      dtype=dtype,
    )
    rates = {
      "latent_rates": (self.num_latents, self.inner_learning_rate),
      "weight_rates": (features, self.finetuning_learning_rate),
    }
    self.latent_rates, self.weight_rates = (
      layers.LearnedRates([(n,)], initial_rate=rate, name=name, dtype=dtype)
      for name, (n, rate) in rates.items()
    )

  def _adapt(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    noise: "Noise | None",
    context: Context,
  ) -> tuple["Codes", list[tf.Tensor]]:
    """Adapts one sample. Without noise, codes and weights are the means.

    Returns:
      The codes; and a list of kernels `[d, W]`: before the first step, after
      each step on the codes, and then after each step on the weights.
    """
    support_x, support_y = self.checked_support(support_x, support_y)
    features = self._body(support_x)
    counted = example_weights.counts(context.support_weight)
    labels = _labels(support_y, self.generator.ways, counted)
    shares = class_shares(labels, self.generator.ways, features.dtype)
    steps = self.inner_steps_for(context)
    # Each inner loss has a dropout mask of its own, and so has the encoder.
    copies = steps + self.finetuning_steps + 1
    dropped = self._dropped(features, copies, _MASK_STREAM, context)
    mean, stddev = self.generator.encode(dropped[-1], shares, counted)
    if self.variant == "release":
      # Each example gets a code, from the Gaussian of its class. `shares` then
      # averages the classifiers of each class.
      mean, stddev = (tf.gather(t, support_y) for t in (mean, stddev))
    else:
      # Each class has one code, so there is nothing to average.
      shares, counted = tf.eye(tf.shape(shares)[0], dtype=shares.dtype), None
    sampled = mean if noise is None else mean + stddev * noise.codes

    def decode(codes: tf.Tensor, step: int) -> tf.Tensor:
      classifiers, spread = self.generator.decode(codes)
      if noise is None:
        return classifiers
      return classifiers + spread * noise.classifiers[step]

    def loss_of(classifiers: tf.Tensor, step: int) -> tf.Tensor:
      outputs = dropped[step] @ tf.transpose(shares @ classifiers)
      return self.reduce_support(support_y, outputs, context)

    rates = (self.latent_rates.at, self.weight_rates.at)
    both_steps = (steps, self.finetuning_steps)
    moved, path = descend(decode, loss_of, sampled, rates, both_steps)
    codes = Codes(mean, stddev, sampled, moved, counted)
    return codes, [tf.transpose(shares @ w) for w in path]

  def _dropped(
    self, x: tf.Tensor, count: int, stream: int, context: Context
  ) -> list[tf.Tensor]:
    """Returns copies of `x`, each with its own dropout mask in training."""
    rate = self.dropout_rate if context.training else 0.0
    seed = random.fold_in(context.seed_from(self.seed), stream)
    of_queries = stream == _QUERY_STREAM
    weight = context.query_weight if of_queries else context.support_weight
    counted = example_weights.counts(weight)
    return random.dropped_out(x, rate, count, seed, counted)

  def _noise(
    self, support_y: tf.Tensor, context: Context, *count: int
  ) -> "Noise":
    """Returns the noise of a task; each tensor starts with the axes `count`."""
    counted = example_weights.counts(context.support_weight)
    by_class = _labels(support_y, self.generator.ways, counted)
    labels = by_class if self.variant == "release" else None
    codes = self.generator.ways if labels is None else tf.shape(labels)[0]
    steps = self.inner_steps_for(context)
    return noise_for(
      [*count, codes, self.num_latents],
      [*count, steps + 1, codes, self.generator.features],
      seed=random.fold_in(context.seed_from(self.seed), _NOISE_STREAM),
      dtype=self.generator.compute_dtype,
      labels=labels,
      counted=counted,
    )

  def _penalty(self, codes: "Codes") -> tf.Tensor:
    divergence, error = code_penalties(codes, self.variant)
    correlation, squares = self.generator.weight_penalties(self.variant)
    return (
      self.kl_weight * divergence
      + self.encoder_penalty * error
      + self.orthogonality * correlation
      + self.l2 * squares
    )


@keras.saving.register_keras_serializable("tfmeta")
class ClassifierGenerator(keras.layers.Layer):
  """Encoder, relation network and decoder of LEO.

  None of the three networks has biases. The encoder is linear. The relation
  network has three layers with ReLU between them and sees all pairs of encoded
  examples. The decoder is linear [1].

  Args:
    features: Integer, size d of an embedding.
    ways: Integer, number W of classes.
    num_latents: Integer, size n of a code. Defaults to 64.
    spread: How networks output standard deviations: `"softplus"` (default) or
      `"release"`, see `split_scale`.
    **kwargs: Forwarded to `keras.layers.Layer`.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
  """

  def __init__(
    self,
    features: int,
    ways: int,
    *,
    num_latents: int = 64,
    spread: str = "softplus",
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.features = features
    self.ways = ways
    self.num_latents = n = num_latents
    self.spread = spread
    self.encoder = self._network("encoder", features, [n])
    self.relation = self._network("relation", 2 * n, [2 * n] * 3)
    self.decoder = self._network("decoder", n, [2 * features])
    self.built = True

  def encode(
    self, features: tf.Tensor, shares: tf.Tensor, counted: Any = None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and standard deviation `[W, n]` of the codes of classes.

    Args:
      features: Embeddings of the support set, `[S, d]`.
      shares: The matrix `[W, S]` that averages the examples of each class, from
        `class_shares`.
      counted: Booleans `[S]`, the examples that count; `None` for all.
    """
    pairs = pairs_of(self.encoder(features))
    rows = self.relation(tf.reshape(pairs, [-1, pairs.shape[-1]]))
    # The relation network outputs as many numbers for a pair as the pair has.
    related = tf.reshape(rows, tf.shape(pairs))
    # Each example is related to all that count.
    values = shares @ example_weights.mean(related, counted, axis=1)
    return split_scale(values, kind=self.spread, initial=0.0)

  def decode(self, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and standard deviation `[C, d]` of the classifiers of codes.

    Args:
      codes: `[C, n]`.
    """
    # The sampled weights start with the spread of Glorot's initialization.
    glorot = math.sqrt(2.0 / (self.ways + self.features))
    values = self.decoder(codes)
    return split_scale(values, kind=self.spread, initial=glorot)

  def weight_penalties(self, variant: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns penalties for correlated decoder rows and for large weights.

    Args:
      variant: `"paper"`: the sum of the absolute entries of
        `correlation_error`, and the sum of the squares of all weights.
        `"release"`: the mean of the squared entries of `correlation_error`, and
        half of the sum of the squares of all weights.

    Returns:
      Two scalars.
    """
    error = correlation_error(tf.convert_to_tensor(self.decoder.weights[0]))
    weights = [tf.convert_to_tensor(w) for w in self.trainable_weights]
    squares = tf.add_n([tf.reduce_sum(tf.square(w)) for w in weights])
    if variant == "paper":
      return tf.reduce_sum(tf.abs(error)), squares
    return tf.reduce_mean(tf.square(error)), squares / 2

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "features": self.features,
      "ways": self.ways,
      "num_latents": self.num_latents,
      "spread": self.spread,
    }

  def _network(self, name: str, inputs: int, units: list[int]) -> Any:
    last = len(units) - 1
    dense = [
      keras.layers.Dense(
        n,
        activation=None if i == last else "relu",
        use_bias=False,
        dtype=self.dtype_policy,
      )
      for i, n in enumerate(units)
    ]
    inputs = keras.Input((inputs,), dtype=self.variable_dtype)
    return keras.Sequential([inputs, *dense], name=name)


class Codes(NamedTuple):
  """Codes `[C, n]` of a task: one for each of C classes or examples.

  Attributes:
    mean: Mean of the Gaussian from which the codes are sampled.
    stddev: Standard deviation of this Gaussian.
    sampled: The codes before the inner loop.
    moved: The codes after the inner loop.
    counted: Booleans `[C]`, the codes that count; `None` for all.
  """

  mean: tf.Tensor
  stddev: tf.Tensor
  sampled: tf.Tensor
  moved: tf.Tensor
  counted: tf.Tensor | None = None


class Noise(NamedTuple):
  """Standard normal numbers from which the samples of a task are computed.

  Attributes:
    codes: Noise of the codes, `[C, n]`.
    classifiers: Noise of the weights, `[steps + 1, C, d]`: one part for each
      time that the codes are decoded.
  """

  codes: tf.Tensor
  classifiers: tf.Tensor


def split_scale(
  values: tf.Tensor, *, kind: str, initial: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Splits the last axis into mean and standard deviation.

  Args:
    values: `[..., 2 n]`; the second half is `u` below.
    kind: `"softplus"`: `softplus(u)`, scaled to `initial` at u = 0 (to `log 2`
      if `initial` is 0). `"release"`: `exp(u) - 1 + initial`, but at least
      1e-10, as in the released code; with `initial=0`, half of all entries
      start at this bound and get no gradient.
    initial: Float >= 0. The standard deviation at u = 0.

  Returns:
    Two tensors `[..., n]`.
  """
  mean, u = tf.split(values, 2, axis=-1)
  if kind == "release":
    return mean, tf.maximum(tf.exp(u) - (1.0 - initial), _SMALLEST_SCALE)
  factor = initial / math.log(2) if initial else 1.0
  return mean, factor * tf.nn.softplus(u)


def pairs_of(codes: tf.Tensor) -> tf.Tensor:
  """Returns all ordered pairs `[S, S, 2 n]` of rows of `codes`, `[S, n]`."""
  count = tf.shape(codes)[0]
  first = tf.repeat(codes[:, tf.newaxis], count, axis=1)
  second = tf.repeat(codes[tf.newaxis], count, axis=0)
  return tf.concat([first, second], axis=-1)


def class_shares(labels: tf.Tensor, ways: int, dtype: Any) -> tf.Tensor:
  """Returns the matrix `[W, S]` that averages the examples of each class."""
  member = tf.one_hot(labels, ways, axis=0, dtype=dtype)
  size = tf.reduce_sum(member, axis=1, keepdims=True)
  return tf.math.divide_no_nan(member, size)


def _labels(labels: tf.Tensor, ways: int, counted: Any) -> tf.Tensor:
  """Returns labels, with examples that do not count outside of all classes."""
  return labels if counted is None else tf.where(counted, labels, ways)


def noise_for(
  codes: Sequence[Any],
  classifiers: Sequence[Any],
  *,
  seed: tf.Tensor,
  dtype: tf.dtypes.DType,
  labels: tf.Tensor | None = None,
  counted: tf.Tensor | None = None,
) -> Noise:
  """Samples noise of the given shapes.

  Args:
    codes: Shape `[..., C, n]`.
    classifiers: Shape `[..., C, d]`.
    seed: Integers `[2]`, which alone determine the numbers.
    dtype: Type of the numbers.
    labels: Classes `[C]` of the codes. If given, the noise follows the classes
      and not the order of the codes: the first code of the first class gets the
      first noise.
    counted: Booleans `[C]`, the codes that count if there are labels; `None`
      for all. These codes get the noise that they would get alone.
  """
  sampled = [
    random.normal(shape, random.fold_in(seed, place), dtype)
    for place, shape in enumerate((codes, classifiers))
  ]
  if labels is not None:
    ranks = random.ranks_of(labels)
    sampled = [random.without_gaps(n, ranks, counted) for n in sampled]
  return Noise(*sampled)


def descend(
  decode: Decode, loss_of: LossOf, codes: tf.Tensor, rates: Any, steps: Any
) -> tuple[tf.Tensor, list[tf.Tensor]]:
  """Takes gradient steps on codes, and then on the classifiers they give.

  Args:
    decode: Maps codes and the number of the step to classifiers.
    loss_of: Maps classifiers and the number of the step to the inner loss.
    codes: Codes to start from.
    rates: Pair of learning rates, for codes and for classifiers: see
      `tfmeta.core.gradient_path`.
    steps: Pair of integers, the numbers of steps on codes and on classifiers.

  Returns:
    The codes after their steps, and the classifiers before and after each step
    of both kinds.
  """
  on_codes = inner_loop.gradient_path(
    lambda z, i: loss_of(decode(z[0], i), i), [codes], rates[0], steps[0]
  )
  decoded = [decode(z[0], step) for step, z in enumerate(on_codes)]
  # The steps on weights continue the numbering, to get their own dropout masks.
  on_weights = inner_loop.gradient_path(
    lambda w, i: loss_of(w[0], steps[0] + i), decoded[-1:], rates[1], steps[1]
  )
  return on_codes[-1][0], [*decoded, *[w[0] for w in on_weights[1:]]]


def divergence_from_standard(mean: tf.Tensor, stddev: tf.Tensor) -> tf.Tensor:
  """Returns the elementwise divergence from the standard Gaussian, in nats."""
  own, standard = _normals(mean, stddev)
  return packages.probability().distributions.kl_divergence(own, standard)


def log_ratio_to_standard(
  sample: tf.Tensor, mean: tf.Tensor, stddev: tf.Tensor
) -> tf.Tensor:
  """Estimates `divergence_from_standard`, elementwise, from one sample."""
  own, standard = _normals(mean, stddev)
  return own.log_prob(sample) - standard.log_prob(sample)


def _normals(mean: tf.Tensor, stddev: tf.Tensor) -> tuple[Any, Any]:
  """Returns the Gaussian of codes, and the standard Gaussian."""
  normal = packages.probability().distributions.Normal
  zero, one = tf.zeros([], mean.dtype), tf.ones([], mean.dtype)
  return normal(mean, stddev), normal(zero, one)


def code_penalties(codes: Codes, variant: str) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the divergence of the codes, and how far the steps moved them.

  Args:
    codes: Codes of one task. Gradients treat their values after the steps as
      constants.
    variant: `"paper"`: sums, and the divergence in closed form. `"release"`:
      means, and an estimate of the divergence from one sample.

  Returns:
    Two scalars.
  """
  moved = tf.stop_gradient(codes.moved)
  squares = tf.math.squared_difference(moved, codes.sampled)
  if variant == "paper":
    away = divergence_from_standard(codes.mean, codes.stddev)
    return tf.reduce_sum(away), tf.reduce_sum(squares)
  away = log_ratio_to_standard(codes.sampled, codes.mean, codes.stddev)
  mean = example_weights.mean
  return mean(away, codes.counted), mean(squares, codes.counted)


def correlation_error(matrix: tf.Tensor) -> tf.Tensor:
  """Returns the cosines of the angles between rows, minus the unit matrix.

  LEO's paper calls the cosines correlations; neither its code nor this function
  centers the rows.

  Args:
    matrix: `[r, n]`.

  Returns:
    `[r, r]`, zero if and only if the rows are orthogonal.
  """
  unit = tf.math.l2_normalize(matrix, axis=1)
  identity = tf.eye(tf.shape(matrix)[0], dtype=matrix.dtype)
  return tf.matmul(unit, unit, transpose_b=True) - identity


def _linear_head(model: keras.Model) -> tuple[Any, keras.layers.Dense]:
  """Splits `model` into its frozen body and its trainable linear head.

  The body is a function, because Keras would track a second model with the
  same layers. Its outputs have the dtype of the head's weights.
  """
  head = model.layers[-1]
  linear = keras.activations.linear
  right = isinstance(head, keras.layers.Dense) and head.activation is linear
  if not right or head.use_bias or len(model.trainable_variables) != 1:
    raise ValueError(
      "`model` must end in a Dense layer without bias or activation, and have "
      "no other trainable weights, as tfmeta.models.embedding_head(...). "
      f"Received: model={model.name!r}, which ends in {head!r}"
    )
  body = keras.Model(inputs.symbolic_inputs(model), head.input)
  dtype = head.variable_dtype
  return lambda x: tf.cast(body(x, training=False), dtype), head
