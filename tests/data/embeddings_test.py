import importlib
import pathlib
import pickle

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tfmeta

# The name `embeddings` in the package is the function.
_embeddings = importlib.import_module("tfmeta.data.embeddings")

SPEC = tfmeta.TaskSpec(ways=3, shots=1, query_shots=2)


class EmbeddingsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path, "embeddings")
    random = np.random.default_rng(0)
    self.values = random.normal(size=(20, 7)).astype("float32")
    self.classes = np.repeat(["n01", "n02", "n03", "n04"], 5)

  def write(self, split="train", protocol=4, keys=None):
    if keys is None:
      keys = [f"0-{c}-{c}_{i}.jpg" for i, c in enumerate(self.classes)]
    content = {"embeddings": self.values, "keys": np.array(keys)}
    self.folder.mkdir(exist_ok=True)
    path = self.folder / f"{split}_embeddings.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))

  @parameterized.parameters(0, 2, 4)
  def test_reads_files_in_the_published_format(self, protocol):
    self.write("val", protocol)
    values, classes = _embeddings.read_embeddings("validation", self.folder)
    np.testing.assert_array_equal(values, self.values)
    np.testing.assert_array_equal(classes, self.classes)

  def test_reads_what_it_writes(self):
    tfmeta.data.write_embeddings("test", self.folder, self.values, self.classes)
    values, classes = _embeddings.read_embeddings("test", self.folder)
    np.testing.assert_array_equal(values, self.values)
    np.testing.assert_array_equal(classes, self.classes)

  def test_each_label_is_one_class(self):
    self.write()
    tasks = tfmeta.data.embeddings("train", SPEC, data_dir=self.folder)
    class_of = {
      value.tobytes(): name
      for value, name in zip(self.values, self.classes, strict=True)
    }
    for inputs, query_y in tasks.take(5).as_numpy_iterator():
      x = np.concatenate([inputs["support_x"], inputs["query_x"]])
      labels = np.concatenate([inputs["support_y"], query_y])
      found = {
        (label, class_of[value.tobytes()])
        for label, value in zip(labels, x, strict=True)
      }
      self.assertLen(found, 3)

  def test_missing_files_are_named(self):
    with self.assertRaisesRegex(FileNotFoundError, "train_embeddings.pkl"):
      tfmeta.data.embeddings("train", SPEC, data_dir=self.folder)

  def test_keys_in_another_format_are_named(self):
    self.write(keys=[f"image_{i}" for i in range(20)])
    with self.assertRaisesRegex(ValueError, "'image_0'"):
      tfmeta.data.embeddings("train", SPEC, data_dir=self.folder)

  def test_a_pickle_that_would_run_code_is_rejected(self):
    class Code:
      def __reduce__(self):
        return (print, ("code",))

    self.folder.mkdir()
    path = self.folder / "train_embeddings.pkl"
    path.write_bytes(pickle.dumps({"embeddings": Code(), "keys": []}))
    with self.assertRaisesRegex(ValueError, "not a pickle of arrays"):
      tfmeta.data.embeddings("train", SPEC, data_dir=self.folder)

  def test_arguments_are_checked(self):
    with self.assertRaisesRegex(ValueError, "`split` must be one of 'train'"):
      tfmeta.data.embeddings("val", SPEC, data_dir=self.folder)
    good, bad = ["a"] * 20, ["a-b"] * 20
    for split, names in (("val", good), ("test", good[:1]), ("test", bad)):
      with self.assertRaisesRegex(ValueError, "Received"):
        tfmeta.data.write_embeddings(split, self.folder, self.values, names)


if __name__ == "__main__":
  absltest.main()
