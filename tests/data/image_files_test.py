import io
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image
import tensorflow as tf

from tfmeta.data import image_files

IMAGE = np.random.default_rng(0).integers(0, 256, [6, 8, 3], np.uint8)


def encoded(image, name):
  """Returns the content of an image file in the format with this name."""
  file = io.BytesIO()
  lossless = name != "lossy WEBP"
  Image.fromarray(image).save(file, name.split()[-1], lossless=lossless)
  return file.getvalue()


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

  def test_many_images_are_scaled_like_one(self):
    images = np.random.default_rng(0).integers(0, 256, [5, 8, 6, 3], np.uint8)
    with mock.patch.object(image_files, "_AT_ONCE", 2):
      found = image_files.scale_all(images, (4, 3))
    expected = [image_files.scale(image, (4, 3)) for image in images]
    np.testing.assert_array_equal(found, expected)
    self.assertIs(image_files.scale_all(images, (8, 6)), images)

  def test_an_unreadable_file_is_named(self):
    for content in (
      b"text",
      b"",
      b"BM",
      b"\x89PNG\r\n\x1a\n",
      b"RIFF",
      b"GIF8",
    ):
      with self.assertRaisesRegex(ValueError, "a.png is not a readable JPEG"):
        image_files.decode(content, (4, 4, 3), "a.png")

  @parameterized.parameters("PNG", "BMP", "WEBP", "GIF")
  def test_formats_without_loss_are_read(self, name):
    image = np.zeros((5, 7, 3), np.uint8)
    image[1:, 2:] = 255
    for channels in (3, 1):
      content = encoded(image, name)
      found = image_files.decode(content, (5, 7, channels), "a")
      np.testing.assert_array_equal(found, image[..., :channels])

  @parameterized.product(
    name=("PNG", "JPEG", "BMP", "GIF", "WEBP", "lossy WEBP"),
    size=((120, 3), (2, 90)),
  )
  def test_large_images_are_refused_before_they_are_decoded(self, name, size):
    content = encoded(np.zeros((*size, 3), np.uint8), name)
    with mock.patch.object(image_files, "LARGEST_IMAGE", 100):
      with mock.patch.object(tf.io, "decode_image") as decode:
        with self.assertRaisesRegex(ValueError, f"{size[1]}x{size[0]}$"):
          image_files.decode(content, (4, 4, 3), "a.png")
    decode.assert_not_called()

  def test_extended_webp_files_have_a_size(self):
    header = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0"
    content = header + (20_000 - 1).to_bytes(3, "little") * 2
    with self.assertRaisesRegex(ValueError, "20000x20000"):
      image_files.decode(content, (4, 4, 3), "a.webp")


if __name__ == "__main__":
  absltest.main()
