"""The learner of a run, built and compiled."""

import pathlib

import keras
import tensorflow as tf

import tfmeta


def build(settings, elements, strategy=None) -> tfmeta.MetaLearner:
  """The compiled learner for tasks of the structure `elements`."""
  strategy = strategy or tf.distribute.get_strategy()
  compiled = "auto" if settings.jit_compile is None else settings.jit_compile
  keras.utils.set_random_seed(settings.seed)
  with strategy.scope():
    learner = _learner(settings, *elements)
    learner.compile(
      optimizer=_optimizer(settings),
      metrics=None if settings.is_regression else _metrics(),
      steps_per_execution=_steps_per_execution(settings),
      jit_compile=compiled,
    )
  return learner


def _steps_per_execution(settings):
  # Keras 3.15 can not loop over steps in which workers meet.
  several = settings.strategy == "multi_worker"
  return 1 if several else settings.steps_per_execution


def _metrics():
  """What TensorBoard shows of classes, beside the loss."""
  return [
    "accuracy",
    tfmeta.metrics.BrierScore(),
    tfmeta.metrics.ExpectedCalibrationError(),
  ]


def _learner(settings, inputs, targets):
  shape = inputs["support_x"].shape[2:]
  if settings.is_regression:
    model = tfmeta.models.mlp(
      shape, outputs=targets.shape[-1], hidden=settings.hidden
    )
  elif settings.is_embeddings:
    model = tfmeta.models.embedding_head(
      shape[0], ways=settings.ways, use_bias=settings.algorithm != "LEO"
    )
  else:
    model = tfmeta.models.conv4(
      shape,
      ways=settings.ways,
      filters=settings.filters,
      pooling=settings.pooling,
      scale=settings.scale,
      momentum=settings.momentum,
      head_input=settings.head_input,
      normalization="none" if settings.normalization == "none" else "batch",
    )
  return getattr(tfmeta, settings.algorithm)(
    model,
    inner_steps=settings.inner_steps,
    inner_learning_rate=settings.inner_learning_rate,
    eval_inner_steps=settings.eval_inner_steps,
    inner_loss="mse" if settings.is_regression else None,
    inner_loss_reduction=settings.inner_loss_reduction,
    normalization=settings.normalization,
    task_map=settings.task_map,
    seed=settings.seed,
    clipvalue=settings.clipvalue,
    clipnorm=settings.clipnorm,
    **_own(settings),
  )


def _own(settings):
  """Arguments of this learner alone; a learner to begin from is loaded."""
  own = dict(settings.own)
  if path := own.get("initial_from"):
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
      raise ValueError(
        "`initial_from` must be a learner that was saved, such as "
        f"runs/maml/best.keras. Received: initial_from={path!r}, which is no "
        "file"
      )
    own["initial_from"] = keras.models.load_model(file)
  return own


def _optimizer(settings):
  kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
  return kinds[settings.optimizer](_learning_rate(settings))


def _learning_rate(settings):
  rate, final = settings.learning_rate, settings.final_learning_rate
  updates = settings.epochs * settings.steps_per_epoch
  schedules = keras.optimizers.schedules
  if settings.learning_rate_decay == "linear":
    return schedules.PolynomialDecay(rate, updates, end_learning_rate=final)
  if settings.learning_rate_decay == "cosine":
    return schedules.CosineDecay(rate, updates, alpha=final / rate)
  if settings.learning_rate_decay == "exponential":
    return schedules.ExponentialDecay(rate, updates, final / rate)
  return rate
