"""Glyphs: handwritten-like characters, drawn as they are asked for.

A character is made as handwriting is [1]: one to three strokes, each a smooth
curve, most of them begun on an earlier one. A drawing of it is another hand's:
control points jittered, the whole slanted, stretched, turned and moved, the pen
thicker or thinner. Ink is a sum of Gaussian spots along the curve, which one
batched matrix product per drawing computes, since a Gaussian is separable.

References:
  [1] B. Lake, R. Salakhutdinov, J. Tenenbaum. Human-level concept learning
      through probabilistic program induction. Science 350, 2015.
      https://doi.org/10.1126/science.aab3050
"""

import tensorflow as tf

from tfmeta.data import characters
from tfmeta.data import drawing
from tfmeta.data import sampler
from tfmeta.data import task

# The characters of a split, as a range of class numbers.
SPLITS = {
  "train": (0, 10_000_000),
  "validation": (10_000_000, 11_000_000),
  "test": (11_000_000, 12_000_000),
}


def glyphs(
  split: str, spec: task.TaskSpec, *, seed: int = 0, start: int = 0
) -> tf.data.Dataset:
  """Draws tasks of handwritten-like characters, without end.

  There are ten million characters to train on and a million each to validate
  and to test on; the same ones for every seed, none in two splits. Each drawing
  is made for the task it is in, so no two are alike. Nothing is stored.

  Args:
    split: "train", "validation" or "test".
    spec: A `tfmeta.TaskSpec` with ways.
    seed: Integer in `[0, 2**63)`, of the choice of characters, their labels and
      the hands. Default 0.
    start: Index of the first task. Default 0. Task i depends on the split, the
      seed and i alone.

  Returns:
    An infinite `tf.data.Dataset` of single tasks `({"support_x": [S, 28, 28,
    1], "support_y": [S], "query_x": [Q, 28, 28, 1]}, query_y [Q])`, x float32
    in [0, 1] with ink = 1, y int32; batch it.

  Raises:
    TypeError: If `spec` is no `TaskSpec`.
    ValueError: If the split is unknown, `spec` has no ways, or more of them
      than the split has characters.

  Example:
    >>> spec = task.TaskSpec(ways=5, shots=1, query_shots=15)
    >>> tasks = glyphs("train", spec, seed=0).batch(32)
  """
  sampler.check_choice("split", split, tuple(SPLITS))
  ways = task.check_has_ways(spec)
  first, last = SPLITS[split]
  if ways > last - first:
    raise ValueError(
      f"The split has {last - first} classes, fewer than the {ways} ways "
      f"of a task. Received: spec={spec}"
    )

  def draw(key: tf.Tensor) -> task.TaskElement:
    class_key, layout_key, hand_key = sampler.split(key, 3)
    classes = _choose_classes(class_key, first, last, ways)
    _, labels = sampler.layout(layout_key, spec)
    parts = [
      tf.gather(part, labels) for part in characters.make_characters(classes)
    ]
    return task.to_element(drawing.draw(hand_key, *parts), labels, spec)

  salt = list(SPLITS).index(split)
  return sampler.task_dataset(draw, seed=seed, start=start, salt=salt)


def glyph_drawings(
  classes: int, drawings: int, *, split: str = "train", seed: int = 0
) -> tf.Tensor:
  """Draws the first characters of a split, to look at.

  Args:
    classes: Integer >= 1, how many characters.
    drawings: Integer >= 1, how many drawings of each.
    split: "train", "validation" or "test". Default "train".
    seed: Integer in `[0, 2**63)`, of the hands. Default 0.

  Returns:
    float32 `[classes, drawings, 28, 28, 1]` in [0, 1], ink = 1.
  """
  sampler.check_choice("split", split, tuple(SPLITS))
  sampler.check_index("seed", seed)
  first = SPLITS[split][0]
  numbers = tf.range(first, first + task.check_positive("classes", classes))
  drawings = task.check_positive("drawings", drawings)
  # Elsewhere products may be of lower precision.
  with tf.device("CPU"):
    parts = characters.make_characters(tf.cast(numbers, tf.int64))
    parts = [tf.repeat(part, drawings, axis=0) for part in parts]
    images = drawing.draw(tf.constant([seed, 0], tf.int64), *parts)
  return tf.reshape(images, [classes, drawings, drawing.SIZE, drawing.SIZE, 1])


def _choose_classes(
  key: tf.Tensor, first: int, last: int, ways: int
) -> tf.Tensor:
  """Draws different class numbers, int64 `[ways]`, each from its own residue.

  Choosing without replacement among millions would cost more than the drawing.
  """
  number_key, residue_key = sampler.split(key, 2)
  residues = sampler.choose(residue_key, tf.constant([ways]), ways)[0]
  numbers = tf.random.stateless_uniform(
    [ways], number_key, 0, (last - first) // ways, tf.int64, sampler.ALGORITHM
  )
  return first + numbers * ways + tf.cast(residues, tf.int64)
