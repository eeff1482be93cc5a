"""LEO (Rusu, Rao, Sygnowski, Vinyals, Pascanu, Osindero, Hadsell, 2019)."""

from typing import Any

import keras
import tensorflow as tf

from tfmeta import layers
from tfmeta.algorithms import losses
from tfmeta.algorithms import probabilistic
from tfmeta.algorithms import settings
from tfmeta.core import functional
from tfmeta.core import latent
from tfmeta.core import random
from tfmeta.typing import Weights

_TERMS = ("kl_weight", "encoder_penalty", "orthogonality", "l2")
_SETTINGS = (
  *_TERMS,
  "num_latents",
  "finetuning_steps",
  "finetuning_learning_rate",
  "dropout_rate",
  "variant",
  "spread",
)

_NOISE_STREAM, _MASK_STREAM, _QUERY_STREAM = range(3)


@keras.saving.register_keras_serializable("tfmeta")
class LEO(probabilistic.ProbabilisticLearner):
  """Generates a linear classifier from latent codes, and adapts the codes.

  For embeddings of images. An encoder and a relation network turn the support
  set into a Gaussian over codes z, a decoder turns codes into a Gaussian over
  the weights of a classifier without bias; the inner loop moves the codes, then
  the weights [1]:

      z ~ Normal(relation(encoder(support_x)));  w ~ Normal(decoder(z))
      repeat inner_steps times:       z -= latent_rates * grad(loss(w(z)))(z)
      repeat finetuning_steps times:  w -= weight_rates * grad(loss(w))(w)
      minimise  query_loss(w) + kl_weight * KL(q(z) || standard normal)
                + encoder_penalty * |stop(z after its steps) - z|^2
                + l2 * |networks|^2 + orthogonality * |corr(decoder) - 1|

  Inner losses are sums over the support set. In training codes and weights are
  drawn; a prediction takes their means, unless it averages several draws.

  What comes before adapting is the classifier of the codes before any step: it
  has seen the support set.

  `variant="release"` is what the authors' code does: K codes for each class of
  K shots, whose classifiers are averaged; the divergence from one draw; and
  means, to which the default weights of the terms belong, for the sums of
  `"paper"`. The query loss is a mean in both.

  Differences from the authors' code:
    - Gradients are not replaced where they are NaN, and clipped only with
      `clipvalue=0.1, clipnorm=0.1`, which is theirs.
    - With the `"softplus"` spread codes begin with one; see `core.latent`.

  Args:
    model: A built `keras.Model`, `[n, ...] -> [n, W]`, that ends in a `Dense`
      layer without bias or activation, whose weights are generated; what comes
      before it, such as `keras.layers.UnitNormalization`, is kept as it is.
    num_latents: Integer >= 1, the size of a code.
    finetuning_steps: Integer >= 0.
    finetuning_learning_rate: Float > 0. What the rates of weights begin with;
      those of codes begin with `inner_learning_rate`. Both are learned.
    kl_weight: Float >= 0, as are the next three.
    encoder_penalty: Draws codes towards what the inner loop makes of them; it
      moves encoder and relation network alone.
    orthogonality: Draws rows of the decoder apart.
    l2: For the weights of the three networks.
    dropout_rate: Float in [0, 1), for embeddings, in training.
    variant: `"release"` or `"paper"`.
    spread: `"softplus"`, or `"release"`, the parametrisation of its code.
    num_samples: Integer >= 1, draws of a prediction; with 1 it is of means.
    **kwargs: Those of `MetaLearner`.

  References:
    [1] A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero,
        R. Hadsell. Meta-Learning with Latent Embedding Optimization. ICLR 2019.
        https://arxiv.org/abs/1807.05960
    Released code: https://github.com/google-deepmind/leo
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    num_latents: int = 64,
    inner_steps: int = 5,
    inner_learning_rate: float = 1.0,
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
    inner_loss_reduction: Any = "sum",
    **kwargs: Any,
  ):
    super().__init__(
      model,
      inner_steps=inner_steps,
      inner_learning_rate=inner_learning_rate,
      inner_loss_reduction=inner_loss_reduction,
      num_samples=num_samples,
      **kwargs,
    )
    losses.check_labels(self.inner_loss)
    settings.check_positive("num_latents", num_latents)
    settings.check_steps("finetuning_steps", finetuning_steps)
    settings.check_rate("finetuning_learning_rate", finetuning_learning_rate)
    settings.check_choice("variant", variant, ("paper", "release"))
    settings.check_choice("spread", spread, latent.SCALES)
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
    settings.check_share("dropout_rate", dropout_rate)
    for name in _TERMS:
      settings.check_not_negative(name, getattr(self, name))
    self._body, head = settings.linear_head(model)
    self._make_generator(*head.kernel.shape, dtype=head.variable_dtype)

  def drawn_path(
    self, support_x: tf.Tensor, support_y: tf.Tensor
  ) -> list[Weights]:
    def path_of_draw(*noise: tf.Tensor) -> list[Weights]:
      drawn = latent.Noise(*noise) if noise else None
      _, path = self._adapt(support_x, support_y, drawn)
      return [[kernel] for kernel in path]

    draws = self.num_samples > 1
    noise = self._noise(support_y, self.num_samples) if draws else ()
    return self.for_each_sample(path_of_draw, *noise)

  def task_loss(
    self,
    support_x: tf.Tensor,
    support_y: tf.Tensor,
    query_x: tf.Tensor,
    query_y: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    with self.in_training():
      codes, path = self._adapt(support_x, support_y, self._noise(support_y))
      (features,) = self._dropped(self._body(query_x), 1, _QUERY_STREAM)
    outputs = features @ path[-1]
    loss = functional.reduced_loss(self.inner_loss, query_y, outputs)
    return loss + self._penalty(codes), outputs

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), **{n: getattr(self, n) for n in _SETTINGS}}

  def _make_generator(self, features: int, ways: int, dtype: Any) -> None:
    self.generator = layers.ClassifierGenerator(
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
    noise: latent.Noise | None = None,
  ) -> tuple[latent.Codes, list[tf.Tensor]]:
    """Codes, and kernels `[d, W]` after each step on codes, then on weights."""
    support_x, support_y = self.checked_support(support_x, support_y)
    features = self._body(support_x)
    shares = latent.class_shares(support_y, self.generator.ways, features.dtype)
    copies = self.steps + self.finetuning_steps + 1
    dropped = self._dropped(features, copies, _MASK_STREAM)
    mean, stddev = self.generator.encode(dropped[-1], shares)
    if self.variant == "release":  # As many codes as shots.
      mean, stddev = (tf.gather(t, support_y) for t in (mean, stddev))
    else:
      shares = tf.eye(tf.shape(shares)[0], dtype=shares.dtype)
    drawn = mean if noise is None else mean + stddev * noise.codes

    def decode(codes: tf.Tensor, step: int) -> tf.Tensor:
      classifiers, spread = self.generator.decode(codes)
      if noise is None:
        return classifiers
      return classifiers + spread * noise.classifiers[step]

    def loss_of(classifiers: tf.Tensor, step: int) -> tf.Tensor:
      outputs = dropped[step] @ tf.transpose(shares @ classifiers)
      return self.reduce_support(support_y, outputs)

    moved, path = latent.descend(
      decode,
      loss_of,
      drawn,
      rates=(self.latent_rates.at, self.weight_rates.at),
      steps=(self.steps, self.finetuning_steps),
    )
    codes = latent.Codes(mean, stddev, drawn, moved)
    return codes, [tf.transpose(shares @ w) for w in path]

  def _dropped(self, x: tf.Tensor, count: int, stream: int) -> list[tf.Tensor]:
    """Copies with dropout, in training; each has a mask of its own."""
    rate = self.dropout_rate if self.task_pass.training else 0.0
    seed = random.fold_in(self.task_seed, stream)
    return latent.dropped_out(x, rate, count, seed)

  def _noise(self, support_y: tf.Tensor, *count: int) -> latent.Noise:
    """Noise of a task, each tensor with the axes `count` before its own."""
    labels = support_y if self.variant == "release" else None
    codes = self.generator.ways if labels is None else tf.shape(labels)[0]
    return latent.noise_for(
      [*count, codes, self.num_latents],
      [*count, self.steps + 1, codes, self.generator.features],
      seed=random.fold_in(self.task_seed, _NOISE_STREAM),
      dtype=self.generator.compute_dtype,
      labels=labels,
    )

  def _penalty(self, codes: latent.Codes) -> tf.Tensor:
    divergence, error = latent.code_terms(codes, self.variant)
    correlation, squares = self.generator.weight_terms(self.variant)
    return (
      self.kl_weight * divergence
      + self.encoder_penalty * error
      + self.orthogonality * correlation
      + self.l2 * squares
    )
