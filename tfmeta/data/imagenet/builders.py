"""TFDS builders of miniImageNet and tieredImageNet, from files people have.

Importing this module makes both known to TFDS:

  tfds.builder("mini_imagenet").download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=folder))

Images are 84x84, kept without loss; the splits are those that the folder has.
ImageNet's images are for non-commercial research.
"""

from collections.abc import Iterator
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfmeta.data import image_files
from tfmeta.data import splits
from tfmeta.data.imagenet import layouts

SHAPE = (84, 84, 3)

_INSTRUCTIONS = f"""\
Nothing is downloaded: put what you have into one folder, and give that as
`manual_dir`. It may hold, for each of the three splits,

{layouts.LAYOUTS}"""


class _ImageNetSplits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Images with the name of their class, in the order of the files."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "The first one."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=SHAPE, encoding_format="png"),
          "class": tfds.features.Text(),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    folder = pathlib.Path(dl_manager.manual_dir)
    found = {
      split: source
      for split in splits.SPLITS
      if (source := layouts.find(folder, split))
    }
    if not found:
      raise FileNotFoundError(
        f"{folder} has no images of {self.name}. {_INSTRUCTIONS}"
      )
    return {
      split: self._generate_examples(split, *source)
      for split, source in found.items()
    }

  def _generate_examples(
    self, split: str, path: pathlib.Path, read: Any
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    own = {*splits.read(self.name)[split]}
    number = -1
    for number, (name, place, image) in enumerate(read()):
      if re.fullmatch(r"n\d{8}", name) and name not in own:
        raise ValueError(
          f"{path} must hold classes of {self.name}'s split {split!r} alone, "
          f"such as {min(own)}. Received: class {name!r}"
        )
      yield number, {"image": _at_one_size(image, place), "class": name}
    if number < 0:
      raise ValueError(
        f"{path} must hold a folder of JPEG or PNG images for each class. "
        "Received: no images"
      )


class MiniImagenet(_ImageNetSplits):
  """miniImageNet: 100 classes of ImageNet, 600 images each, at 84x84.

  O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra. Matching
  Networks for One Shot Learning. NeurIPS 2016. The split is that of S. Ravi,
  H. Larochelle. Optimization as a Model for Few-Shot Learning. ICLR 2017.
  """


class TieredImagenet(_ImageNetSplits):
  """tieredImageNet: 608 classes of ImageNet, at 84x84, split by superclass.

  M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. Tenenbaum,
  H. Larochelle, R. Zemel. Meta-Learning for Semi-Supervised Few-Shot
  Classification. ICLR 2018.
  """


def _at_one_size(image: bytes | np.ndarray, place: str) -> np.ndarray:
  if isinstance(image, bytes):
    return image_files.decode(image, SHAPE, place)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(
      f"{place} must be an image [height, width, 3] of uint8. "
      f"Received: shape {image.shape}, {image.dtype}"
    )
  return image_files.scale(image, SHAPE[:2])
