"""Runs that reproduce published figures, and what their papers report.

`python -m benchmarks.reproduction` trains them. A row names the paper of its
figure: [1] to [5] are

[1] C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning. ICML 2017.
[2] A. Antoniou, H. Edwards, A. Storkey. How to train your MAML. ICLR 2019.
[3] A. Nichol, J. Achiam, J. Schulman. On First-Order Meta-Learning Algorithms.
    2018.
[4] J. Snell, K. Swersky, R. Zemel. Prototypical Networks. NeurIPS 2017.
[5] Z. Li, F. Zhou, F. Chen, H. Li. Meta-SGD. 2017.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
  """A run of a trainer that reproduces a published figure.

  Attributes:
    name: Name of the row, and of its folder.
    learner: Name of the learner, for the table.
    trainer: Name of the trainer, a module of `trainers`.
    flags: Flags of the trainer, other than the workdir and the seed.
    published: Published accuracy in percent or squared error, or `None` if
      there are plots only.
    interval: Half-width of the published interval, or `None`.
    source: Number of the paper, see above.
    gap: What explains a difference, one sentence.
    seeds: Number of seeds to train.
    ensemble: Number of best epochs whose outputs are averaged.
  """

  name: str
  learner: str
  trainer: str
  flags: tuple[str, ...]
  published: float | None = None
  interval: float | None = None
  source: str = ""
  gap: str = ""
  seeds: int = 1
  ensemble: int = 1

  @property
  def regression(self) -> bool:
    """Whether the figure is a squared error."""
    return "--dataset=sinusoid" in self.flags

  def command(self, seed: int, workdir: str) -> list[str]:
    """Returns the command line of one run, without the interpreter."""
    how = (f"--seed={seed}", f"--workdir={workdir}")
    return ["-m", f"trainers.{self.trainer}", *self.flags, *how]


# Updates as in the released code of MAML, 70,000 of 25 tasks.
_SINUSOID = (
  "--dataset=sinusoid",
  "--epochs=70",
  "--jit_compile",
  "--eval_tasks=1000",
)

# Trainer, inner steps in evaluation, and flags of the learner.
_SINUSOID_LEARNERS = {
  "MAML": ("maml", 10, ()),
  "FOMAML": ("fomaml", 10, ()),
  # Ten steps with rates that are learned for one step diverge.
  "Meta-SGD": ("meta_sgd", 1, ()),
  "IMAML": ("imaml", 10, ()),
  "Reptile": (
    "reptile",
    10,
    ("--inner_optimizer=sgd", "--inner_learning_rate=0.02"),
  ),
  "EMAML, 5 particles": ("emaml", 10, ()),
  "BMAML, 5 particles": ("bmaml", 10, ()),
  "PLATIPUS": ("platipus", 10, ()),
}

# Errors after one step, from the table of the Meta-SGD paper, which trains both
# learners. The MAML paper has plots.
_SINUSOID_FIGURES = {
  ("MAML", 5): (1.13, 0.18),
  ("MAML", 10): (0.77, 0.11),
  ("MAML", 20): (0.48, 0.08),
  ("Meta-SGD", 5): (0.90, 0.16),
  ("Meta-SGD", 10): (0.53, 0.09),
  ("Meta-SGD", 20): (0.31, 0.05),
}


def _sinusoid(learner: str, shots: int) -> Row:
  trainer, steps, flags = _SINUSOID_LEARNERS[learner]
  tested = f"--eval_inner_steps={steps}"
  published, interval = _SINUSOID_FIGURES.get((learner, shots), (None, None))
  return Row(
    name=f"sinusoid_{shots}shot_{trainer}",
    learner=learner,
    trainer=trainer,
    flags=(*_SINUSOID, f"--shots={shots}", tested, *flags),
    published=published,
    interval=interval,
    source="[5]" if published else "",
  )


# The conv-4 of the papers has 64 filters, and strides in place of pooling. The
# rate of Adam falls from 2e-3 to 0.
_OMNIGLOT = (
  "--dataset=omniglot",
  "--pooling=stride",
  "--filters=64",
  "--inner_learning_rate=0.4",
  "--inner_steps=1",
  "--meta_batch_size=8",
  "--train_query_shots=5",
  "--learning_rate=0.002",
  "--eval_tasks=1000",
)
# 84,000 tasks, 40 minutes of two free cores at most.
_BUDGET = ("--steps_per_epoch=250", "--epochs=42")

ROWS = (
  Row(
    "omniglot_5way_1shot_maml",
    "MAML",
    "maml",
    (*_OMNIGLOT, "--steps_per_epoch=250", "--epochs=105"),
    98.7,
    0.4,
    "[1]",
    "11% of the published tasks, and Vinyals' division of the classes",
  ),
  Row(
    "omniglot_5way_1shot_fomaml",
    "FOMAML",
    "fomaml",
    (*_OMNIGLOT, *_BUDGET),
    98.3,
    0.5,
    "[1]",
    "4% of the published tasks, and Vinyals' division of the classes",
  ),
  Row(
    "omniglot_5way_1shot_proto_net",
    "ProtoNet",
    "proto_net",
    (
      "--dataset=omniglot",
      "--pooling=max",
      "--filters=64",
      "--meta_batch_size=4",
      "--train_query_shots=5",
      "--learning_rate=0.002",
      "--eval_tasks=1000",
      *_BUDGET,
    ),
    98.8,
    None,
    "[4]",
    "trained with 5 ways, where the paper trains with 60",
  ),
  Row(
    "omniglot_5way_1shot_maml_plus_plus",
    "MAML++, ensemble of 5",
    "maml_plus_plus",
    (
      "--dataset=omniglot",
      "--pooling=max",
      "--filters=32",
      "--inner_learning_rate=0.4",
      "--inner_steps=2",
      "--meta_batch_size=8",
      "--train_query_shots=5",
      "--multi_step_epochs=10",
      "--first_order_epochs=25",
      "--learning_rate=0.002",
      "--eval_tasks=1000",
      "--steps_per_epoch=250",
      "--epochs=90",
    ),
    99.47,
    None,
    "[2]",
    "32 filters and 2 inner steps, where the paper has 64 and 5",
    ensemble=5,
  ),
  *(
    _sinusoid(learner, shots)
    for learner in _SINUSOID_LEARNERS
    for shots in (5, 10, 20)
  ),
)
