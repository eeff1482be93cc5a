"""Teaches an exported learner five symbols it has never seen.

Needs TensorFlow and NumPy, and neither tfmeta nor the data it was trained on:

    python examples/classify_without_tfmeta.py runs/maml/saved_model

The symbols are drawn here, each time by a hand that shakes. The learner sees
one drawing of each (or `--shots`), then names fifteen more of each.
"""

import argparse
import importlib.util
import sys

import numpy as np
import tensorflow as tf

# Corners of one line each, x to the right and y down, in [-1, 1].
SYMBOLS = {
  "triangle": [(0, -0.8), (0.8, 0.7), (-0.8, 0.7), (0, -0.8)],
  "arrow": [(0, 0.9), (0, -0.8), (-0.6, -0.1), (0, -0.8), (0.6, -0.1)],
  "staircase": [(-0.9, 0.8), (-0.9, 0), (0, 0), (0, -0.8), (0.9, -0.8)],
  "hourglass": [
    (-0.7, -0.8),
    (0.7, -0.8),
    (-0.7, 0.8),
    (0.7, 0.8),
    (-0.7, -0.8),
  ],
  "cup": [(-0.7, -0.7), (-0.5, 0.7), (0.5, 0.7), (0.7, -0.7)],
}


def draw(corners, size, random):
  """One drawing of a line: `[size, size, 1]` float32, 1 where there is ink."""
  corners = np.asarray(corners) + random.normal(0.0, 0.06, (len(corners), 2))
  turn_and_slant = 0.62 * np.eye(2) + random.normal(0.0, 0.06, (2, 2))
  corners = corners @ turn_and_slant + random.normal(0.0, 0.05, 2)
  ticks = np.linspace(-1.0, 1.0, size)
  pixels = np.stack(np.meshgrid(ticks, ticks), axis=-1)
  distance = np.min(
    [
      to_segment(pixels, a, b)
      for a, b in zip(corners[:-1], corners[1:], strict=True)
    ],
    axis=0,
  )
  ink = np.clip((0.12 - distance) * size / 2.0 + 0.5, 0.0, 1.0)
  return ink[..., np.newaxis].astype(np.float32)


def to_segment(points, start, end):
  """Distance of `points`, `[..., 2]`, from the segment."""
  along = end - start
  share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
  return np.linalg.norm(
    points - start - share[..., np.newaxis] * along, axis=-1
  )


def drawings(count, size, random):
  """`count` drawings of each symbol, and the number of the symbol in each."""
  labels = np.repeat(np.arange(len(SYMBOLS), dtype=np.int32), count)
  corners = list(SYMBOLS.values())
  return np.stack([draw(corners[k], size, random) for k in labels]), labels


def classify(path, shots, seed):
  """Adapts the SavedModel; returns true and predicted numbers of symbols."""
  model = tf.saved_model.load(path)
  adapt, predict = model.signatures["adapt"], model.signatures["predict"]
  size = adapt.structured_input_signature[1]["support_x"].shape[-2]
  random = np.random.default_rng(seed)
  support_x, support_y = drawings(shots, size, random)
  query_x, query_y = drawings(15, size, random)
  weights = adapt(
    support_x=tf.constant(support_x), support_y=tf.constant(support_y)
  )
  outputs = predict(query_x=tf.constant(query_x), **weights)["outputs"]
  return query_y, np.argmax(outputs, axis=-1)


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("saved_model", help="folder written by learner.export()")
  parser.add_argument(
    "--shots", type=int, default=1, help="drawings to learn from"
  )
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  tfmeta_is_here = importlib.util.find_spec("tfmeta") is not None
  print(f"tfmeta can be imported here: {'yes' if tfmeta_is_here else 'no'}")
  truth, guess = classify(
    arguments.saved_model, arguments.shots, arguments.seed
  )
  for number, name in enumerate(SYMBOLS):
    right = np.sum(guess[truth == number] == number)
    print(f"{name:10} {right:2} of {np.sum(truth == number)} right")
  accuracy = np.mean(truth == guess)
  print(f"accuracy on new symbols: {accuracy:.1%} (guessing: 20 %)")
  return 0 if accuracy > 0.4 else "The learner does hardly better than chance."


if __name__ == "__main__":
  sys.exit(main())
