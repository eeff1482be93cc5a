import functools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tfmeta

SPEC = tfmeta.TaskSpec(ways=3, shots=2, query_shots=8)


def numbered(characters=12, drawings=6):
  """Returns images of one pixel, whose channels are character and drawing."""
  images = np.zeros([characters, drawings, 1, 1, 2], np.uint8)
  images[..., 0] = np.arange(characters)[:, None, None, None]
  images[..., 1] = np.arange(drawings)[None, :, None, None]
  return images


def sample(count, **options):
  """Returns tasks `(support_x, support_y, query_x, query_y)`.

  Inputs are `[n, half, 2]`: the character and the drawing that each half shows.
  """
  found = []
  tasks = tfmeta.data.ambiguous_pairs(numbered(), SPEC, **options)
  for inputs, query_y in tasks.take(count).as_numpy_iterator():
    support_x, query_x = (
      np.round(255 * inputs[key][:, 0]).astype(int)
      for key in ("support_x", "query_x")
    )
    found.append((support_x, inputs["support_y"], query_x, query_y))
  return found


@functools.cache
def shared_tasks():
  return sample(60)


def take(count):
  """Returns the first tasks, which the tests share."""
  return shared_tasks()[:count]


def characters_of(support, labels):
  """Returns the characters of each class, `[ways, half]`."""
  return np.stack(
    [support[labels == label][0, :, 0] for label in range(SPEC.ways)]
  )


class AmbiguousPairsTest(parameterized.TestCase):
  def test_support_examples_show_both_characters_of_their_class(self):
    for support, labels, *_ in take(20):
      shown = characters_of(support, labels)
      self.assertLen(np.unique(shown), 2 * SPEC.ways)
      np.testing.assert_array_equal(support[..., 0], shown[labels])

  def test_one_half_counts_and_it_differs_between_tasks(self):
    counting = []
    for support, labels, queries, query_y in take(40):
      shown = characters_of(support, labels)
      fits = [
        np.array_equal(queries[:, half, 0], shown[query_y, half])
        for half in range(2)
      ]
      self.assertEqual(sum(fits), 1)
      counting.append(fits.index(True))
      other = queries[:, 1 - counting[-1], 0]
      self.assertContainsSubset(other, shown[:, 1 - counting[-1]])
    # 40 tosses of a coin are outside of 10 to 30 once in a thousand.
    self.assertBetween(sum(counting), 10, 30)

  def test_the_other_half_is_independent_of_the_class(self):
    agree = []
    for support, labels, queries, query_y in take(60):
      shown = characters_of(support, labels)
      both = queries[..., 0] == shown[query_y]
      agree.append(both.all(axis=1))
    # One of three classes; with 1440 queries the standard deviation is 0.012.
    self.assertAlmostEqual(np.mean(agree), 1 / 3, delta=0.05)

  def test_support_and_query_show_different_drawings(self):
    for support, _, queries, _ in take(20):
      seen = {tuple(pair) for pair in support.reshape(-1, 2)}
      queried = {tuple(pair) for pair in queries.reshape(-1, 2)}
      self.assertEmpty(seen & queried)
      self.assertLen(seen, 2 * SPEC.support_size)

  def test_classes_are_balanced(self):
    for _, labels, _, query_y in take(3):
      np.testing.assert_array_equal(np.bincount(labels), [2, 2, 2])
      np.testing.assert_array_equal(np.bincount(query_y), [8, 8, 8])

  def test_a_task_is_a_function_of_seed_and_index(self):
    def key(tasks):
      return [queries.tolist() for _, _, queries, _ in tasks]

    self.assertEqual(key(take(4))[2:], key(sample(2, start=2)))
    self.assertNotEqual(key(take(1)), key(sample(1, seed=1)))

  def test_readings_are_the_classes_that_the_halves_show(self):
    pairs = zip(sample(10, readings=True), take(10), strict=True)
    for (support, labels, queries, readings), (*_, again, query_y) in pairs:
      shown = characters_of(support, labels)
      np.testing.assert_array_equal(queries, again)
      for half in range(2):
        by_half = shown[readings[:, half], half]
        np.testing.assert_array_equal(queries[:, half, 0], by_half)
      counts = (readings == query_y[:, None]).all(axis=0)
      self.assertEqual(counts.sum(), 1)

  def test_halves_are_side_by_side(self):
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
  def test_wrong_arguments_are_named(self, change, error, text):
    values = {"images": numbered(), "spec": SPEC, **change}
    with self.assertRaisesRegex(error, f"{text}.*Received|Received.*{text}"):
      tfmeta.data.ambiguous_pairs(**values)


if __name__ == "__main__":
  absltest.main()
