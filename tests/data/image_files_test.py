import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.data import image_files

IMAGE = np.random.default_rng(0).integers(0, 256, [6, 8, 3], np.uint8)


class ImageFilesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("a.jpg", True),
    ("a.JPEG", True),
    ("a.b.png", True),
    (".a.png", False),
    ("a.gif", False),
    ("png", False),
  )
  def test_images_are_recognized_by_their_names(self, name, expected):
    path = pathlib.PurePath("folder.png", name)
    self.assertEqual(image_files.has_image_name(path), expected)

  def test_a_folder_is_not_an_image(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    (folder / "a.png").mkdir()
    (folder / "b.png").write_bytes(b"")
    self.assertFalse(image_files.is_image(folder / "a.png"))
    self.assertTrue(image_files.is_image(folder / "b.png"))
    self.assertFalse(image_files.is_image(folder / "c.png"))

  def test_an_image_of_the_right_size_is_unchanged(self):
    content = tf.io.encode_png(IMAGE).numpy()
    found = image_files.decode(content, IMAGE.shape, "a.png")
    np.testing.assert_array_equal(found, IMAGE)

  def test_shrinking_averages_pixels(self):
    checkerboard = np.indices([8, 8]).sum(axis=0) % 2 * 200
    image = checkerboard.astype(np.uint8)[..., np.newaxis]
    shrunk = image_files.scale(image, (4, 4))
    self.assertEqual(shrunk.shape, (4, 4, 1))
    self.assertEqual(shrunk.dtype, np.uint8)
    # Picking single pixels would give 0 or 200.
    np.testing.assert_allclose(shrunk[1:-1, 1:-1], 100, atol=10)

  def test_an_unreadable_file_is_named(self):
    with self.assertRaisesRegex(ValueError, "a.png is not a readable JPEG"):
      image_files.decode(b"text", (4, 4, 3), "a.png")


if __name__ == "__main__":
  absltest.main()
