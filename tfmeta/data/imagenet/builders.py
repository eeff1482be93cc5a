"""TFDS builders of miniImageNet and tieredImageNet.

Importing this module loads TFDS and registers both data sets with it:

  tfds.builder("mini_imagenet").download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=folder))

Images are stored at 84x84 without loss. The prepared data has the splits that
the folder holds. ImageNet's images are for non-commercial research.
"""

from collections.abc import Iterator
import pathlib
import re
from typing import Any

import numpy as np

from tfmeta import packages
from tfmeta.data import image_files
from tfmeta.data import splits
from tfmeta.data.imagenet import layouts

IMAGE_SHAPE = (84, 84, 3)

_INSTRUCTIONS = f"""\
Nothing is downloaded: put the files that you have into one folder, and pass it
as `manual_dir`. For each of the three splits it may hold

{layouts.LAYOUTS}"""

_tfds = packages.datasets()


class _ImageNetSplits:
  """The common part of both builders, which TFDS must not register.

  Examples are images and the name of their class, in the order of the files.
  """

  name: str  # TFDS derives it from the name of the subclass.

  VERSION = _tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "The first release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

  def _info(self) -> Any:
    features = {
      "image": _tfds.features.Image(shape=IMAGE_SHAPE, encoding_format="png"),
      "class": _tfds.features.Text(),
    }
    return _tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=_tfds.features.FeaturesDict(features),
      # TFDS would shuffle the images, and tasks depend on their order.
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
    allowed = {*splits.read_classes(self.name)[split]}
    number = -1
    for number, (name, place, image) in enumerate(read()):
      # Classes with other names cannot be checked.
      if re.fullmatch(r"n\d{8}", name) and name not in allowed:
        raise ValueError(
          f"{path} must hold only classes of {self.name}'s split {split!r}, "
          f"such as {min(allowed)}. Received: class {name!r}"
        )
      yield number, {"image": _scale(image, place), "class": name}
    if number < 0:
      raise ValueError(
        f"{path} must hold a folder of JPEG or PNG images for each class. "
        "Received: no images"
      )


class MiniImagenet(_ImageNetSplits, _tfds.core.GeneratorBasedBuilder):
  """miniImageNet: 100 classes of ImageNet with 600 images each, at 84x84.

  O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra. Matching
  Networks for One Shot Learning. NeurIPS 2016. The splits are those of S. Ravi,
  H. Larochelle. Optimization as a Model for Few-Shot Learning. ICLR 2017.
  """


class TieredImagenet(_ImageNetSplits, _tfds.core.GeneratorBasedBuilder):
  """tieredImageNet: 608 classes of ImageNet, at 84x84, split by superclass.

  M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. Tenenbaum,
  H. Larochelle, R. Zemel. Meta-Learning for Semi-Supervised Few-Shot
  Classification. ICLR 2018.
  """


def _scale(image: bytes | np.ndarray, place: str) -> np.ndarray:
  """Returns an image, or the image in the content of a file, at 84x84."""
  if isinstance(image, bytes):
    return image_files.decode(image, IMAGE_SHAPE, place)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(
      f"{place} must be a uint8 image [height, width, 3]. "
      f"Received: shape {image.shape}, {image.dtype}"
    )
  return image_files.scale(image, IMAGE_SHAPE[:2])
