"""The configuration of a run of a policy, as plain values."""

import dataclasses
from typing import Any

from trainers.run import option
from trainers.run import run_configuration

# The learner in tfmeta.rl by the value of --learner, and the flags that are
# arguments of this learner alone.
LEARNERS = {
  "maml": ("MAML", ("first_order", "sampling_credit")),
  "fomaml": ("FOMAML", ()),
  "anil": ("ANIL", ("first_order",)),
  "meta_sgd": ("MetaSGD", ("first_order",)),
  "reptile": ("Reptile", ()),
  "promp": (
    "ProMP",
    ("first_order", "clip_ratio", "proximal_epochs", "divergence_penalty"),
  ),
  "emaml": ("EMAML", ("first_order", "num_particles")),
  "bmaml": (
    "BMAML",
    ("first_order", "num_particles", "meta_loss", "temperature"),
  ),
}

# The environment in tfmeta.environments by the value of --environment.
ENVIRONMENTS = {
  "navigation": "Navigation",
  "half_cheetah_direction": "HalfCheetahDirection",
  "half_cheetah_velocity": "HalfCheetahVelocity",
  "ant_direction": "AntDirection",
  "ant_velocity": "AntVelocity",
  "ant_goal": "AntGoal",
}


def _without_learner_that_has(name: str) -> Any:
  def why_unused(config: Any) -> str | None:
    if name in LEARNERS[config.learner][1]:
      return None
    return f"--learner={config.learner} does not use it"

  return why_unused


def _own(default: Any, help: str, *, name: str, **options: Any) -> Any:
  return option.field(
    default, help, why_unused=_without_learner_that_has(name), **options
  )


def _without_optimizer(*optimizers: str) -> Any:
  def why_unused(config: Any) -> str | None:
    if config.resolved_optimizer in optimizers:
      return None
    return f"the optimizer {config.resolved_optimizer} does not use it"

  return why_unused


def _unless_dice(config: Any) -> str | None:
  if config.credit == "dice":
    return None
  return f"--credit={config.credit} does not use it"


