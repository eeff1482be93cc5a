"""The configuration of a run, as plain values; flags are made from it."""

import dataclasses
from typing import Any

from trainers.run import data_sets
from trainers.run import option
from trainers.run import run_configuration
from trainers.run import unused_flags

# Batch normalization with variables of each inner step is left to the learner
# that has it: MAML++ adds these to its own choices.
NORMALIZATIONS = ("transductive", "support_stats", "none")
PER_STEP_NORMALIZATIONS = (
  "per_step_transductive",
  "per_step_support",
  "per_step_running",
)


@dataclasses.dataclass(frozen=True)
class Configuration(run_configuration.RunConfiguration):
  """The configuration of a run.

  Each field with a default is a flag of every trainer, and `python -m
  trainers.maml --help` describes it. Fields that are named like an argument of
  a learner, a model or `compile` are passed to it.

  Attributes:
    algorithm: Name of a learner in `tfmeta`, such as `"MAML"`.
    own: Constructor arguments that only this learner has.

  Raises:
    ValueError: If a value is out of range, or two values do not fit each other.
  """

  algorithm: str
  own: dict[str, Any] = dataclasses.field(default_factory=dict)

  dataset: str = option.field(
    "glyphs",
    "Data set: glyphs (comes with tfmeta), omniglot, mini_imagenet, "
    "tiered_imagenet, cifar_fs, fc100, glyph_pairs, omniglot_pairs, sinusoid, "
    "varied_sinusoid (the frequency varies too, and targets are noisy), "
    "sinusoid_or_line, or a directory that holds either a folder of images for "
    "each class or the embeddings that trainers.pretrain writes. Regressions "
    "and pairs change the defaults of other flags; see trainers/README.md.",
  )
  data_dir: str | None = option.field(
    None,
    "Folder in which TFDS keeps data sets. Default: the one of TFDS.",
    why_unused=unused_flags.not_read_by_data_set("data_dir"),
  )
  manual_dir: str | None = option.field(
    None,
    "Folder with the files from which mini_imagenet or tiered_imagenet is "
    "prepared, once. Default: downloads/manual in --data_dir.",
    why_unused=unused_flags.not_read_by_data_set("manual_dir"),
  )
  rotations: str | None = option.field(
    None,
    "How omniglot uses characters turned by 90, 180 and 270 degrees: as "
    "further classes, as one random turn of each class in a task, or not at "
    "all. Default: as_classes.",
    choices=("as_classes", "per_task", "none"),
    why_unused=unused_flags.not_read_by_data_set("rotations"),
  )
  size: int | None = option.field(
    None,
    "Height and width in pixels to which the images of omniglot or of a "
    "directory are scaled. Default: 28 for omniglot, 84 for a directory.",
    why_unused=unused_flags.not_read_by_data_set("size"),
  )
  channels: int = option.field(
    3,
    "Channels of the images of a directory: 1 (gray) or 3 (color).",
    why_unused=unused_flags.not_read_by_data_set("channels"),
  )
  ways: int | None = option.field(
    5,
    "Classes in each task, for classification.",
    least=2,
    why_unused=unused_flags.without_classes,
  )
  shots: int = option.field(
    1,
    "Support examples for each class; for regression, for each task.",
    least=1,
  )
  query_shots: int = option.field(
    15,
    "Query examples for each class; for regression, for each task.",
    least=1,
  )
  train_shots: int | None = option.field(
    None, "The same as --shots, in training tasks. Default: --shots."
  )
  train_query_shots: int | None = option.field(
    5, "The same as --query_shots, in training tasks; 0 takes --query_shots."
  )

  num_tasks: int | None = option.field(
    None,
    "Number of different sinusoids in training. Default: each one is new.",
    least=1,
    why_unused=unused_flags.not_read_by_data_set("num_tasks"),
  )

  filters: int = option.field(
    32,
    "Filters of each convolution, for images.",
    least=1,
    why_unused=unused_flags.without_images,
  )
  pooling: str = option.field(
    "stride",
    "How each block of the convolutional network halves the image.",
    choices=("max", "average", "stride"),
    why_unused=unused_flags.without_images,
  )
  network_normalization: str = option.field(
    "batch",
    "Normalization layers of the convolutional network.",
    choices=("batch", "layer", "group", "none"),
    why_unused=unused_flags.without_images,
  )
  scale: bool = option.field(
    True,
    "Whether normalization layers learn a scale in addition to a shift.",
    why_unused=unused_flags.without_normalization,
  )
  momentum: float = option.field(
    0.9,
    "Momentum of the moving statistics of batch normalization, for "
    "--normalization=per_step_running of MAML++.",
    why_unused=unused_flags.without_moving_statistics,
  )
  head_input: str = option.field(
    "flatten",
    "Input of the last layer: all features of the image, or their mean over "
    "the positions.",
    choices=("flatten", "mean"),
    why_unused=unused_flags.without_images,
  )
  hidden: list[int] = option.field(
    (40, 40),
    "Units of each hidden layer, for regression.",
    why_unused=unused_flags.without_regression,
  )

  context: int = option.field(
    0,
    "Number of learned inputs of the network, which adapt like its weights, "
    "for regression.",
    why_unused=unused_flags.without_regression,
  )

  inner_steps: int = option.field(1, "Number of inner steps in training.")
  inner_learning_rate: float = option.field(
    0.4, "Step size of the inner loop; where rates are learned, their start."
  )
  eval_inner_steps: int | None = option.field(
    None, "Number of inner steps in evaluation. Default: --inner_steps."
  )
  inner_loss_reduction: str = option.field(
    "mean",
    "How the inner loss is reduced over the support set; sum_over_ways is the "
    "sum divided by the shots.",
    choices=("mean", "sum", "sum_over_ways"),
  )
  normalization: str | None = option.field(
    None,
    "Statistics with which batch normalization treats query examples: their "
    "own, those of the support set, or the moving ones of the model (none), "
    "which training does not update. MAML++ also has scales and shifts of each "
    "inner step (per_step). Default: transductive; for MAML++, "
    "per_step_transductive.",
    choices=NORMALIZATIONS,
    why_unused=unused_flags.without_batch_normalization,
  )
  task_map: str = option.field(
    "auto",
    "How the tasks of a batch are computed; auto chooses map or vectorize.",
    choices=("auto", "map", "vectorize", "unroll"),
  )

  meta_batch_size: int = option.field(
    8, "Number of tasks in each update.", least=1
  )
  steps_per_epoch: int = option.field(
    100, "Number of updates in each epoch.", least=1
  )
  epochs: int = option.field(
    10,
    "Number of epochs. A checkpoint is written after each. With 0, the learner "
    "is evaluated as it is.",
  )
  steps_per_execution: int = option.field(
    1,
    "Number of updates in each call of the TensorFlow graph.",
    least=1,
    why_unused=unused_flags.with_several_workers,
  )
  jit_compile: bool | None = option.field(
    None, "Whether XLA compiles the updates. Default: Keras decides."
  )
  optimizer: str = option.field(
    "adam", "Optimizer of the outer loop.", choices=("adam", "sgd")
  )
  learning_rate: float = option.field(
    0.003, "Learning rate of the outer loop, above 0."
  )
  learning_rate_decay: str = option.field(
    "cosine",
    "How the outer learning rate falls over the whole run.",
    choices=("none", "linear", "cosine", "exponential"),
  )
  final_learning_rate: float = option.field(
    0.0,
    "Outer learning rate at the end of the run.",
    why_unused=unused_flags.without_decay,
  )
  clipvalue: float | None = option.field(
    None,
    "Clips each element of the outer gradient to [-clipvalue, clipvalue]. "
    "Default: no clipping.",
  )
  clipnorm: float | None = option.field(
    None,
    "Scales the outer gradient of each tensor down to this norm, after "
    "--clipvalue. Default: no clipping.",
  )
  validation_tasks: int = option.field(
    100,
    "Number of validation tasks after each epoch. They choose the best epoch.",
    least=1,
  )
  keep_best: int = option.field(
    5,
    "Number of best epochs whose weights are kept, for trainers.evaluate "
    "--ensemble.",
    least=1,
  )
  eval_tasks: int = option.field(
    600, "Number of tasks on which the final learner is evaluated.", least=1
  )
  eval_split: str = option.field(
    "test",
    "Split of these tasks. Use validation only for data without test classes: "
    "its results are too good, because it has chosen the best epoch.",
    choices=("test", "validation"),
  )
  export_normalization: str = option.field(
    "support_stats",
    "Statistics with which the exported learner normalizes query examples: "
    "those of the support set, so that queries may come one at a time, or "
    "those of --normalization (as_trained).",
    choices=("support_stats", "as_trained"),
    why_unused=unused_flags.without_transduction,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    _check_ranges(self)
    if self.steps_per_epoch % self.steps_per_execution:
      raise ValueError(
        "`steps_per_epoch` must be a multiple of `steps_per_execution`, so "
        "that a resumed run repeats the updates of an uninterrupted one. "
        "Received: "
        f"steps_per_epoch={self.steps_per_epoch}, "
        f"steps_per_execution={self.steps_per_execution}"
      )
    data_sets.check_options(
      self.dataset, num_tasks=self.num_tasks, size=self.size
    )

  @property
  def kind(self) -> str:
    """Kind of the data set: `IMAGES`, `EMBEDDINGS` or `REGRESSION`."""
    return data_sets.find(self.dataset).kind

  @property
  def is_embeddings(self) -> bool:
    """Whether the data set is a folder of embeddings."""
    return self.kind == data_sets.EMBEDDINGS

  @property
  def is_images(self) -> bool:
    """Whether examples are images."""
    return self.kind == data_sets.IMAGES

  @property
  def is_regression(self) -> bool:
    """Whether tasks have real targets instead of classes."""
    return self.kind == data_sets.REGRESSION


def _check_ranges(config: Configuration) -> None:
  if not config.learning_rate > 0:
    raise ValueError(
      "`learning_rate` must be above 0. "
      f"Received: learning_rate={config.learning_rate}"
    )
  exponential = config.learning_rate_decay == "exponential"
  if exponential and not config.final_learning_rate > 0:
    raise ValueError(
      "`final_learning_rate` must be above 0 for an exponential decay, which "
      "multiplies the rate by a constant factor. Received: "
      f"final_learning_rate={config.final_learning_rate}"
    )
