"""Few-shot tasks as infinite `tf.data` datasets, reproducible task by task."""

from tfmeta.data.ambiguous_pairs import ambiguous_pairs as ambiguous_pairs
from tfmeta.data.arrays import tasks_from_arrays as tasks_from_arrays
from tfmeta.data.cifar import cifar_fs as cifar_fs
from tfmeta.data.cifar import fc100 as fc100
from tfmeta.data.directory import count_images as count_images
from tfmeta.data.directory import tasks_from_directory as tasks_from_directory
from tfmeta.data.embeddings import embeddings as embeddings
from tfmeta.data.embeddings import read_embeddings as read_embeddings
from tfmeta.data.embeddings import write_embeddings as write_embeddings
from tfmeta.data.glyphs import glyph_drawings as glyph_drawings
from tfmeta.data.glyphs import glyphs as glyphs
from tfmeta.data.imagenet.tasks import mini_imagenet as mini_imagenet
from tfmeta.data.imagenet.tasks import (
  mini_imagenet_images as mini_imagenet_images,
)
from tfmeta.data.imagenet.tasks import tiered_imagenet as tiered_imagenet
from tfmeta.data.omniglot import omniglot as omniglot
from tfmeta.data.omniglot import omniglot_classes as omniglot_classes
from tfmeta.data.omniglot import omniglot_drawings as omniglot_drawings
from tfmeta.data.sinusoid import sinusoid as sinusoid
from tfmeta.data.sinusoid import sinusoid_or_line as sinusoid_or_line
from tfmeta.data.task import TaskSpec as TaskSpec
