import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmeta import data
from tfmeta.data import splits

SPEC = data.TaskSpec(ways=5, shots=1, query_shots=1)
DATA_SETS = ("cifar_fs", "fc100")
# Superclasses of CIFAR-100 and their classes.
# https://www.cs.toronto.edu/~kriz/cifar.html
SUPERCLASSES = """
beaver dolphin otter seal whale
aquarium_fish flatfish ray shark trout
orchid poppy rose sunflower tulip
bottle bowl can cup plate
apple mushroom orange pear sweet_pepper
clock keyboard lamp telephone television
bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach
bear leopard lion tiger wolf
bridge castle house road skyscraper
cloud forest mountain plain sea
camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk
crab lobster snail spider worm
baby boy girl man woman
crocodile dinosaur lizard snake turtle
hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree
bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor
""".strip().splitlines()
NAMES = sorted(" ".join(SUPERCLASSES).split())


def _prepare(folder):
  """Writes CIFAR-100 as TFDS does, with two images per class.

  The red value of an image is its class. The blue value is 100 in TFDS's
  training split and 200 in its test split.
  """
  features = tfds.features.FeaturesDict(
    {
      "id": tfds.features.Text(),
      "image": tfds.features.Image(shape=(32, 32, 3)),
      "label": tfds.features.ClassLabel(names=NAMES),
      "coarse_label": tfds.features.ClassLabel(num_classes=20),
    }
  )

  def examples(blue):
    for label in range(100):
      image = np.full([32, 32, 3], label, np.uint8)
      image[..., 2] = blue
      yield {"id": "", "image": image, "label": label, "coarse_label": 0}

  spec = {
    "id": tf.TensorSpec([], tf.string),
    "image": tf.TensorSpec([32, 32, 3], tf.uint8),
    "label": tf.TensorSpec([], tf.int64),
    "coarse_label": tf.TensorSpec([], tf.int64),
  }
  splits = {
    name: tf.data.Dataset.from_generator(
      lambda blue=blue: examples(blue), output_signature=spec
    )
    for name, blue in (("train", 100), ("test", 200))
  }
  tfds.dataset_builders.store_as_tfds_dataset(
    name="cifar100",
    version="3.0.2",
    features=features,
    split_datasets=splits,
    data_dir=folder,
  )


class CifarTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    tfds.disable_progress_bar()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    _prepare(cls.folder)

  @parameterized.product(name=DATA_SETS, split=splits.SPLITS)
  def test_tasks_have_the_classes_of_the_split(self, name, split):
    tasks = getattr(data, name)(split, SPEC, data_dir=self.folder)
    seen = set()
    for inputs, labels in tasks.take(80):
      x = np.round(tf.concat([*inputs.values()][::2], 0).numpy() * 255)
      y = np.concatenate([inputs["support_y"], labels])
      classes, blue = x[:, 0, 0, 0].astype(int), x[:, 0, 0, 2]
      for way in range(5):  # One image from each split of TFDS.
        self.assertLen({*classes[y == way]}, 1)
        self.assertEqual({*blue[y == way]}, {100, 200})
      seen |= {NAMES[number] for number in classes}
    self.assertEqual(seen, {*splits.read_classes(name)[split]})

  @parameterized.parameters(*DATA_SETS)
  def test_the_splits_contain_all_classes_of_cifar_100(self, name):
    lists = splits.read_classes(name).values()
    self.assertEqual(sorted(sum(lists, [])), NAMES)
    self.assertLen(NAMES, 100)

  def test_no_superclass_is_in_two_splits_of_fc100(self):
    for members in SUPERCLASSES:
      shares = [
        len({*members.split()} & {*splits.read_classes("fc100")[split]})
        for split in splits.SPLITS
      ]
      self.assertCountEqual(shares, [5, 0, 0])

  def test_missing_data_is_named(self):
    with tempfile.TemporaryDirectory() as empty:
      with self.assertRaisesRegex(FileNotFoundError, "cifar100 is not in"):
        data.cifar_fs("train", SPEC, data_dir=empty, download=False)


if __name__ == "__main__":
  absltest.main()
