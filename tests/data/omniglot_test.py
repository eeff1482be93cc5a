import importlib
import os
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta import data

SPEC = data.TaskSpec(ways=5, shots=1, query_shots=5)
# The package's name `omniglot` is the function.
_omniglot = importlib.import_module("tfmeta.data.omniglot")


def _drawings(*_):
  """Stands for the real ones: each tells its character and its drawing."""
  images = np.zeros([1623, 20, 4, 4, 1], np.uint8)
  images[:, :, 0, 0, 0] = np.arange(1623)[:, np.newaxis] % 256
  images[:, :, 0, 1, 0] = np.arange(1623)[:, np.newaxis] // 256 + 1
  images[:, :, 1, 1, 0] = np.arange(20)
  return images


def _characters(images):
  """Returns each image's character, turn and drawing, as rows."""
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
  def test_splits_are_of_the_published_sizes_and_share_no_character(self):
    for classes, sizes in (("vinyals", (1028, 172, 423)), ("lake", (964, 659))):
      names = ("train", "validation", "test")[:: 1 if len(sizes) == 3 else 2]
      lists = [data.omniglot_classes(n, classes=classes) for n in names]
      self.assertEqual(tuple(map(len, lists)), sizes)
      self.assertCountEqual(sum(lists, []), range(1623))

  def test_the_splits_that_exist_are_listed(self):
    with self.assertRaisesRegex(ValueError, "one of 'train', 'test'. Received"):
      data.omniglot_classes("validation", classes="lake")
    with self.assertRaisesRegex(ValueError, "one of 'vinyals', 'lake'"):
      data.omniglot_classes("train", classes="ravi")


class OmniglotTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.object(_omniglot, "_images", _drawings))

  @parameterized.parameters("train", "validation", "test")
  def test_characters_are_of_the_split(self, split):
    allowed = data.omniglot_classes(split)
    for rows, _ in _take(split, 20):
      self.assertContainsSubset(rows[:, 0], allowed)

  @parameterized.parameters("as_classes", "per_task", "none")
  def test_a_class_is_one_character_turned_one_way(self, rotations):
    turns = set()
    for rows, labels in _take("train", 50, rotations=rotations):
      classes = [np.unique(rows[labels == way, :2], axis=0) for way in range(5)]
      self.assertEqual([len(rows) for rows in classes], [1] * 5)
      self.assertLen(np.unique(np.concatenate(classes), axis=0), 5)
      self.assertLen(np.unique(rows, axis=0), len(rows))
      turns.update(rows[:, 1])
    self.assertEqual(turns, {0} if rotations == "none" else {0, 1, 2, 3})

  def test_only_as_classes_shows_a_character_turned_twice(self):
    spec = data.TaskSpec(ways=100, shots=1, query_shots=1)
    for rotations, repeats in (("as_classes", True), ("per_task", False)):
      rows, _ = next(_take("validation", 1, spec=spec, rotations=rotations))
      self.assertEqual(len(np.unique(rows[:, 0])) < 100, repeats)

  @parameterized.parameters(True, False)
  def test_drawings_of_a_split_are_all_there(self, turns):
    images = data.omniglot_drawings("validation", turns=turns)
    classes = data.omniglot_classes("validation")
    each = 4 if turns else 1
    self.assertEqual(images.shape, (each * len(classes), 20, 4, 4, 1))
    self.assertEqual(images.dtype, np.uint8)
    found = _characters(images[:, 7] / np.float32(255))
    self.assertCountEqual(found[:, 0], np.repeat(classes, each))
    self.assertLen({tuple(row) for row in found}, len(images))
    np.testing.assert_array_equal(found[:, 2], 7)
    for drawings in images[:: len(images) // 5]:
      rows = _characters(drawings / np.float32(255))
      self.assertLen(np.unique(rows[:, :2], axis=0), 1)

  def test_lake_evaluates_upright_characters(self):
    for split, turns in (("train", 4), ("test", 1)):
      rows = np.concatenate([r for r, _ in _take(split, 30, classes="lake")])
      self.assertLen(np.unique(rows[:, 1]), turns)

  @parameterized.parameters(
    (dict(spec=data.TaskSpec(ways=5, shots=6)), "20 examples.* = 21"),
    (
      dict(spec=data.TaskSpec(ways=173, query_shots=1), rotations="per_task"),
      "172 classes, fewer than the 173",
    ),
    (dict(rotations="all"), "`rotations` must be one of 'as_classes'"),
    (dict(size=106), r"`size` must be in \[1, 105\]"),
    (dict(spec=data.TaskSpec()), "`ways` must be given"),
  )
  def test_bad_settings_are_refused(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      next(_take("validation", 1, **settings))


class MissingDataTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    builder = mock.Mock(data_path="/nowhere/omniglot/3.0.0")
    builder.is_prepared.return_value = False
    builder.download_and_prepare.side_effect = ConnectionError("no route")
    tfds = mock.Mock(**{"builder.return_value": builder})
    self.enterContext(mock.patch.dict(sys.modules, tensorflow_datasets=tfds))

  def test_a_failed_download_says_where_it_looked_and_what_to_do(self):
    message = "not in /nowhere/omniglot.*no route.*`data_dir`.*TFDS_DATA_DIR"
    with self.assertRaisesRegex(FileNotFoundError, message):
      data.omniglot("train", SPEC, data_dir="/nowhere")

  def test_nothing_is_downloaded_where_that_is_forbidden(self):
    with self.assertRaisesRegex(FileNotFoundError, "`download` is False"):
      data.omniglot("train", SPEC, data_dir="/nowhere", download=False)


@absltest.skipUnless(
  os.path.isdir(os.path.join(os.environ.get("TFDS_DATA_DIR", ""), "omniglot")),
  "the environment variable TFDS_DATA_DIR names no folder that holds omniglot/",
)
class RealOmniglotTest(parameterized.TestCase):
  def test_drawings_are_thin_dark_and_of_two_characters_unlike(self):
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
    # Of drawings that had nothing in common it would be a nineteenth.
    self.assertGreater(between, 0.15 * within)


if __name__ == "__main__":
  absltest.main()
