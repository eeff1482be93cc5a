"""Builds and compiles the learner of a run."""

import pathlib
from typing import Any
import zipfile
import zlib

import keras
import tensorflow as tf

import tfmeta
from trainers.run import paths

# Flags of a single learner that choose its network.
_OF_NETWORK = ("body_from", "head")


def build(
  config, elements: Any, strategy: tf.distribute.Strategy | None = None
) -> tfmeta.MetaLearner:
  """Returns the compiled learner of a run.

  Args:
    config: A `Configuration`.
    elements: Structure of `tf.TensorSpec` of a batch of tasks.
    strategy: Strategy that holds the variables. Defaults to the current one.
  """
  scope: Any = (strategy or tf.distribute.get_strategy()).scope()
  jit_compile = "auto" if config.jit_compile is None else config.jit_compile
  keras.utils.set_random_seed(config.seed)
  with scope:
    learner = _learner(config, *elements)
    learner.compile(
      optimizer=_optimizer(config),
      metrics=None if config.is_regression else _metrics(),
      steps_per_execution=_steps_per_execution(config),
      jit_compile=jit_compile,
    )
  return learner


def learning_rate(config) -> Any:
  """Returns the outer learning rate: a number, or a schedule of Keras."""
  rate, final = config.learning_rate, config.final_learning_rate
  updates = config.epochs * config.steps_per_epoch
  if updates == 0:
    return rate
  schedules = keras.optimizers.schedules
  if config.learning_rate_decay == "linear":
    return schedules.PolynomialDecay(rate, updates, end_learning_rate=final)
  if config.learning_rate_decay == "cosine":
    return schedules.CosineDecay(rate, updates, alpha=final / rate)
  if config.learning_rate_decay == "exponential":
    return schedules.ExponentialDecay(rate, updates, final / rate)
  return rate


def _steps_per_execution(config) -> int:
  # Keras 3.15 cannot loop over steps in which workers exchange gradients.
  several_workers = config.strategy == "multi_worker"
  return 1 if several_workers else config.steps_per_execution


def _metrics() -> list[Any]:
  """Returns what is reported of classification, in addition to the loss."""
  return [
    "accuracy",
    tfmeta.metrics.BrierScore(),
    tfmeta.metrics.ExpectedCalibrationError(),
  ]


def _learner(config, inputs, targets) -> tfmeta.MetaLearner:
  steps = {
    "inner_steps": config.inner_steps,
    "inner_learning_rate": config.inner_learning_rate,
    "eval_inner_steps": config.eval_inner_steps,
    "inner_loss_reduction": config.inner_loss_reduction,
  }
  return getattr(tfmeta, config.algorithm)(
    _network_with_head(config, inputs, targets),
    **(steps if config.algorithm != "ProtoNet" else {}),
    inner_loss="mse" if config.is_regression else None,
    normalization=config.normalization,
    task_map=config.task_map,
    seed=config.seed,
    clipvalue=config.clipvalue,
    clipnorm=config.clipnorm,
    **_own_arguments(config),
  )


def _network_with_head(config, inputs, targets) -> keras.Model:
  """Returns the network, with the head that the flags of the learner choose."""
  if config.algorithm != "FineTuning":
    return _network(config, inputs, targets)
  shape = inputs["support_x"].shape[2:]
  if config.is_embeddings:
    # The body was trained and applied beforehand.
    x = features = keras.Input(shape)
  else:
    body = _pretrained_body(config, shape)
    x, features = body.inputs, body.outputs[0]
  cosine = config.own["head"] == "cosine"
  layer = tfmeta.layers.CosineDense if cosine else keras.layers.Dense
  return keras.Model(x, layer(config.ways, name="head")(features))


def _pretrained_body(config, shape) -> keras.Model:
  """Returns the body that a run begins with, frozen if it is not trained."""
  if config.is_regression:
    raise ValueError(
      "Fine-tuning begins with a body that was trained to tell classes apart, "
      "so the data set must have classes. "
      f"Received: dataset={config.dataset!r}"
    )
  path = config.own["body_from"]
  body = _loaded(
    "body_from",
    path,
    "a backbone, such as the one that `python -m trainers.pretrain` writes",
  )
  if body.input_shape[1:] != tuple(shape):
    raise ValueError(
      "`body_from` must be a backbone for the images of the data set, "
      f"{tuple(shape)}. Received: body_from={path!r}, which takes "
      f"{body.input_shape[1:]}"
    )
  body.trainable = config.epochs > 0
  return body


def _loaded(name: str, path: str, expected: str) -> Any:
  """Returns the Keras model in a file that a flag names."""
  file = pathlib.Path(paths.local(name, path))
  if not file.is_file():
    raise ValueError(
      f"`{name}` must be {expected}. Received: {name}={path!r}, which is not "
      "a file"
    )
  return load(file)


def load(file: pathlib.Path) -> Any:
  """Returns the Keras model in a file.

  Raises:
    ValueError: If the file is a damaged archive.
  """
  # Keras says of a damaged archive that it was not found.
  if file.suffix == ".keras" and not _is_whole(file):
    raise ValueError(
      "A .keras file is damaged. The command of the trainer that wrote it "
      f"writes it again. Received: {str(file)!r}"
    )
  return keras.models.load_model(file)


def _is_whole(file: pathlib.Path) -> bool:
  try:
    with zipfile.ZipFile(file) as archive:
      return archive.testzip() is None
  except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
    return False


def _network(config, inputs, targets) -> keras.Model:
  # Axes of `support_x`: tasks, examples, and those of one example.
  shape = inputs["support_x"].shape[2:]
  if config.is_regression:
    return tfmeta.models.mlp(
      shape,
      outputs=targets.shape[-1],
      hidden=config.hidden,
      context=config.context,
    )
  if config.is_embeddings:
    # LEO generates weights without biases.
    return tfmeta.models.embedding_head(
      shape[0], ways=config.ways, use_bias=config.algorithm != "LEO"
    )
  return tfmeta.models.conv4(
    shape,
    ways=config.ways,
    filters=config.filters,
    pooling=config.pooling,
    normalization=config.network_normalization,
    scale=config.scale,
    momentum=config.momentum,
    head_input=config.head_input,
  )


def _own_arguments(config) -> dict[str, Any]:
  """Returns the arguments of this learner alone, with files loaded."""
  own = {k: v for k, v in config.own.items() if k not in _OF_NETWORK}
  if path := own.get("initial_from"):
    own["initial_from"] = _loaded(
      "initial_from",
      path,
      "a learner that was saved, such as runs/maml/best.keras",
    )
  return own


def _optimizer(config) -> keras.optimizers.Optimizer:
  kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
  return kinds[config.optimizer](learning_rate(config))
