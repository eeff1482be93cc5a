from absl.testing import absltest
from absl.testing import parameterized
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.shared import profiles


class OperationsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("_MklNativeConv2DBackpropFilterWithBias", "convolutions"),
    ("_MklNativeFusedConv2D", "convolutions"),
    ("_MklBatchMatMulV2", "products"),
    ("_MklNativeFusedBatchNormEx", "normalization"),
    ("MaxPoolGradGrad", "pooling"),
    ("ReluGrad", "others"),
  )
  def test_kind(self, operation, kind):
    self.assertEqual(profiles.kind_of(operation), kind)

  def test_counts_operations_and_not_what_contains_them(self):
    space = xplane_pb2.XSpace()
    line = space.planes.add().lines.add()
    names = [
      "a/while/conv_1/Conv2D:_MklNativeConv2D",
      "b/conv_2/Conv2D:_MklNativeConv2D",
      "ExecutorState::Process",
      "EagerLocalExecute: __inference_step_12",
    ]
    for number, name in enumerate(names, start=1):
      space.planes[0].event_metadata[number].name = name
      line.events.add(metadata_id=number, duration_ps=number * 10**12)
    folder = self.create_tempdir()
    folder.create_file("run/host.xplane.pb", space.SerializeToString(), "wb")
    self.assertEqual(
      profiles.seconds_by_operation(folder.full_path),
      {"_MklNativeConv2D": 3.0},
    )


if __name__ == "__main__":
  absltest.main()
