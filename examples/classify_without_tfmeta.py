"""Teaches an exported learner five symbols it has never seen.

It needs TensorFlow and NumPy, but neither tfmeta nor the data of the training:

    python examples/classify_without_tfmeta.py runs/maml/saved_model

The program draws the symbols itself, with random deformations. The learner sees
one drawing of each symbol (or `--shots`) and then names fifteen more of each.
"""

import argparse
import importlib.util
import sys

import numpy as np
import tensorflow as tf

# Each symbol is one line through these corners (x to the right, y down), whose
# coordinates are in [-1, 1].
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
  """Returns one drawing of a line: `[size, size, 1]` float32, 1 where inked."""
  # Each corner is moved. Then the whole symbol is turned, slanted and moved.
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
  # Half the width of the line is 0.12; its edge fades over one pixel.
  ink = np.clip((0.12 - distance) * size / 2.0 + 0.5, 0.0, 1.0)
  return ink[..., np.newaxis].astype(np.float32)


def to_segment(points, start, end):
  """Returns the distance of `points`, `[..., 2]`, from a line segment."""
  along = end - start
  share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
  return np.linalg.norm(
    points - start - share[..., np.newaxis] * along, axis=-1
  )


def drawings(count, size, random):
  """Returns `count` drawings of each symbol, and the symbol of each drawing."""
  labels = np.repeat(np.arange(len(SYMBOLS), dtype=np.int32), count)
  corners = list(SYMBOLS.values())
  return np.stack([draw(corners[k], size, random) for k in labels]), labels


def classify(path, shots, seed):
  """Adapts the SavedModel and returns the true and the predicted symbols."""
  model = tf.saved_model.load(path)
  adapt, predict = model.signatures["adapt"], model.signatures["predict"]
  size = adapt.structured_input_signature[1]["support_x"].shape[-2]
  random = np.random.default_rng(seed)
  support_x, support_y = drawings(shots, size, random)
  query_x, query_y = drawings(15, size, random)
  weights = adapt(
    support_x=tf.constant(support_x), support_y=tf.constant(support_y)
  )
  # One drawing at a time, as a page would ask.
  outputs = [
    predict(query_x=tf.constant(one), **weights)["outputs"][0]
    for one in query_x[:, np.newaxis]
  ]
  return query_y, np.argmax(outputs, axis=-1)


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("saved_model", help="folder that learner.export() wrote")
  parser.add_argument(
    "--shots",
    type=int,
    default=1,
    help="number of drawings of each symbol to learn from",
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
  print(f"accuracy on new symbols: {accuracy:.1%} (guessing: 20%)")
  return 0 if accuracy > 0.4 else "The learner is hardly better than chance."


if __name__ == "__main__":
  sys.exit(main())
