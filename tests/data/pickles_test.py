import codecs
import collections
import pathlib
import pickle
import tracemalloc

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tfmeta.data import pickles


class Code:
  """An object whose unpickling calls a function."""

  def __reduce__(self):
    return (print, ("code",))


class Raw:
  """What is pickled as a call of a function with arguments and a state."""

  def __init__(self, *reduced):
    self.reduced = reduced

  def __reduce__(self):
    return self.reduced


def array(dtype, shape, content):
  """Returns what is pickled as an array of a file's choice."""
  start = (np.ndarray, (0,), b"b")
  state = (1, shape, dtype, False, content)
  return Raw(np.zeros(1).__reduce__()[0], start, state)


FIELDS = {"a": (np.dtype("i8"), 10**9)}
NUMBERS = np.dtype("f8")
DAMAGED = {
  "pointers": array(
    Raw(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)),
    (4, 2),
    b"A" * 64,
  ),
  "far field": array(
    Raw(
      np.dtype,
      ("V8", False, True),
      (3, "|", None, ("a",), FIELDS, 8, 1, 0),
    ),
    (1,),
    b"A" * 8,
  ),
  "changed type": Raw(np.dtype, ("f8", False, True), (3, "|") + (None,) * 6),
  "91 TB": array(NUMBERS, (10**13,), b"A" * 64),
  "no values": array(NUMBERS, (2**40, 0, 2**40), b""),
  "negative": array(NUMBERS, (-1,), b"A" * 8),
  "no tuple": array(NUMBERS, None, b"A" * 8),
  "empty strings": array(np.dtype("S0"), (10**12,), b""),
  "no letter": array(np.dtype("<U1"), (1,), b"\xff\xff\xff\x7f"),
  "dtype alone": NUMBERS,
  "class alone": np.ndarray,
  "codec": Raw(codecs.encode, ("text", "no_such_codec")),
}
# Opcodes: a part with a number of the memo, and lengths that no file has.
SHORT = {
  "memo": b"\x80\x02K\x00r\xff\xff\xff\x0f.",
  "bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"a.",
  "bytearray": b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b"a.",
  "text": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.",
  "frame": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"K\x00.",
  "set of stand-ins": b"\x80\x04\x8f.",
  # A state for the function that stands for NumPy's: it would stay changed.
  "attribute": b"\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00nameK\x01s\x86b.",
  "class": b"\x80\x02cnumpy\nndarray\n)\x81.",
}


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
      "bytes of text": np.array([b"ab", b"c"]),
      "objects": np.array(["a", b"b", 1, None], object),
      "flags": np.array([True, False]),
      "big-endian": np.arange(3, dtype=">i2"),
      "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
      "nothing": np.zeros((0, 3), "float32"),
      "number": np.array(2.5),
    }
    self.path.write_bytes(pickle.dumps(content, protocol))
    found = pickles.load_dict(self.path, "array", "ordered")
    self.assertCountEqual(found, content)
    for key, value in content.items():
      np.testing.assert_array_equal(found[key], value)
      if isinstance(value, np.ndarray):
        self.assertEqual(found[key].dtype, value.dtype)

  def test_parts_that_occur_twice_are_one(self):
    part = [np.arange(3)]
    part.append(part)
    self.path.write_bytes(pickle.dumps([part, part]))
    first, second = pickles.load(self.path)
    self.assertIs(first, second)
    self.assertIs(first[1], first)

  @parameterized.product(name=tuple(DAMAGED), protocol=(2, 4))
  def test_arrays_that_would_corrupt_memory_are_refused(self, name, protocol):
    self.path.write_bytes(pickle.dumps(DAMAGED[name], protocol))
    with self.assertRaisesRegex(ValueError, "file.pkl is not a pickle of arr"):
      pickles.load(self.path)

  @parameterized.parameters(*SHORT)
  def test_short_files_do_not_take_memory(self, name):
    self.path.write_bytes(SHORT[name])
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, "file.pkl is not a pickle of arr"):
      pickles.load(self.path)
    self.assertLess(tracemalloc.get_traced_memory()[1], 2**20)

  def test_nested_lists_are_refused(self):
    self.path.write_bytes(b"]" * 100_000 + b"a" * 99_999 + b".")
    with self.assertRaisesRegex(ValueError, "recursion"):
      pickles.load(self.path)

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
