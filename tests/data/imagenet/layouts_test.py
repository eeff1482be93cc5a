import csv
import io
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

  @parameterized.parameters(0, 100, 512, 600, 1024, 5000)
  def test_an_archive_that_is_cut_off_is_no_smaller_data_set(self, length):
    _tar(self.root, "train")
    path = self.root / "train.tar"
    path.write_bytes(path.read_bytes()[:length])
    with self.assertRaisesRegex(ValueError, "train.tar"):
      self.read("train")

  def test_a_damaged_header_is_not_the_end_of_an_archive(self):
    _tar(self.root, "train")
    path = self.root / "train.tar"
    with tarfile.open(path) as archive:
      offsets = [member.offset for member in archive.getmembers()]
    whole = path.read_bytes()
    for offset in offsets:
      damaged = [bytearray(whole) for _ in range(3)]
      damaged[0][offset] ^= 1
      damaged[1][offset + 150] ^= 1
      # A block that was never written looks like the end of an archive.
      damaged[2][offset : offset + 512] = bytes(512)
      for content in damaged:
        path.write_bytes(content)
        with self.assertRaisesRegex(ValueError, "train.tar"):
          self.read("train")

  def test_links_in_an_archive_are_followed(self):
    self.write_tar(b"content", link_to="train/a/1.png")
    found = [content for _, _, content in self.read("train")]
    self.assertEqual(found, [b"content"] * 3)

  @parameterized.parameters(
    "/etc/hostname", "../../secret.png", "train/a/2.png", "train/a/none.png"
  )
  def test_links_that_lead_to_no_member_are_refused(self, link_to):
    self.write_tar(b"content", link_to=link_to)
    with self.assertRaisesRegex(ValueError, r"train.tar holds no .*a/[23].png"):
      self.read("train")

  def test_members_with_gaps_do_not_fill_the_memory(self):
    with tarfile.open(self.root / "train.tar", "w") as archive:
      member = tarfile.TarInfo("train/a/1.png")
      headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
      headers |= {"GNU.sparse.size": str(2**33), "GNU.sparse.map": "0,512"}
      member.pax_headers, member.size = headers, 512
      archive.addfile(member, io.BytesIO(bytes(512)))
    with self.assertRaisesRegex(ValueError, "1.png' of 8589934592 bytes"):
      self.read("train")

  def write_tar(self, content, *, link_to):
    """Writes an archive of a file, a hard link and a symbolic link."""
    kinds = {"1": tarfile.REGTYPE, "2": tarfile.LNKTYPE, "3": tarfile.SYMTYPE}
    with tarfile.open(self.root / "train.tar", "w") as archive:
      for name, kind in kinds.items():
        member = tarfile.TarInfo(f"train/a/{name}.png")
        member.type, regular = kind, kind == tarfile.REGTYPE
        member.size = len(content) if regular else 0
        # A symbolic link is relative to its folder.
        hard = kind == tarfile.LNKTYPE
        member.linkname = link_to if hard else link_to.removeprefix("train/a/")
        archive.addfile(member, io.BytesIO(content) if regular else None)

  @parameterized.parameters(
    "/etc/hostname", "../train.csv", "/dev/zero", "link.png", "a\0.png"
  )
  def test_a_csv_file_reads_only_files_of_its_folder(self, name):
    (self.root / "images").mkdir()
    (self.root / "images" / "link.png").symlink_to(__file__)
    (self.root / "train.csv").write_text(f"filename,label\n{name},b\n")
    with self.assertRaisesRegex(ValueError, "train.csv must name files in"):
      self.read("train")

  def test_images_of_a_csv_file_may_lie_behind_a_link(self):
    with tempfile.TemporaryDirectory() as folder:
      _csv(pathlib.Path(folder), "train")
      (self.root / "images").symlink_to(pathlib.Path(folder) / "images")
      (self.root / "train.csv").symlink_to(pathlib.Path(folder) / "train.csv")
      self.assertLen(self.read("train"), 6)

  @parameterized.parameters(
    (b"filename,label\na.png\n", "in line 2"),
    (b'filename,label\n"a.png,b\n', "is not a csv file"),
    (b"filename,label\n" + b"a" * 200_000 + b",b\n", "is not a csv file"),
    (b"filename,label\n\xff\xfe,b\n", "is not a csv file"),
  )
  def test_damaged_csv_files_are_named(self, content, message):
    (self.root / "train.csv").write_bytes(content)
    with self.assertRaisesRegex(ValueError, f"train.csv.*{message}"):
      self.read("train")

  @parameterized.parameters(
    ({"class_dict": {"ant": [0, -1]}}, "Received: index -1"),
    ({"class_dict": {"ant": ["a"]}}, "integers for the class 'ant'"),
    ({"class_dict": {"ant": 3}}, "integers for the class 'ant'"),
    ({"class_dict": {"ant": [[0], [0, 1]]}}, "integers for the class 'ant'"),
    ({"class_dict": [0, 1]}, "dict of indices.*Received: list"),
    ({"class_dict": {"a": [9], 1: [0]}}, "Received: index 9"),
    ({"image_data": None}, "Received: NoneType"),
    ({"image_data": 3}, "Received: int"),
    ({"image_data": np.zeros([2, 4, 4])}, r"shape \(2, 4, 4\), float64"),
  )
  def test_a_class_dict_of_another_kind_is_rejected(self, change, message):
    content = {"image_data": IMAGES[0], "class_dict": {"ant": [0, 1]}, **change}
    _dump(self.root / "mini-imagenet-cache-val.pkl", content)
    with self.assertRaisesRegex(ValueError, f"cache-val.pkl must.*{message}"):
      self.read("validation")

  @parameterized.parameters(
    ({"labels": None}, "list of integers for the labels"),
    ({"labels": ["a"] * 3}, "list of integers for the labels"),
    ({"labels": 3}, "list of integers for the labels"),
    ({"data": None}, "Received: NoneType"),
    ({"data": [1, 2, 3]}, "Received: list"),
  )
  def test_data_and_labels_of_another_kind_are_rejected(self, change, message):
    content = {"data": IMAGES[0], "labels": [0, 0, 1], **change}
    _dump(self.root / "miniImageNet_category_split_val.pickle", content)
    with self.assertRaisesRegex(
      ValueError, f"split_val.pickle must.*{message}"
    ):
      self.read("validation")

  @parameterized.parameters(
    ([None, None], "must be the bytes of a PNG file. Received: NoneType"),
    (3, "must hold a list of PNG files. Received: int"),
  )
  def test_encoded_images_of_another_kind_are_rejected(self, images, message):
    _dump(self.root / "train_images_png.pkl", images)
    _dump(self.root / "train_labels.pkl", {"labels": [0, 1]})
    with self.assertRaisesRegex(ValueError, message):
      self.read("train")

  @parameterized.parameters(0.3, 0.6, 0.9)
  def test_damaged_npz_files_are_named(self, part):
    _npz(self.root, "train")
    path = self.root / "train_images.npz"
    content = bytearray(path.read_bytes())
    place = int(len(content) * part)
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, "train_images.npz is not an npz"):
      self.read("train")

  @parameterized.parameters(_npz, _png_pickle)
  def test_a_wrong_number_of_labels_is_rejected(self, write):
    write(self.root, "train")
    _dump(self.root / "train_labels.pkl", {"labels": [0, 1]})
    with self.assertRaisesRegex(ValueError, "6 images, 2 labels"):
      self.read("train")


if __name__ == "__main__":
  absltest.main()
