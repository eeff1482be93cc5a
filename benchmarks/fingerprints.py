"""Checks that two versions of tfmeta compute the same numbers, bit for bit.

  python -m benchmarks.fingerprints --out=before.json --models=models
  python -m benchmarks.fingerprints --out=after.json --against=before.json \
      --load=models

The command trains every learner for five updates on each network that it
accepts, evaluates 20 tasks, and writes SHA-256 digests of all weights and
outputs. With `--models` it also saves each learner, as a `.keras` file and as a
SavedModel. With `--load` it predicts with models that another version saved.
Digests can be compared on one machine only, because processors add in different
orders.
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

_OUT = flags.DEFINE_string("out", None, "JSON file to write the digests to.")
_AGAINST = flags.DEFINE_string(
  "against", None, "JSON file of another version to compare with."
)
_MODELS = flags.DEFINE_string("models", None, "Folder to save learners in.")
_LOAD = flags.DEFINE_string("load", None, "Folder of saved learners to load.")
_ONLY = flags.DEFINE_string(
  "only", "", "Runs only rows that contain this text."
)

_WAYS, _SHOTS, _QUERIES, _TASKS = 3, 2, 3, 20
_UPDATES, _BATCH = 5, 4

# The shape of an input and the model, by name of the network.
_NETWORKS: dict[str, tuple[tuple[int, ...], Callable[..., keras.Model]]] = {
  "mlp": (
    (6,),
    lambda: tfmeta.models.mlp((6,), outputs=_WAYS, hidden=(16, 16)),
  ),
  "conv4_max": ((16, 16, 1), lambda: _conv4("max")),
  "conv4_stride": ((16, 16, 1), lambda: _conv4("stride")),
  "embeddings": ((6,), lambda: tfmeta.models.embedding_head(6, ways=_WAYS)),
  "regression": (
    (2,),
    lambda: tfmeta.models.mlp((2,), outputs=1, hidden=(16,)),
  ),
}


def _conv4(pooling: str) -> keras.Model:
  return tfmeta.models.conv4(
    (16, 16, 1), ways=_WAYS, filters=8, pooling=pooling
  )


# The class and its constructor arguments, by name of the learner.
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
  # BMAML's inner objective is a sum, so its rate must be smaller.
  "bmaml": (
    "BMAML",
    {"inner_steps": 2, "inner_learning_rate": 1e-3, "num_particles": 3},
  ),
}


def rows() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
  """Yields name, network, class and constructor arguments of each row."""
  for name, (learner, arguments) in _LEARNERS.items():
    for network in ("mlp", "conv4_max", "conv4_stride"):
      yield f"{name}/{network}", network, learner, arguments
    mse = {**arguments, "inner_loss": "mse"}
    yield f"{name}/regression", "regression", learner, mse
    support_stats = {**arguments, "normalization": "support_stats"}
    yield f"{name}/support_stats", "conv4_stride", learner, support_stats
  latents = {"num_latents": 4}
  yield "leo/embeddings", "embeddings", "LEO", latents
  paper = {**latents, "num_samples": 3, "variant": "paper"}
  yield "leo/embeddings_drawn", "embeddings", "LEO", paper
  running = {"inner_steps": 2, "normalization": "per_step_running"}
  yield "maml_plus_plus/running", "conv4_stride", "MAMLPlusPlus", running
  nll = {**_LEARNERS["bmaml"][1], "inner_loss": "mse", "meta_loss": "nll"}
  yield "bmaml/nll", "regression", "BMAML", nll


def make_tasks(network: str, count: int, seed: int) -> tf.data.Dataset:
  """Returns tasks of classes around random means, or of linear functions."""
  random = np.random.default_rng(seed)
  shape, _ = _NETWORKS[network]
  support, queries = _SHOTS * _WAYS, _QUERIES * _WAYS
  if network == "regression":
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
  """Returns the SHA-256 of the bytes, shapes and types of arrays."""
  sha = hashlib.sha256()
  for array in arrays:
    value = np.ascontiguousarray(array)
    sha.update(f"{value.dtype} {value.shape}".encode())
    sha.update(value.tobytes())
  return sha.hexdigest()


def _inputs(tasks: tf.data.Dataset) -> dict[str, np.ndarray]:
  inputs, _ = next(iter(tasks.batch(_TASKS)))
  return {key: value.numpy() for key, value in inputs.items()}


def train(network: str, learner: str, arguments: dict[str, Any]) -> Any:
  """Returns a learner after five updates."""
  keras.utils.set_random_seed(1)
  built = getattr(tfmeta, learner)(_NETWORKS[network][1](), **arguments)
  built.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=False)
  tasks = make_tasks(network, _UPDATES * _BATCH, seed=0)
  built.fit(tasks.batch(_BATCH), shuffle=False, verbose=0)
  return built


def fingerprint(network: str, learner: Any) -> dict[str, str]:
  """Returns digests of a learner's weights, predictions and evaluation."""
  tasks = make_tasks(network, _TASKS, seed=1)
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
  """Saves a learner as a `.keras` file and as a SavedModel."""
  folder.mkdir(parents=True, exist_ok=True)
  learner.save(folder / "learner.keras")
  learner.export(folder / "saved_model")


def predictions(network: str, folder: pathlib.Path) -> dict[str, str]:
  """Returns digests of the predictions of both saved files."""
  inputs = _inputs(make_tasks(network, _TASKS, seed=1))
  loaded = keras.models.load_model(folder / "learner.keras")
  served = tf.saved_model.load(str(folder / "saved_model"))
  tensors = {key: tf.constant(value) for key, value in inputs.items()}
  outputs = served.signatures["serving_default"](**tensors)["outputs"]
  return {
    "keras_file": digest([loaded.predict(inputs, verbose=0)]),
    "saved_model": digest([outputs]),
  }


def measure_all() -> dict[str, dict[str, str]]:
  """Returns the digests of all rows, saving and loading models as flags say."""
  found: dict[str, dict[str, str]] = {}
  for name, network, learner, arguments in rows():
    if _ONLY.value not in name:
      continue
    trained = train(network, learner, arguments)
    found[name] = fingerprint(network, trained)
    if _MODELS.value:
      save(trained, pathlib.Path(_MODELS.value) / name)
    for folder in filter(None, (_MODELS.value, _LOAD.value)):
      saved = pathlib.Path(folder) / name
      found[name].update(predictions(network, saved))
    # Writing after each row keeps the results of an interrupted run.
    if _OUT.value:
      pathlib.Path(_OUT.value).write_text(json.dumps(found, indent=1))
    print(name, found[name]["weights"][:12], flush=True)
  return found


def differences(before: Any, after: Any) -> list[str]:
  """Returns the names of the digests that differ, as `row: digest`."""
  return [
    f"{row}: {key}"
    for row, digests in after.items()
    for key, value in digests.items()
    if value != before.get(row, {}).get(key)
  ]


def main(argv: list[str]) -> None:
  """Computes and writes all digests and compares them with earlier ones."""
  del argv
  # Loading a SavedModel logs a warning for each custom gradient.
  logging.set_verbosity(logging.ERROR)
  found = measure_all()
  if _AGAINST.value:
    before = json.loads(pathlib.Path(_AGAINST.value).read_text())
    different = differences(before, found)
    count = sum(len(digests) for digests in found.values())
    print("\n".join(different))
    print(f"{count - len(different)} of {count} digests are equal.")
    sys.exit(bool(different))


if __name__ == "__main__":
  app.run(main)
