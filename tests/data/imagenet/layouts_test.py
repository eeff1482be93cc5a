import csv
import pathlib
import pickle
import tarfile
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from tfmeta.data.imagenet import layouts

CLASSES = ("n01532829", "n01558993")
IMAGES = np.random.default_rng(0).integers(0, 256, [2, 3, 5, 4, 3], np.uint8)


def _encoded(image):
  return tf.io.encode_png(image).numpy()


def _folders(root, name):
  for folder, images in zip(CLASSES, IMAGES, strict=True):
    (root / name / folder).mkdir(parents=True)
    for number, image in enumerate(images):
      path = root / name / folder / f"{number}.png"
      path.write_bytes(_encoded(image))
  (root / name / CLASSES[0] / ".hidden.png").write_bytes(b"")
  (root / name / CLASSES[0] / "notes.txt").write_text("no image")
  (root / name / ".git").mkdir()


def _tar(root, name):
  with tempfile.TemporaryDirectory() as folder:
    _folders(pathlib.Path(folder), name)
    with tarfile.open(root / f"{name}.tar", "w") as archive:
      archive.add(pathlib.Path(folder) / name, arcname=name)


def _csv(root, name):
  (root / "images").mkdir()
  with open(root / f"{name}.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["filename", "label"])
    for label, images in zip(CLASSES, IMAGES, strict=True):
      for number, image in enumerate(images):
        writer.writerow([f"{label}_{number}.png", label])
        path = root / "images" / f"{label}_{number}.png"
        path.write_bytes(_encoded(image))


def _dump(path, content):
  path.write_bytes(pickle.dumps(content, protocol=2))


def _class_dict(root, name):
  indices = {CLASSES[1]: [0, 2, 4], CLASSES[0]: [1, 3, 5]}
  images = np.empty([6, *IMAGES.shape[2:]], np.uint8)
  images[1::2], images[::2] = IMAGES
  content = {"image_data": images, "class_dict": indices}
  _dump(root / f"mini-imagenet-cache-{name}.pkl", content)


def _data_and_labels(root, name):
  phase = "train_phase_train" if name == "train" else name
  path = root / f"miniImageNet_category_split_{phase}.pickle"
  content = {"data": IMAGES.reshape(6, 5, 4, 3), "labels": [7] * 3 + [11] * 3}
  _dump(path, {**content, "catname2label": {}})


def _npz(root, name):
  # OpenCV reads the channels in this order.
  blue_first = IMAGES.reshape(6, 5, 4, 3)[..., ::-1]
  images = np.ascontiguousarray(blue_first)
  np.savez(root / f"{name}_images.npz", images=images)
  labels = {"label_specific": np.array([7] * 3 + [11] * 3), "other": [0]}
  _dump(root / f"{name}_labels.pkl", labels)


def _png_pickle(root, name):
  files = [_encoded(image) for images in IMAGES for image in images]
  # Some releases of OpenCV return a column.
  images = [np.frombuffer(file, np.uint8).reshape(-1, 1) for file in files]
  _dump(root / f"{name}_images_png.pkl", images)
  _dump(root / f"{name}_labels.pkl", {"labels": [7] * 3 + [11] * 3})


LAYOUTS = {
  "folders": _folders,
  "tar": _tar,
  "csv": _csv,
  "class_dict": _class_dict,
  "data_and_labels": _data_and_labels,
  "npz": _npz,
  "png_pickle": _png_pickle,
}


def _as_array(image):
  if isinstance(image, bytes):
    return tf.io.decode_image(image).numpy()
  return image


class LayoutsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def read(self, split):
    found = layouts.find(self.root, split)
    self.assertIsNotNone(found)
    return list(found[1]())

  @parameterized.product(
    layout=sorted(LAYOUTS),
    names=[("train", "train"), ("validation", "val"), ("test", "test")],
  )
  def test_every_layout_yields_all_images_by_class(self, layout, names):
    split, name = names
    LAYOUTS[layout](self.root, name)
    examples = self.read(split)
    self.assertLen(examples, 6)
    named = layout in ("folders", "tar", "csv", "class_dict")
    classes = CLASSES if named else ("0007", "0011")
    for number, (label, place, image) in enumerate(examples):
      self.assertEqual(label, classes[number // 3])
      self.assertStartsWith(place, str(self.root))
      expected = IMAGES[number // 3, number % 3]
      np.testing.assert_array_equal(_as_array(image), expected)
    for other in {"train", "validation", "test"} - {split}:
      self.assertIsNone(layouts.find(self.root, other))

  def test_images_that_were_moved_into_folders_are_found(self):
    # MAML's script moves the images that the csv file names.
    _csv(self.root, "train")
    for file in (self.root / "images").iterdir():
      file.unlink()
    _folders(self.root, "train")
    self.assertLen(self.read("train"), 6)

  def test_images_of_other_phases_do_not_belong_to_the_split(self):
    # This file holds validation images of the training classes.
    path = "miniImageNet_category_split_train_phase_val.pickle"
    (self.root / path).write_bytes(b"")
    for split in ("train", "validation", "test"):
      self.assertIsNone(layouts.find(self.root, split))

  def test_missing_indices_are_named(self):
    content = {"image_data": IMAGES[0], "class_dict": {"ant": [0, 3]}}
    _dump(self.root / "mini-imagenet-cache-val.pkl", content)
    with self.assertRaisesRegex(ValueError, "3 images. Received: index 3"):
      self.read("validation")

  def test_a_compressed_archive_is_rejected(self):
    with tarfile.open(self.root / "test.tar", "w:gz") as archive:
      archive.add(__file__)
    with self.assertRaisesRegex(ValueError, "test.tar must .* uncompressed"):
      self.read("test")

  def test_a_missing_image_in_a_csv_file_is_named(self):
    (self.root / "train.csv").write_text("filename,label\na.jpg,b\n")
    with self.assertRaisesRegex(FileNotFoundError, "train.csv names .*a.jpg"):
      self.read("train")

  def test_columns_of_a_csv_file_are_checked(self):
    (self.root / "train.csv").write_text("file,class\na.jpg,b\n")
    with self.assertRaisesRegex(ValueError, r"filename and label\. Received"):
      self.read("train")

  def test_missing_keys_are_named(self):
    _dump(self.root / "mini-imagenet-cache-val.pkl", {"image_data": []})
    with self.assertRaisesRegex(ValueError, "'image_data' and 'class_dict'"):
      self.read("validation")

  def test_images_without_labels_are_named(self):
    np.savez(self.root / "train_images.npz", images=np.zeros([2, 4, 4, 3]))
    with self.assertRaisesRegex(FileNotFoundError, "train_labels.pkl"):
      self.read("train")

  @parameterized.parameters(
    ("pixels", lambda x: x, "not an npz file of `images`"),
    ("images", np.asfortranarray, "Fortran order"),
    ("images", lambda x: x / 255, "float64"),
    ("images", lambda x: x[..., 0], r"shape \(2, 4, 4\)"),
  )
  def test_arrays_of_another_kind_are_rejected(self, name, change, message):
    images = change(np.zeros([2, 4, 4, 3], np.uint8))
    np.savez(self.root / "train_images.npz", **{name: images})
    _dump(self.root / "train_labels.pkl", {"labels": [0, 1]})
    with self.assertRaisesRegex(ValueError, message):
      self.read("train")

  def test_a_file_that_is_not_an_archive_is_rejected(self):
    (self.root / "train_images.npz").write_bytes(b"text")
    _dump(self.root / "train_labels.pkl", {"labels": [0, 1]})
    with self.assertRaisesRegex(ValueError, "not an npz file of `images`"):
      self.read("train")

  @parameterized.parameters(_npz, _png_pickle)
  def test_a_wrong_number_of_labels_is_rejected(self, write):
    write(self.root, "train")
    _dump(self.root / "train_labels.pkl", {"labels": [0, 1]})
    with self.assertRaisesRegex(ValueError, "6 images, 2 labels"):
      self.read("train")


if __name__ == "__main__":
  absltest.main()
