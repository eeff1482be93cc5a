"""Tests the strategies of a run: their requirements and their errors."""

import json
import os
import socket
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from trainers.run import configuration
from trainers.run import strategies
from trainers.run import workers


def make(**values):
  return strategies.make(
    configuration.Configuration("MAML", workdir="run", **values)
  )


class StrategiesTest(parameterized.TestCase):
  def test_none_is_the_strategy_at_hand(self):
    self.assertIs(make(), tf.distribute.get_strategy())

  def test_parameter_servers_are_refused_with_a_remedy(self):
    with self.assertRaisesRegex(ValueError, "use --strategy=multi_worker"):
      make(strategy="parameter_server")

  def test_without_a_tpu_it_says_so(self):
    resolver = mock.patch.object(
      tf.distribute.cluster_resolver,
      "TPUClusterResolver",
      side_effect=OSError("no answer"),
    )
    with (
      resolver,
      self.assertRaisesRegex(
        ValueError, "No TPU can be reached: no answer.*--tpu='there'"
      ),
    ):
      make(strategy="tpu", tpu="there")

  @parameterized.parameters("", "{", '{"cluster": {}}')
  def test_workers_need_their_addresses(self, text):
    with mock.patch.dict(os.environ, TF_CONFIG=text):
      with self.assertRaisesRegex(ValueError, "trainers.launch.*Received"):
        make(strategy="multi_worker")

  @parameterized.parameters(
    ("worker", "worker", 0, True),
    ("worker", "worker", "0", True),
    ("worker", "worker", 1, False),
    ("chief", "chief", 0, True),
    ("chief", "worker", 0, False),
  )
  def test_one_worker_writes(self, first, kind, index, expected):
    task = {"type": kind, "index": index}
    found = {"cluster": {first: ["a:1"], "worker": ["b:1"]}, "task": task}
    run = configuration.Configuration(
      "MAML", workdir="run", strategy="multi_worker"
    )
    with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(found)):
      self.assertEqual(workers.is_chief(run), expected)


class WaitForAllTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.other = self.enterContext(socket.create_server(("127.0.0.1", 0)))
    with socket.create_server(("127.0.0.1", 0)) as own:
      self.own = f"127.0.0.1:{own.getsockname()[1]}"

  def wait(self, *others, index=0, seconds=0.5):
    cluster = {"worker": [self.own, *others]}
    workers.wait_for_all(cluster, {"type": "worker", "index": index}, seconds)

  def test_ends_once_all_have_started(self):
    self.wait(f"127.0.0.1:{self.other.getsockname()[1]}")

  def test_names_the_workers_that_have_not_started(self):
    address = f"127.0.0.1:{self.other.getsockname()[1]}"
    self.other.close()
    with self.assertRaisesRegex(TimeoutError, f"no answer from {address}"):
      self.wait(address)

  def test_a_task_must_be_of_the_cluster(self):
    with self.assertRaisesRegex(ValueError, "must be one of its cluster"):
      self.wait(index=3)


if __name__ == "__main__":
  absltest.main()
