"""Trains a backbone to tell all training classes apart; writes its embeddings.

  python -m trainers.pretrain --workdir=runs/pretrain
  python -m trainers.pretrain --dataset=omniglot --filters=64
  python -m trainers.leo --dataset=runs/pretrain/embeddings

An ordinary Keras classifier, validated on drawings of the same classes that it
was not trained on. What its last layer sees of an image is the embedding; those
of all three splits go to the folder `embeddings`, in files like those of LEO's
authors.
"""

import json
import math
import os
import pathlib

from absl import flags as absl_flags

from trainers.run import command

_FLAGS = absl_flags.FLAGS
_RESULT = "pretrain.json"
_HELD_OUT = 0.2  # Of the drawings of each class.


def define() -> None:
  """Defines the flags."""
  absl_flags.DEFINE_enum(
    "dataset", "glyphs", ["glyphs", "omniglot"], "Whose drawings to tell apart."
  )
  absl_flags.DEFINE_string(
    "data_dir", None, "Where TFDS keeps its data sets; its own if not given."
  )
  absl_flags.DEFINE_string("workdir", "runs/pretrain", "Where all is written.")
  absl_flags.DEFINE_integer(
    "filters", 64, "Filters of each convolution.", lower_bound=1
  )
  absl_flags.DEFINE_integer(
    "epochs", 10, "Times through all drawings.", lower_bound=1
  )
  absl_flags.DEFINE_integer(
    "batch_size", 128, "Drawings in each update.", lower_bound=1
  )
  absl_flags.DEFINE_float("learning_rate", 1e-3, "Of Adam; falls by a cosine.")
  absl_flags.DEFINE_integer("seed", 0, "Of the weights and the order.")


def run(
  dataset,
  workdir,
  *,
  data_dir,
  filters,
  epochs,
  batch_size,
  learning_rate,
  seed,
) -> dict:
  """Trains, and writes `backbone.keras`, `pretrain.json` and embeddings."""
  import keras

  from trainers.run import drawings
  from trainers.run import workdir as folders

  settings = {
    "dataset": dataset,
    "filters": filters,
    "epochs": epochs,
    "batch_size": batch_size,
    "learning_rate": learning_rate,
    "seed": seed,
  }
  _check(settings)
  folder = pathlib.Path(workdir).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  _check_same(folder / _RESULT, settings)
  images = drawings.of_split(dataset, "train", data_dir)
  keras.utils.set_random_seed(seed)
  classifier = drawings.classifier(images.shape, filters=filters)
  training, validation = drawings.divided(images, _HELD_OUT)
  updates = epochs * -(-len(training[0]) // batch_size)
  rate = keras.optimizers.schedules.CosineDecay(learning_rate, updates)
  classifier.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  history = classifier.fit(
    *training,
    validation_data=validation,
    epochs=epochs,
    batch_size=batch_size,
    verbose=2,
    callbacks=[keras.callbacks.TensorBoard(folder / "logs", write_graph=False)],
  ).history
  if not math.isfinite(history["loss"][-1]):
    raise ArithmeticError(
      "The loss became NaN or inf, and nothing was written; try a smaller "
      f"learning rate. Received: learning_rate={learning_rate}"
    )
  backbone = drawings.backbone_of(classifier)
  with folders.replacing(folder / "backbone.keras") as path:
    backbone.save(path)
  drawings.write_embeddings(backbone, folder / "embeddings", dataset, data_dir)
  result = {"settings": settings, "classes": len(images), "history": history}
  folders.write_json(folder / _RESULT, result)
  print(f"Written to {os.fspath(folder)}: backbone.keras, embeddings.")
  return result


def _check(settings):
  if not settings["learning_rate"] > 0:
    raise ValueError(
      "`learning_rate` must be above 0. "
      f"Received: learning_rate={settings['learning_rate']}"
    )


def _check_same(path, settings):
  """Refuses to overwrite embeddings that other settings made."""
  if not path.exists():
    return
  there = json.loads(path.read_text()).get("settings")
  if there != settings:
    raise ValueError(
      "This workdir belongs to another run; choose another --workdir, or "
      f"remove this one. Received: workdir={os.fspath(path.parent)!r}, made "
      f"with {there}"
    )


def main(_) -> None:
  """Runs what the flags say."""
  run(
    _FLAGS.dataset,
    _FLAGS.workdir,
    data_dir=_FLAGS.data_dir,
    filters=_FLAGS.filters,
    epochs=_FLAGS.epochs,
    batch_size=_FLAGS.batch_size,
    learning_rate=_FLAGS.learning_rate,
    seed=_FLAGS.seed,
  )


if __name__ == "__main__":
  define()
  command.run(main)
