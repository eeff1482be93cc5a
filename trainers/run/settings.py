"""What a run is told, as plain values; the flags are made from it."""

import dataclasses
import pathlib
import typing
from typing import Any

from trainers.run import dataset_kinds


def _option(default, help, choices=None) -> Any:
  metadata = {"help": help, "choices": choices}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
  """All settings of a run.

  Fields with a default are flags of every trainer, and `python -m trainers.maml
  --help` explains them; those named like an argument of a learner, a model or
  `compile` have its meaning.

  Attributes:
    algorithm: Name of a learner in `tfmeta`, such as `"MAML"`.
    own: Constructor arguments of that learner which others do not have.
  """

  algorithm: str
  own: dict[str, Any] = dataclasses.field(default_factory=dict)

  dataset: str = _option(
    "glyphs",
    "glyphs, omniglot, mini_imagenet, tiered_imagenet, cifar_fs, fc100, "
    "glyph_pairs, omniglot_pairs, sinusoid, varied_sinusoid (of other "
    "frequencies too, with noise), sinusoid_or_line, or a directory with a "
    "folder of images for each class, or with embeddings.",
  )
  data_dir: str | None = _option(
    None, "Where TFDS keeps its data sets; its own default if not given."
  )
  manual_dir: str | None = _option(
    None,
    "Files to prepare mini_imagenet or tiered_imagenet from, once; "
    "downloads/manual in --data_dir if not given.",
  )
  rotations: str | None = _option(
    None,
    "What is made of turned characters of omniglot: classes, for all splits, "
    "if not given.",
    ["as_classes", "per_task", "none"],
  )
  size: int | None = _option(
    None,
    "Height and width to which images are scaled; 28 for omniglot and 84 for a "
    "directory if not given.",
  )
  channels: int = _option(3, "1 for grey, 3 for colour, for a directory.")
  ways: int | None = _option(5, "Classes in a task, but for regression.")
  shots: int = _option(1, "Support examples per class.")
  query_shots: int = _option(15, "Query examples per class.")
  train_shots: int | None = _option(
    None, "Support examples per class in training; --shots if not given."
  )
  train_query_shots: int | None = _option(
    5, "Query examples per class in training; as --query_shots if 0."
  )

  num_tasks: int | None = _option(
    None, "Different sinusoids in training; no two alike if not given."
  )

  filters: int = _option(32, "Filters of each convolution, for images.")
  pooling: str = _option(
    "stride",
    "What halves the image after each convolution.",
    ["max", "average", "stride"],
  )
  scale: bool = _option(
    True, "Whether normalisation learns a scale beside its shift."
  )
  momentum: float = _option(
    0.9,
    "Of the running statistics of normalisation, which predictions use under "
    "per_step_running alone.",
  )
  head_input: str = _option(
    "flatten", "What the last layer sees of the image.", ["flatten", "mean"]
  )
  hidden: list[int] = _option(
    (40, 40), "Units of the hidden layers, for regression."
  )

  inner_steps: int = _option(1, "Inner steps in training.")
  inner_learning_rate: float = _option(0.4, "Step size of the inner loop.")
  eval_inner_steps: int | None = _option(
    None, "Inner steps in evaluation; --inner_steps if not given."
  )
  inner_loss_reduction: str = _option(
    "mean",
    "How the inner loss is reduced over the support set.",
    ["mean", "sum", "sum_over_ways"],
  )
  normalization: str | None = _option(
    None,
    "Statistics of batch normalisation for query examples; `none` takes the "
    "normalisation out of the net. For images transductive if not given; "
    "per_step_transductive for MAML++, which alone has those per step.",
    [
      "transductive",
      "support_stats",
      "per_step_transductive",
      "per_step_running",
      "none",
    ],
  )
  task_map: str = _option(
    "auto",
    "How tasks are batched.",
    ["auto", "map", "vectorize", "unroll"],
  )

  meta_batch_size: int = _option(8, "Tasks in each update.")
  steps_per_epoch: int = _option(100, "Updates in each epoch.")
  epochs: int = _option(10, "Epochs. A checkpoint is written after each.")
  steps_per_execution: int = _option(1, "Updates in each call of the graph.")
  jit_compile: bool | None = _option(
    None, "Whether XLA compiles the updates; as Keras sees fit if not given."
  )
  optimizer: str = _option("adam", "Outer optimizer.", ["adam", "sgd"])
  learning_rate: float = _option(0.003, "Of the outer optimizer.")
  learning_rate_decay: str = _option(
    "cosine",
    "How the learning rate falls over the whole run.",
    ["none", "linear", "cosine", "exponential"],
  )
  final_learning_rate: float = _option(0.0, "What it falls to.")
  clipvalue: float | None = _option(
    None, "Bound of each entry of the outer gradient."
  )
  clipnorm: float | None = _option(
    None, "Bound of the norm of each tensor of it, after --clipvalue."
  )
  validation_tasks: int = _option(
    100, "Tasks after each epoch; the best epoch by them is kept."
  )
  keep_best: int = _option(
    5, "Best epochs whose weights are kept, for `trainers.evaluate --ensemble`."
  )
  eval_tasks: int = _option(600, "Test tasks at the end.")
  eval_split: str = _option(
    "test",
    "Whose classes those tasks have: validation is for data without a test "
    "split, and flatters, as the best epoch was chosen by it.",
    ["test", "validation"],
  )

  workdir: str = _option("", "Where all is written, and resumed from.")
  seed: int = _option(0, "Of the initial weights and the training tasks.")
  strategy: str = _option(
    "none",
    "How devices or machines share the work: see trainers/README.md.",
    ["none", "mirrored", "multi_worker", "tpu", "parameter_server"],
  )
  tpu: str = _option("local", "Name or address of the TPU, for --strategy=tpu.")
  startup_seconds: int = _option(
    300, "How long to wait for all workers, for --strategy=multi_worker."
  )

  def __post_init__(self) -> None:
    for field in options():
      if kind_of(field) is int:
        least = _LEAST.get(field.name, 0)
        _check_least(field.name, getattr(self, field.name), least)
    if not self.learning_rate > 0:
      raise ValueError(
        "`learning_rate` must be above 0. "
        f"Received: learning_rate={self.learning_rate}"
      )
    if self.steps_per_epoch % self.steps_per_execution:
      raise ValueError(
        "`steps_per_epoch` must be a multiple of `steps_per_execution`, so "
        "that a resumed run repeats the updates of one never stopped. "
        "Received: "
        f"steps_per_epoch={self.steps_per_epoch}, "
        f"steps_per_execution={self.steps_per_execution}"
      )
    dataset_kinds.check_options(
      self.dataset, num_tasks=self.num_tasks, size=self.size
    )
    exponential = self.learning_rate_decay == "exponential"
    if exponential and not self.final_learning_rate > 0:
      raise ValueError(
        "`final_learning_rate` must be above 0 for a rate that falls by a "
        "factor. Received: "
        f"final_learning_rate={self.final_learning_rate}"
      )
    if not self.workdir:
      raise ValueError("`workdir` must be given: it is where all is written.")

  @property
  def is_embeddings(self) -> bool:
    """Whether the data set is a folder of embeddings."""
    folder = pathlib.Path(self.dataset).expanduser()
    return (folder / "train_embeddings.pkl").exists()

  @property
  def is_images(self) -> bool:
    """Whether examples are images."""
    return not (self.is_regression or self.is_embeddings)

  @property
  def is_regression(self) -> bool:
    """Whether tasks have targets instead of classes."""
    return self.dataset in dataset_kinds.REGRESSION


_LEAST = {
  "ways": 2,
  "num_tasks": 1,
  "shots": 1,
  "query_shots": 1,
  "filters": 1,
  "meta_batch_size": 1,
  "steps_per_epoch": 1,
  "epochs": 1,
  "steps_per_execution": 1,
  "validation_tasks": 1,
  "keep_best": 1,
  "eval_tasks": 1,
  "startup_seconds": 1,
}


def options() -> list[dataclasses.Field]:
  """Fields of `Settings` that are flags."""
  return [f for f in dataclasses.fields(Settings) if "help" in f.metadata]


def kind_of(option) -> type:
  """The type of an option's values: `int` for `int | None`."""
  kinds = typing.get_args(option.type) or (option.type,)
  return list if option.type == list[int] else kinds[0]


def _check_least(name, value, least):
  if isinstance(value, int) and value < least:
    raise ValueError(
      f"`{name}` must be at least {least}. Received: {name}={value}"
    )
