"""Checks that two versions of tfmeta compute the same numbers, bit for bit.

  python -m benchmarks.fingerprints --out=before.json --models=models
  python -m benchmarks.fingerprints --out=after.json --against=before.json \
      --load=models

Trains every learner for five updates on each network that it takes, evaluates
20 tasks, and writes SHA-256 digests of all weights and outputs. With `--models`
it also saves each learner, as a `.keras` file and as a SavedModel; with
`--load` it predicts with models that another version saved. Digests are equal
on one machine only: processors add in different orders.
"""

from collections.abc import Callable
from collections.abc import Iterator
import hashlib
import json
import pathlib
import sys
from typing import Any

from absl import app
from absl import flags
from absl import logging
import keras
import numpy as np
import tensorflow as tf

import tfmeta

_OUT = flags.DEFINE_string("out", None, "File to write the digests to.")
_AGAINST = flags.DEFINE_string(
  "against", None, "Digests of another version, to compare with."
)
_MODELS = flags.DEFINE_string("models", None, "Folder to save learners in.")
_LOAD = flags.DEFINE_string("load", None, "Folder of saved learners to load.")
_ONLY = flags.DEFINE_string("only", "", "Runs the rows that hold this text.")

_WAYS, _SHOTS, _QUERIES, _TASKS = 3, 2, 3, 20
_UPDATES, _BATCH = 5, 4

_SHAPES = {
  "mlp": (6,),
  "conv4_max": (16, 16, 1),
  "conv4_stride": (16, 16, 1),
  "embeddings": (6,),
  "regression": (2,),
}

_BACKBONES: dict[str, Callable[[], keras.Model]] = {
  "mlp": lambda: tfmeta.models.mlp((6,), outputs=_WAYS, hidden=(16, 16)),
  "conv4_max": lambda: tfmeta.models.conv4(
    (16, 16, 1), ways=_WAYS, filters=8, pooling="max"
  ),
  "conv4_stride": lambda: tfmeta.models.conv4(
    (16, 16, 1), ways=_WAYS, filters=8, pooling="stride"
  ),
  "embeddings": lambda: tfmeta.models.embedding_head(6, ways=_WAYS),
  "regression": lambda: tfmeta.models.mlp((2,), outputs=1, hidden=(16,)),
}

_TWO_STEPS = {"inner_steps": 2, "inner_learning_rate": 0.05}
_LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
  "maml": ("MAML", _TWO_STEPS),
  "fomaml": ("FOMAML", _TWO_STEPS),
  "anil": ("ANIL", _TWO_STEPS),
  "meta_sgd": ("MetaSGD", _TWO_STEPS),
  "reptile": ("Reptile", {**_TWO_STEPS, "support_batch_size": 4}),
  "maml_plus_plus": (
    "MAMLPlusPlus",
    {"inner_steps": 2, "steps_per_epoch": 2, "multi_step_epochs": 1},
  ),
  "platipus": ("PLATIPUS", {**_TWO_STEPS, "num_samples": 3}),
  "emaml": ("EMAML", {**_TWO_STEPS, "num_particles": 3}),
  "bmaml": (
    "BMAML",
    {"inner_steps": 2, "inner_learning_rate": 1e-3, "num_particles": 3},
  ),
}


def rows() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
  """Yields name, backbone, class and constructor arguments of each row."""
  for name, (learner, arguments) in _LEARNERS.items():
    for backbone in ("mlp", "conv4_max", "conv4_stride"):
      yield f"{name}/{backbone}", backbone, learner, arguments
    yield (
      f"{name}/regression",
      "regression",
      learner,
      {**arguments, "inner_loss": "mse"},
    )
    support_stats = {**arguments, "normalization": "support_stats"}
    yield f"{name}/support_stats", "conv4_stride", learner, support_stats
  yield "leo/embeddings", "embeddings", "LEO", {"num_latents": 4}
  drawn = {"num_latents": 4, "num_samples": 3, "variant": "paper"}
  yield "leo/embeddings_drawn", "embeddings", "LEO", drawn
  yield (
    "maml_plus_plus/running",
    "conv4_stride",
    "MAMLPlusPlus",
    {"inner_steps": 2, "normalization": "per_step_running"},
  )
  yield (
    "bmaml/nll",
    "regression",
    "BMAML",
    {**_LEARNERS["bmaml"][1], "inner_loss": "mse", "meta_loss": "nll"},
  )


