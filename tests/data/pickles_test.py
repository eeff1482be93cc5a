import collections
import pathlib
import pickle

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta.data import pickles


class Code:
  """An object whose unpickling calls a function."""

  def __reduce__(self):
    return (print, ("code",))


class PicklesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path, "file.pkl")

  @parameterized.parameters(0, 2, 4, 5)
  def test_reads_what_the_published_files_hold(self, protocol):
    content = {
      "array": np.arange(6.0).reshape(2, 3),
      "scalar": np.int64(3),
      "names": np.array(["a", "b"]),
      "ordered": collections.OrderedDict(a=[1, 2], b="c"),
      "bytes": b"content",
    }
    self.path.write_bytes(pickle.dumps(content, protocol))
    found = pickles.load_dict(self.path, "array", "ordered")
    self.assertCountEqual(found, content)
    for key, value in content.items():
      np.testing.assert_array_equal(found[key], value)

  def test_reads_arrays_of_python_2(self):
    # `numpy.array([1, 200], "uint8")`, pickled by Python 2 with protocol 2.
    self.path.write_bytes(
      b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\n"
      b"q\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02\x85cnumpy\ndtype\nq\x04"
      b"U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
      b"\xff\xffK\x00tb\x89U\x02\x01\xc8tb."
    )
    np.testing.assert_array_equal(pickles.load(self.path), [1, 200])

  def test_code_is_rejected(self):
    self.path.write_bytes(pickle.dumps([Code()]))
    with self.assertRaisesRegex(ValueError, "not a pickle.*holds builtins.pri"):
      pickles.load(self.path)

  @parameterized.parameters(b"", b"text", pickle.dumps([1, 2])[:-3])
  def test_a_broken_file_is_named(self, content):
    self.path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, "file.pkl is not a pickle of arr"):
      pickles.load(self.path)

  @parameterized.parameters(([1],), ({"a": 1},))
  def test_missing_keys_are_named(self, content):
    self.path.write_bytes(pickle.dumps(content))
    with self.assertRaisesRegex(
      ValueError, "must hold a dict with 'a' and 'b'"
    ):
      pickles.load_dict(self.path, "a", "b")


if __name__ == "__main__":
  absltest.main()
