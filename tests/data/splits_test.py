from absl.testing import absltest
from absl.testing import parameterized

from tfmeta.data import splits


class SplitsTest(parameterized.TestCase):
  def test_each_split_has_its_index(self):
    indices = [splits.index_of(s) for s in ("train", "validation", "test")]
    self.assertEqual(indices, [0, 1, 2])

  def test_an_unknown_split_is_rejected(self):
    message = "`split` must be one of 'train', 'validation', 'test'.*'dev'"
    with self.assertRaisesRegex(ValueError, message):
      splits.index_of("dev")

  @parameterized.parameters(
    ("cifar_fs", (64, 16, 20)),
    ("fc100", (60, 20, 20)),
    ("mini_imagenet", (64, 16, 20)),
    ("tiered_imagenet", (351, 97, 160)),
  )
  def test_splits_have_the_published_sizes_and_share_no_class(
    self, name, sizes
  ):
    classes = splits.read_classes(name)
    lists = [classes[split] for split in splits.SPLITS]
    self.assertEqual(tuple(map(len, lists)), sizes)
    self.assertLen(set().union(*lists), sum(sizes))

  @parameterized.parameters(("vinyals", (1028, 172, 423)), ("lake", (964, 659)))
  def test_splits_of_omniglot_divide_all_characters(self, name, sizes):
    lists = [*splits.read_classes("omniglot")[name].values()]
    self.assertEqual(tuple(map(len, lists)), sizes)
    self.assertCountEqual(sum(lists, []), range(1623))


if __name__ == "__main__":
  absltest.main()
