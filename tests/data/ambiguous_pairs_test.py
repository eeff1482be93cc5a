from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tfmeta

SPEC = tfmeta.TaskSpec(ways=3, shots=2, query_shots=8)


def numbered(characters=12, drawings=6):
  """Images of one pixel and two channels: the character, the drawing."""
  images = np.zeros([characters, drawings, 1, 1, 2], np.uint8)
  images[..., 0] = np.arange(characters)[:, None, None, None]
  images[..., 1] = np.arange(drawings)[None, :, None, None]
  return images


def draw(count, *, spec=SPEC, **options):
  """`(support, labels, queries, labels)`; examples `[n, half, number]`."""
  tasks = tfmeta.data.ambiguous_pairs(numbered(), spec, **options).take(count)
  for inputs, query_y in tasks.as_numpy_iterator():
    halves = [
      np.round(255 * inputs[key][:, 0]).astype(int)
      for key in ("support_x", "query_x")
    ]
    yield halves[0], inputs["support_y"], halves[1], query_y


def characters_of(support, labels):
  """Characters `[ways, half]` of the classes."""
  return np.stack(
    [support[labels == label][0, :, 0] for label in range(SPEC.ways)]
  )


class PairsTest(parameterized.TestCase):
  def test_support_examples_show_both_characters_of_their_class(self):
    for support, labels, *_ in draw(20):
      shown = characters_of(support, labels)
      self.assertLen(np.unique(shown), 2 * SPEC.ways)
      np.testing.assert_array_equal(support[..., 0], shown[labels])

  def test_one_half_tells_the_class_and_which_differs_between_tasks(self):
    telling = []
    for support, labels, queries, query_y in draw(40):
      shown = characters_of(support, labels)
      fits = [
        np.array_equal(queries[:, half, 0], shown[query_y, half])
        for half in range(2)
      ]
      self.assertEqual(sum(fits), 1)
      telling.append(fits.index(True))
      other = queries[:, 1 - telling[-1], 0]
      self.assertContainsSubset(other, shown[:, 1 - telling[-1]])
    # 40 throws of a coin: outside of 10 to 30 once in a thousand.
    self.assertBetween(sum(telling), 10, 30)

  def test_the_other_half_says_nothing_of_the_class(self):
    agree = []
    for support, labels, queries, query_y in draw(60):
      shown = characters_of(support, labels)
      both = queries[..., 0] == shown[query_y]
      agree.append(both.all(axis=1))
    # One of three classes; 1440 queries, standard deviation 0.012.
    self.assertAlmostEqual(np.mean(agree), 1 / 3, delta=0.05)

  def test_support_and_query_show_different_drawings(self):
    for support, _, queries, _ in draw(20):
      seen = {tuple(pair) for pair in support.reshape(-1, 2)}
      asked = {tuple(pair) for pair in queries.reshape(-1, 2)}
      self.assertEmpty(seen & asked)
      self.assertLen(seen, 2 * SPEC.support_size)

  def test_classes_are_equally_often_asked_for(self):
    for _, labels, _, query_y in draw(3):
      np.testing.assert_array_equal(np.bincount(labels), [2, 2, 2])
      np.testing.assert_array_equal(np.bincount(query_y), [8, 8, 8])

  def test_a_task_is_a_function_of_seed_and_index(self):
    def key(tasks):
      return [queries.tolist() for _, _, queries, _ in tasks]

    self.assertEqual(key(draw(4))[2:], key(draw(2, start=2)))
    self.assertNotEqual(key(draw(2)), key(draw(2, seed=1)))

  def test_readings_are_the_classes_that_both_halves_show(self):
    pairs = zip(draw(10, readings=True), draw(10), strict=True)
    for (support, labels, queries, readings), (*_, again, query_y) in pairs:
      shown = characters_of(support, labels)
      np.testing.assert_array_equal(queries, again)
      for half in range(2):
        by_half = shown[readings[:, half], half]
        np.testing.assert_array_equal(queries[:, half, 0], by_half)
      counts = (readings == query_y[:, None]).all(axis=0)
      self.assertEqual(counts.sum(), 1)

  def test_halves_stand_side_by_side(self):
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 6, 1))
    images = images.astype(np.uint8)
    spec = tfmeta.TaskSpec(ways=2, shots=1, query_shots=1)
    inputs, _ = next(iter(tfmeta.data.ambiguous_pairs(images, spec)))
    self.assertEqual(inputs["support_x"].shape, (2, 5, 12, 1))
    known = images.reshape(-1, 5, 6, 1) / np.float32(255)
    for half in (inputs["support_x"][:, :, :6], inputs["support_x"][:, :, 6:]):
      for image in half.numpy():
        self.assertTrue((image == known).all(axis=(1, 2, 3)).any())

  @parameterized.parameters(
    ({"images": numbered().astype("float32")}, TypeError, "float32"),
    ({"images": numbered(characters=5)}, ValueError, "6 characters"),
    ({"images": numbered(drawings=2)}, ValueError, "3 drawings"),
    ({"spec": tfmeta.TaskSpec(ways=1)}, ValueError, "at least 2 ways"),
    ({"spec": tfmeta.TaskSpec()}, ValueError, "ways"),
  )
  def test_wrong_input_is_named(self, change, error, text):
    values = {"images": numbered(), "spec": SPEC, **change}
    with self.assertRaisesRegex(error, f"{text}.*Received|Received.*{text}"):
      tfmeta.data.ambiguous_pairs(**values)


if __name__ == "__main__":
  absltest.main()
