"""Supervised meta-learners as learners of policies."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmeta.algorithms import anil
from tfmeta.algorithms import maml
from tfmeta.algorithms import meta_sgd
from tfmeta.algorithms import reptile
from tfmeta.algorithms.context import FIRST_STEP
from tfmeta.algorithms.context import Context
from tfmeta.core import functional
from tfmeta.rl import checks
from tfmeta.rl.episodes import Example
from tfmeta.rl.learner import PolicyLearner

_NO_ARGUMENTS_OF_REPTILE = {
  "inner_optimizer": "an inner step is a gradient step",
  "support_batch_size": "an inner step uses all its episodes",
}


@keras.saving.register_keras_serializable("tfmeta>rl")
class MAML(PolicyLearner, maml.MAML):
  """Meta-learner of policies that a few policy gradients adapt to a task.

  Each inner step descends the surrogate of the return; the outer loss is the
  surrogate of the return of the adapted policy [1]:

      weights = theta - inner_learning_rate * grad(support)(theta)
      minimize over theta:  mean over tasks of outer(weights)

  Differences from the authors' code:
    - The inner surrogate is `"lvc"` by default. `credit="log_likelihood"` is
      the authors'; its second derivative is wrong in expectation.
    - Outer steps are those of the optimizer in `compile`: `TrustRegion` is the
      authors' choice. The divergence is computed in closed form and its
      curvature without finite differences.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`.
    environment: A `tfmeta.environments.Environment`.
    sampling_credit: Whether the outer loss has the term of E-MAML [2], which
      credits the initial policy for the episodes that it acts. It belongs to
      `credit="log_likelihood"` and is refused with another. Defaults to
      `False`.
    first_order: Boolean. Whether the outer gradient treats the inner gradients
      as constants. Defaults to `False`.
    **kwargs: Forwarded to `PolicyLearner`, which describes them: `episodes`,
      `inner_steps`, `inner_learning_rate`, `eval_inner_steps`, `credit`,
      `credit_decay`, `discount`, `gae_decay`, `distribution`, `seed` and
      others.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
    [2] B. Stadie, G. Yang, R. Houthooft, X. Chen, Y. Duan, Y. Wu, P. Abbeel, I.
        Sutskever. Some Considerations on Learning to Explore via
        Meta-Reinforcement Learning. NeurIPS 2018.
        https://arxiv.org/abs/1803.01118
    Released code: https://github.com/cbfinn/maml_rl
  """

  def __init__(
    self,
    policy: keras.Model,
    environment: Any,
    *,
    sampling_credit: bool = False,
    **kwargs: Any,
  ):
    super().__init__(policy, environment, **kwargs)
    if sampling_credit and self.credit != "log_likelihood":
      raise ValueError(
        "`sampling_credit` belongs to credit='log_likelihood': the other "
        "surrogates already differentiate the expected update, and would count "
        f"the sampling twice. Received: credit={self.credit!r}"
      )
    self.sampling_credit = sampling_credit

  def task_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    support: Sequence[Example],
    query: Example,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    if not self.sampling_credit:
      return super().task_loss(support, query, context)
    path = self.adaptation_path(support, context)
    outputs = self.query_parameters(path[-1], query.observations)
    value = tf.stop_gradient(query.decisions.value)
    acted = [
      self._log_likelihood(weights, example)
      for weights, example in zip(path, support, strict=False)
    ]
    credited = value * tf.add_n(acted) if acted else 0.0
    return self.outer_loss(outputs, query.decisions) - credited, outputs

  def _log_likelihood(self, weights: Any, example: Example) -> tf.Tensor:
    """Returns the log-probability of all actions of some episodes, a scalar."""
    parameters = self.action_parameters(weights, example.observations)
    new, _ = self.log_probs(parameters, example.decisions)
    return tf.reduce_sum(new * example.decisions.mask)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "sampling_credit": self.sampling_credit}


@keras.saving.register_keras_serializable("tfmeta>rl")
class FOMAML(PolicyLearner, maml.FOMAML):
  """Meta-learner of policies: MAML without second derivatives.

  The outer gradient at the adapted weights is applied to the initial weights.
  The surrogates of `credit` are all the same here, because they differ in
  second derivatives only.

  References:
    [1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
        Adaptation of Deep Networks. ICML 2017.
        https://arxiv.org/abs/1703.03400
  """


@keras.saving.register_keras_serializable("tfmeta>rl")
class MetaSGD(PolicyLearner, meta_sgd.MetaSGD):
  """Meta-learner of policies with a learned rate for every single weight.

  The deviations of the actions have learned rates too. All rates start at
  `inner_learning_rate`.

  References:
    [1] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD: Learning to Learn Quickly for
        Few-Shot Learning. 2017. https://arxiv.org/abs/1707.09835
  """


@keras.saving.register_keras_serializable("tfmeta>rl")
class ANIL(PolicyLearner, anil.ANIL):
  """Meta-learner of policies whose inner steps move the head only.

  The head consists of the last layer with a kernel and of what stands after
  it, such as the deviations of the actions. `adapted` chooses other weights, as
  for `tfmeta.ANIL`.

  Args:
    policy: A built `keras.Model` without state, `[n, *observation_shape] -> [n,
      k]`.
    environment: A `tfmeta.environments.Environment`.
    adapted: Weights that inner steps move: `"head"` (default), a list of names
      of layers, or a function from a variable to a boolean.
    **kwargs: Forwarded to `PolicyLearner`, which describes them.

  References:
    [1] A. Raghu, M. Raghu, S. Bengio, O. Vinyals. Rapid Learning or Feature
        Reuse? Towards Understanding the Effectiveness of MAML. ICLR 2020.
        https://arxiv.org/abs/1909.09157
  """

  def __init__(
    self,
    policy: keras.Model,
    environment: Any,
    *,
    adapted: Any = "head",
    **kwargs: Any,
  ):
    chosen = _head(policy) if adapted == "head" else adapted
    super().__init__(policy, environment, adapted=chosen, **kwargs)
    self.adapted = adapted
    # Each inner step has episodes of its own, so no step shares features.
    self._split = None

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "ANIL":
    adapted = keras.saving.deserialize_keras_object(config["adapted"])
    return super().from_config({**config, "adapted": adapted})


def _head(policy: keras.Model) -> Any:
  """Returns whether a variable is the last kernel or comes after it."""
  variables = policy.trainable_variables
  kernels = [i for i, v in enumerate(variables) if len(v.shape) > 1]
  head = {id(v) for v in variables[kernels[-1] if kernels else 0 :]}
  return lambda variable: id(variable) in head


@keras.saving.register_keras_serializable("tfmeta>rl")
class Reptile(PolicyLearner, reptile.Reptile):
  """Meta-learner of policies that moves toward the adapted weights.

  The inner steps are gradient steps, each on new episodes of its own. The outer
  optimizer steps on `meta_loss`, half the squared distance of the initial to
  the adapted weights; `keras.optimizers.SGD(epsilon)` is the update of the
  paper [1]. Training does not use the episodes of the adapted policy: they
  measure it. There is no divergence, so a `TrustRegion` is refused.

  References:
    [1] A. Nichol, J. Achiam, J. Schulman. On First-Order Meta-Learning
        Algorithms. 2018. https://arxiv.org/abs/1803.02999
  """

  has_divergence = False

  def __init__(self, policy: keras.Model, environment: Any, **kwargs: Any):
    checks.check_not_given(kwargs, _NO_ARGUMENTS_OF_REPTILE)
    # Adam would carry its moments over episodes of different policies.
    super().__init__(policy, environment, inner_optimizer="sgd", **kwargs)

  def task_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
    self,
    support: Sequence[Example],
    query: Example,
    context: Context = FIRST_STEP,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    initial = functional.weights_of(self.model)
    weights = self.adaptation_path(support, context)[-1]
    distances = [
      tf.reduce_sum(tf.math.squared_difference(theta, tf.stop_gradient(w)))
      for theta, w in zip(initial, weights, strict=True)
    ]
    outputs = self.query_parameters(weights, query.observations)
    return tf.add_n(distances) / 2, outputs
