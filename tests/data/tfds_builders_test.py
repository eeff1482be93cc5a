import os
import socket
import subprocess
import sys
import time
from unittest import mock
from urllib import request

from absl.testing import absltest

from tfmeta import data
from tfmeta.data import tfds_builders

SPEC = data.TaskSpec(ways=5, shots=1, query_shots=5)

PROGRAM = """
import sys
import numpy as np
from tfmeta import data
print("tensorflow_datasets" in sys.modules)

# A module that is `None` in `sys.modules` cannot be imported.
sys.modules["tensorflow_datasets"] = None
spec = data.TaskSpec(ways=2, shots=1, query_shots=2)
next(iter(data.glyphs("train", spec)))
next(iter(data.tasks_from_arrays(np.zeros([9, 4]), [0, 1, 2] * 3, spec)))
next(iter(data.sinusoid("train", data.TaskSpec())))
for load in (data.omniglot, data.cifar_fs, data.mini_imagenet):
  try:
    load("train", spec, data_dir="nowhere")
  except ImportError as error:
    print(error)
"""


class ImportTest(absltest.TestCase):
  def test_tfds_is_loaded_only_where_it_is_used(self):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
      [sys.executable, "-c", PROGRAM],
      env=environment,
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    is_loaded, *errors = done.stdout.splitlines()
    self.assertEqual(is_loaded, "False")
    self.assertLen(errors, 3)
    for error in errors:
      self.assertIn("pip install tensorflow-datasets", error)


class MissingDataTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    path = "/nowhere/omniglot/3.0.0"
    self.builder = mock.Mock(data_path=path, url_infos={})
    self.builder.is_prepared.return_value = False
    self.builder.download_and_prepare.side_effect = ConnectionError("no route")
    tfds = mock.Mock(**{"builder.return_value": self.builder})
    self.enterContext(mock.patch.dict(sys.modules, tensorflow_datasets=tfds))

  def test_a_failed_download_names_the_folder_and_a_remedy(self):
    message = "not in /nowhere/omniglot.*no route.*`data_dir`.*TFDS_DATA_DIR"
    with self.assertRaisesRegex(FileNotFoundError, message):
      data.omniglot("train", SPEC, data_dir="/nowhere")

  def test_nothing_is_downloaded_without_permission(self):
    with self.assertRaisesRegex(FileNotFoundError, "`download` is False"):
      data.omniglot("train", SPEC, data_dir="/nowhere", download=False)
    self.builder.download_and_prepare.assert_not_called()

  def test_data_that_another_process_prepared_is_used(self):
    self.builder.download_and_prepare.side_effect = FileExistsError
    # The data is missing at first, and there after the failure.
    self.builder.is_prepared.side_effect = [False, True]
    found = tfds_builders.prepared_builder("omniglot", "/nowhere")
    self.assertIs(found, self.builder)


class ExpandFolderTest(absltest.TestCase):
  def test_the_home_folder_is_expanded(self):
    with mock.patch.dict(os.environ, HOME="/home/user"):
      folder = tfds_builders.expand_folder("~/data")
    self.assertEqual(folder, "/home/user/data")
    self.assertIsNone(tfds_builders.expand_folder(None))

  def test_a_host_that_cannot_be_reached_is_said_at_once(self):
    unknown = mock.patch.object(
      socket, "create_connection", side_effect=OSError("no such name")
    )
    with mock.patch.object(request, "getproxies", return_value={}), unknown:
      with self.assertRaisesRegex(ConnectionError, "a.b .* no such name"):
        tfds_builders._check_reachable(["a.b"])
    with mock.patch.object(request, "getproxies", return_value={"https": "x"}):
      tfds_builders._check_reachable(["a.b"])

  def test_a_host_that_does_not_answer_is_given_up(self):
    with (
      mock.patch.object(request, "getproxies", return_value={}),
      mock.patch.object(tfds_builders, "_SECONDS", 0.05),
      mock.patch.object(tfds_builders, "_reach", lambda *_: time.sleep(0.5)),
      self.assertRaisesRegex(ConnectionError, "no answer within 0.05"),
    ):
      tfds_builders._check_reachable(["a.b"])

  def test_hosts_are_those_of_the_downloads(self):
    builder = mock.Mock(url_infos={"https://a.b/c.zip": 1, "file": 2})
    self.assertEqual(tfds_builders._hosts(builder), {"a.b"})


if __name__ == "__main__":
  absltest.main()