@dataclasses.dataclass(frozen=True)
class PolicyConfiguration(run_configuration.RunConfiguration):
  """The configuration of a run. Each field is a flag of `trainers.rl`.

  Raises:
    ValueError: If a value is out of range, or two values do not fit each other.
  """

  learner: str = option.field(
    "maml", "Learner in tfmeta.rl.", choices=tuple(LEARNERS)
  )
  environment: str = option.field(
    "navigation",
    "Environment: navigation comes with tfmeta; the others need pip install "
    "'tfmeta[rl]'.",
    choices=tuple(ENVIRONMENTS),
  )
  horizon: int = option.field(
    100, "Largest number of steps of an episode.", least=1
  )
  episodes: int = option.field(
    20, "Number of episodes of a task for each inner step.", least=2
  )
  inner_steps: int = option.field(
    1, "Number of inner steps in training; 0 trains one policy for all tasks."
  )
  inner_learning_rate: float = option.field(
    0.1, "Step size of the inner loop; where rates are learned, their start."
  )
  later_step_factor: float = option.field(
    0.5,
    "Factor of the step size of all inner steps but the first, above 0. The "
    "published evaluations halve it too.",
  )
  credit: str = option.field(
    "lvc",
    "Surrogate of the inner loss, which decides the second derivatives: lvc, "
    "dice (exact in expectation), or log_likelihood as in the published code.",
    choices=("lvc", "dice", "log_likelihood"),
  )
  credit_decay: float = option.field(
    1.0,
    "How much credit of earlier steps reaches a step, in [0, 1].",
    why_unused=_unless_dice,
  )
  sampling_credit: bool = _own(
    False,
    "Whether the outer loss credits the first policy for its episodes, as in "
    "E-MAML. It belongs to --credit=log_likelihood.",
    name="sampling_credit",
  )
  discount: float = option.field(0.99, "Discount of rewards, in [0, 1].")
  gae_decay: float = option.field(
    1.0, "Decay of generalized advantages, in [0, 1]."
  )
  first_order: bool = _own(
    False,
    "Whether the outer gradient treats inner gradients as constants.",
    name="first_order",
  )
  hidden: list[int] = option.field(
    (64, 64), "Units of the hidden layers of the policy."
  )
  activation: str = option.field(
    "tanh",
    "Activation of the hidden layers of the policy.",
    choices=("tanh", "relu"),
  )
  num_particles: int = _own(
    5, "Number of policies for each task.", name="num_particles", least=1
  )
  meta_loss: str = _own(
    "return",
    "Outer loss of BMAML: the surrogate of the return, or the distance to the "
    "particles after one more step (chaser).",
    name="meta_loss",
    choices=("return", "chaser"),
  )
  temperature: float = _own(
    1.0,
    "Temperature of the particles of BMAML, above 0; higher explores more.",
    name="temperature",
  )
  clip_ratio: float = _own(
    0.3,
    "How far a ratio of probabilities may earn, above 0.",
    name="clip_ratio",
  )
  proximal_epochs: int = _own(
    5,
    "Number of steps of the optimizer for each batch of episodes.",
    name="proximal_epochs",
    least=1,
  )
  divergence_penalty: float = _own(
    5e-4,
    "Coefficient of the divergence of the inner policies, at least 0.",
    name="divergence_penalty",
  )

  meta_batch_size: int = option.field(
    20, "Number of tasks in each update.", least=1
  )
  steps_per_epoch: int = option.field(
    10, "Number of updates in each epoch.", least=1
  )
  epochs: int = option.field(
    10, "Number of epochs. A checkpoint is written after each.", least=1
  )
  optimizer: str | None = option.field(
    None,
    "Optimizer of the outer loop. Default: trust_region; for reptile sgd, and "
    "for promp and the chaser of bmaml adam.",
    choices=("trust_region", "adam", "sgd"),
  )
  max_divergence: float = option.field(
    0.01,
    "Bound on the divergence of a step, above 0.",
    why_unused=_without_optimizer("trust_region"),
  )
  curvature_episodes: int | None = option.field(
    5,
    "Number of episodes of each task from which the curvature is computed; 0 "
    "takes all.",
    why_unused=_without_optimizer("trust_region"),
  )
  learning_rate: float | None = option.field(
    None,
    "Learning rate of the outer loop, above 0. Default: 0.001 for adam, 1 for "
    "sgd.",
    why_unused=_without_optimizer("adam", "sgd"),
  )
  validation_tasks: int = option.field(
    40,
    "Number of validation tasks after each epoch. They choose the best epoch.",
    least=1,
  )
  keep_best: int = option.field(
    1, "Number of best epochs whose weights are kept.", least=1
  )
  eval_tasks: int = option.field(
    40, "Number of tasks on which the final learner is evaluated.", least=2
  )
  eval_split: str = option.field(
    "test", "Split of these tasks.", choices=("test", "validation")
  )
  eval_steps: int = option.field(
    3, "Number of inner steps in the final evaluation.", least=1
  )
  baselines: bool = option.field(
    True,
    "Whether to train and evaluate the joint policy, one for all tasks, and to "
    "evaluate a policy that has not learned.",
  )
  workdir: str = option.field(
    "runs/rl", "Folder in which the run writes, and from which it resumes."
  )
  seed: int = option.field(
    0, "Seed of the initial weights, the tasks and the episodes."
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    rate = self.learning_rate
    if rate is not None and not rate > 0:
      raise ValueError(
        f"`learning_rate` must be above 0. Received: learning_rate={rate}"
      )

  @property
  def algorithm(self) -> str:
    """Name of the learner in `tfmeta.rl`."""
    return LEARNERS[self.learner][0]

  @property
  def resolved_optimizer(self) -> str:
    """Name of the optimizer, with the default of the learner."""
    if self.optimizer is not None:
      return self.optimizer
    chaser = self.learner == "bmaml" and self.meta_loss == "chaser"
    if self.learner == "promp" or chaser:
      return "adam"
    return "sgd" if self.learner == "reptile" else "trust_region"

  @property
  def own(self) -> dict[str, Any]:
    """The constructor arguments that only this learner has."""
    values = {name: getattr(self, name) for name in LEARNERS[self.learner][1]}
    if "proximal_epochs" in values:
      values["epochs"] = values.pop("proximal_epochs")
    return values
