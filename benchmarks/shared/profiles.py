"""What TensorFlow's profiler has recorded of each operation."""

import collections
import pathlib

from tensorflow.tsl.profiler.protobuf import xplane_pb2

# Kinds of operations, by what their names contain; the first that fits counts.
KINDS = {
  "convolutions": ("conv2d",),
  "products": ("matmul",),
  "normalization": ("batchnorm",),
  "pooling": ("pool",),
}
OTHERS = "others"


def kind_of(operation: str) -> str:
  """Returns the kind of an operation, by its name in TensorFlow."""
  name = operation.lower()
  fits = (k for k, parts in KINDS.items() if any(p in name for p in parts))
  return next(fits, OTHERS)


def seconds_by_operation(folder: str) -> collections.Counter:
  """Returns the seconds of each operation in a profile of TensorFlow.

  Args:
    folder: Folder of the profile.
  """
  seconds: collections.Counter = collections.Counter()
  for path in pathlib.Path(folder).rglob("*.xplane.pb"):
    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
      for line in plane.lines:
        for event in line.events:
          # An operation is recorded as `node:operation`; other events are
          # those of the runtime, which contain operations.
          name = plane.event_metadata[event.metadata_id].name
          node, _, operation = name.rpartition(":")
          if node and " " not in name and not node.endswith(":"):
            seconds[operation] += event.duration_ps / 1e12
  return seconds