def tasks_for(backbone: str, count: int, seed: int) -> tf.data.Dataset:
  """Fixed tasks: classes around random means, or random linear functions."""
  random = np.random.default_rng(seed)
  shape = _SHAPES[backbone]
  support, queries = _SHOTS * _WAYS, _QUERIES * _WAYS
  if backbone == "regression":
    slopes = random.normal(size=(count, *shape, 1))
    x = random.normal(size=(count, support + queries, *shape))
    y = (x @ slopes).astype("float32")
  else:
    labels = np.tile(np.arange(_WAYS), _SHOTS + _QUERIES)
    means = random.normal(size=(count, _WAYS, *shape))
    x = means[:, labels]
    x = x + 0.5 * random.normal(size=x.shape)
    y = np.tile(labels, (count, 1)).astype("int32")
  x = x.astype("float32")
  inputs = {
    "support_x": x[:, :support],
    "support_y": y[:, :support],
    "query_x": x[:, support:],
  }
  return tf.data.Dataset.from_tensor_slices((inputs, y[:, support:]))


def digest(arrays: Any) -> str:
  """SHA-256 of the bytes, shapes and types of arrays."""
  sha = hashlib.sha256()
  for array in arrays:
    value = np.ascontiguousarray(array)
    sha.update(f"{value.dtype} {value.shape}".encode())
    sha.update(value.tobytes())
  return sha.hexdigest()


def _inputs(tasks: tf.data.Dataset) -> dict[str, np.ndarray]:
  inputs, _ = next(iter(tasks.batch(_TASKS)))
  return {key: value.numpy() for key, value in inputs.items()}


def train(backbone: str, learner: str, arguments: dict[str, Any]) -> Any:
  """A learner after five updates."""
  keras.utils.set_random_seed(1)
  built = getattr(tfmeta, learner)(_BACKBONES[backbone](), **arguments)
  built.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=False)
  tasks = tasks_for(backbone, _UPDATES * _BATCH, seed=0)
  built.fit(tasks.batch(_BATCH), shuffle=False, verbose=0)
  return built


def fingerprint(backbone: str, learner: Any) -> dict[str, str]:
  """Digests of what a trained learner holds, predicts and is measured at."""
  tasks = tasks_for(backbone, _TASKS, seed=1)
  result = tfmeta.evaluate(learner, tasks.batch(_BATCH))
  first = {k: tf.constant(v[0]) for k, v in _inputs(tasks).items()}
  adapted = learner.adapt(first["support_x"], first["support_y"])
  return {
    "weights": digest(learner.get_weights()),
    "outputs": digest([learner.predict(_inputs(tasks), verbose=0)]),
    "adapted": digest(tf.nest.flatten(adapted)),
    "evaluation": digest([result.per_task]),
  }


def save(learner: Any, folder: pathlib.Path) -> None:
  """Writes both kinds of files."""
  folder.mkdir(parents=True, exist_ok=True)
  learner.save(folder / "learner.keras")
  learner.export(folder / "saved_model")


def predictions(backbone: str, folder: pathlib.Path) -> dict[str, str]:
  """Digests of what both kinds of files predict."""
  inputs = _inputs(tasks_for(backbone, _TASKS, seed=1))
  loaded = keras.models.load_model(folder / "learner.keras")
  served = tf.saved_model.load(str(folder / "saved_model"))
  tensors = {key: tf.constant(value) for key, value in inputs.items()}
  outputs = served.signatures["serving_default"](**tensors)["outputs"]
  return {
    "keras_file": digest([loaded.predict(inputs, verbose=0)]),
    "saved_model": digest([outputs]),
  }


def measure() -> dict[str, dict[str, str]]:
  """Digests of all rows, saving and loading models where asked to."""
  found: dict[str, dict[str, str]] = {}
  for name, backbone, learner, arguments in rows():
    if _ONLY.value not in name:
      continue
    trained = train(backbone, learner, arguments)
    found[name] = fingerprint(backbone, trained)
    if _MODELS.value:
      save(trained, pathlib.Path(_MODELS.value) / name)
    for folder in filter(None, (_MODELS.value, _LOAD.value)):
      saved = pathlib.Path(folder) / name
      found[name].update(predictions(backbone, saved))
    if _OUT.value:
      pathlib.Path(_OUT.value).write_text(json.dumps(found, indent=1))
    print(name, found[name]["weights"][:12], flush=True)
  return found


def differences(before: Any, after: Any) -> list[str]:
  """Names of the digests that differ, as `row: digest`."""
  return [
    f"{row}: {key}"
    for row, digests in after.items()
    for key, value in digests.items()
    if value != before.get(row, {}).get(key)
  ]


def main(argv: list[str]) -> None:
  """Measures, writes and compares."""
  del argv
  logging.set_verbosity(logging.ERROR)
  found = measure()
  if _AGAINST.value:
    before = json.loads(pathlib.Path(_AGAINST.value).read_text())
    different = differences(before, found)
    count = sum(len(digests) for digests in found.values())
    print("\n".join(different))
    print(f"{count - len(different)} of {count} digests are equal.")
    sys.exit(bool(different))


if __name__ == "__main__":
  app.run(main)
