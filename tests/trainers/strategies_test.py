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

  @parameterized.parameters(
    "", "{", '{"cluster": {}}', "null", "[1]", "7", "[" * 100_000
  )
  def test_workers_need_their_addresses(self, text):
    with mock.patch.dict(os.environ, TF_CONFIG=text):
      with self.assertRaisesRegex(ValueError, "trainers.launch.*Received"):
        make(strategy="multi_worker")

  @parameterized.product(
    task=(
      {},
      {"type": "worker"},
      {"type": "worker", "index": None},
      {"type": "worker", "index": []},
      {"type": "worker", "index": True},
      {"type": "worker", "index": -1},
      {"type": "worker", "index": 2},
      {"type": "worker", "index": 0.5},
      {"type": "chief", "index": 0},
      {"type": ["worker"], "index": 0},
    )
  )
  def test_a_task_must_be_of_the_cluster(self, task):
    found = {"cluster": {"worker": ["a:1", "b:1"]}, "task": task}
    with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(found)):
      with self.assertRaisesRegex(ValueError, "task in TF_CONFIG.*Received"):
        workers.read_cluster()

  @parameterized.parameters(
    ({}, "host:port"),
    ({"worker": None}, "host:port"),
    ({"worker": "a:1"}, "host:port"),
    ({"worker": []}, "host:port"),
    ({"worker": [1, 2]}, "host:port"),
    ({"worker": ["a"]}, "host:port"),
    ({"worker": [":1"]}, "host:port"),
    ({"worker": ["a:0"]}, "host:port"),
    ({"worker": ["a:-1"]}, "host:port"),
    ({"worker": ["a:99999"]}, "host:port"),
    ({"worker": ["a:1", "a:1"]}, "address of its own"),
    ({"chief": ["a:1"], "worker": ["a:1"]}, "address of its own"),
  )
  def test_addresses_must_be_usable(self, cluster, sentence):
    found = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(found)):
      with self.assertRaisesRegex(ValueError, f"{sentence}.*Received"):
        workers.read_cluster()

  @parameterized.parameters(
    ("worker", "worker", 0, True),
    ("worker", "worker", "0", True),
    ("worker", "worker", 1, False),
    ("chief", "chief", 0, True),
    ("chief", "worker", 0, False),
  )
  def test_one_worker_writes(self, first, kind, index, expected):
    task = {"type": kind, "index": index}
    found = {
      "cluster": {first: ["a:1"], "worker": ["b:1", "c:1"]},
      "task": task,
    }
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

  def test_listens_at_its_own_address_alone(self):
    with workers._listen(self.own) as server:
      self.assertEqual(server.getsockname()[0], "127.0.0.1")
    # The others may know this machine by an address that it does not have.
    port = self.own.rpartition(":")[2]
    with workers._listen(f"192.0.2.1:{port}") as server:
      self.assertEqual(server.getsockname()[0], "0.0.0.0")


if __name__ == "__main__":
  absltest.main()
