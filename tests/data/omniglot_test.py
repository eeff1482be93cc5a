import importlib
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(ways=5, shots=1, query_shots=5)
# The name `omniglot` in the package is the function.
_omniglot = importlib.import_module("tfmeta.data.omniglot")


def _numbered_images(*_):
  """Returns images in place of the real ones.

  Their pixels hold the number of the character and of the drawing.
  """
  images = np.zeros([1623, 20, 4, 4, 1], np.uint8)
  images[:, :, 0, 0, 0] = np.arange(1623)[:, np.newaxis] % 256
  images[:, :, 0, 1, 0] = np.arange(1623)[:, np.newaxis] // 256 + 1
  images[:, :, 1, 1, 0] = np.arange(20)
  return images


def _characters(images):
  """Returns the character, the rotation and the drawing, `[n, 3]`."""
  found = []
  for image in np.round(images[..., 0] * 255).astype(int):
    turned = [np.rot90(image, -turn) for turn in range(4)]
    turn = next(t for t in range(4) if turned[t][0, 1] > 0)
    upright = turned[turn]
    character = upright[0, 0] + 256 * (upright[0, 1] - 1)
    found.append((character, turn, upright[1, 1]))
  return np.array(found)


def _take(split, count, spec=SPEC, **kwargs):
  tasks = data.omniglot(split, spec, **kwargs).take(count)
  for inputs, query_y in tasks.as_numpy_iterator():
    x = np.concatenate([inputs["support_x"], inputs["query_x"]])
    yield _characters(x), np.concatenate([inputs["support_y"], query_y])


class ClassesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("vinyals", {"train": 1028, "validation": 172, "test": 423}),
    ("lake", {"train": 964, "test": 659}),
  )
  def test_splits_divide_all_characters(self, classes, sizes):
    lists = [data.omniglot_classes(split, classes=classes) for split in sizes]
    self.assertEqual([len(found) for found in lists], [*sizes.values()])
    self.assertCountEqual(sum(lists, []), range(1623))

  def test_existing_splits_are_listed(self):
    with self.assertRaisesRegex(ValueError, "one of 'train', 'test'. Received"):
      data.omniglot_classes("validation", classes="lake")
    with self.assertRaisesRegex(ValueError, "one of 'vinyals', 'lake'"):
      data.omniglot_classes("train", classes="ravi")


class OmniglotTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(
      mock.patch.object(_omniglot, "_all_images", _numbered_images)
    )

  @parameterized.parameters("train", "validation", "test")
  def test_tasks_have_characters_of_the_split(self, split):
    allowed = data.omniglot_classes(split)
    for found, _ in _take(split, 20):
      self.assertContainsSubset(found[:, 0], allowed)

  @parameterized.parameters("as_classes", "per_task", "none")
  def test_a_class_is_one_rotation_of_one_character(self, rotations):
    turns = set()
    for found, labels in _take("train", 50, rotations=rotations):
      classes = [
        np.unique(found[labels == way, :2], axis=0) for way in range(5)
      ]
      self.assertEqual([len(members) for members in classes], [1] * 5)
      self.assertLen(np.unique(np.concatenate(classes), axis=0), 5)
      self.assertLen(np.unique(found, axis=0), len(found))
      turns.update(found[:, 1])
    self.assertEqual(turns, {0} if rotations == "none" else {0, 1, 2, 3})

  def test_only_as_classes_repeats_a_character_in_a_task(self):
    spec = data.TaskSpec(ways=100, shots=1, query_shots=1)
    for rotations, repeats in (("as_classes", True), ("per_task", False)):
      found, _ = next(_take("validation", 1, spec=spec, rotations=rotations))
      self.assertEqual(len(np.unique(found[:, 0])) < 100, repeats)

  @parameterized.parameters(True, False)
  def test_drawings_of_a_split_are_complete(self, turns):
    images = data.omniglot_drawings("validation", turns=turns)
    classes = data.omniglot_classes("validation")
    each = 4 if turns else 1
    self.assertEqual(images.shape, (each * len(classes), 20, 4, 4, 1))
    self.assertEqual(images.dtype, np.uint8)
    found = _characters(images[:, 7] / np.float32(255))
    self.assertCountEqual(found[:, 0], np.repeat(classes, each))
    self.assertLen(np.unique(found, axis=0), len(images))
    np.testing.assert_array_equal(found[:, 2], 7)
    for drawings in images[:: len(images) // 5]:
      of_class = _characters(drawings / np.float32(255))
      self.assertLen(np.unique(of_class[:, :2], axis=0), 1)

  def test_lake_evaluates_upright_characters(self):
    for split, turns in (("train", 4), ("test", 1)):
      tasks = _take(split, 30, classes="lake")
      found = np.concatenate([characters for characters, _ in tasks])
      self.assertLen(np.unique(found[:, 1]), turns)

  @parameterized.parameters(
    (dict(spec=data.TaskSpec(ways=5, shots=6)), "20 examples.* = 21"),
    (
      dict(spec=data.TaskSpec(ways=173, query_shots=1), rotations="per_task"),
      "172 classes, fewer than the 173",
    ),
    (dict(rotations="all"), "`rotations` must be one of 'as_classes'"),
    (dict(size=106), "`size` must be an integer from 1 to 105"),
    (dict(spec=data.TaskSpec()), "`ways` must be set"),
  )
  def test_wrong_arguments_are_rejected(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      next(_take("validation", 1, **arguments))


@absltest.skipUnless(
  os.path.isdir(os.path.join(os.environ.get("TFDS_DATA_DIR", ""), "omniglot")),
  "the environment variable TFDS_DATA_DIR names no folder that holds omniglot/",
)
class RealOmniglotTest(parameterized.TestCase):
  def test_drawings_are_thin_dark_and_alike_within_a_class(self):
    spec = data.TaskSpec(ways=20, shots=1, query_shots=19)
    tasks = data.omniglot("test", spec, rotations="none", download=False)
    inputs, query_y = next(iter(tasks))
    x = tf.concat([inputs["support_x"], inputs["query_x"]], 0).numpy()
    y = tf.concat([inputs["support_y"], query_y], 0).numpy()
    self.assertEqual(x.shape, (400, 28, 28, 1))
    self.assertBetween(x.mean(), 0.05, 0.15)
    self.assertGreater(x.max(axis=(1, 2, 3)).min(), 0.5)
    self.assertLen(np.unique(x.reshape(400, -1), axis=0), 400)
    means = np.stack([x[y == way].mean(axis=0) for way in range(20)])
    within = ((x - means[y]) ** 2).sum() / 400
    between = ((means - means.mean(axis=0)) ** 2).sum() / 20
    # For unrelated drawings the ratio would be about 1 / 19.
    self.assertGreater(between, 0.15 * within)


if __name__ == "__main__":
  absltest.main()
