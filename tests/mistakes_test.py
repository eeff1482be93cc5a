"""Tests what a newcomer reads after a mistake: a sentence or two.

Each row is a mistake, the type of the error, and what the message must name of
what was given. Mistakes of the command line are in trainers/commands_test.py.
"""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import keras
import numpy as np
import tensorflow as tf

import tfmeta
from trainers.run import configuration
from trainers.run import data_sets

SPEC = tfmeta.TaskSpec(ways=3, shots=1, query_shots=2)
# Twelve examples of four classes.
X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
Y = np.repeat(np.arange(4), 3)

# What was wrong and expected, perhaps advice, and what was received.
MOST_SENTENCES = 4


def make_model(outputs=3, **kwargs):
  return tfmeta.models.mlp((2,), outputs=outputs, hidden=(4,), **kwargs)


def make(name="MAML", model=None, **kwargs):
  return getattr(tfmeta, name)(model or make_model(), **kwargs)


def tasks(x=X, y=Y, spec=SPEC, **kwargs):
  return tfmeta.data.tasks_from_arrays(x, y, spec, **kwargs)


def compiled(**kwargs):
  learner = make()
  learner.compile("adam", **kwargs)
  return learner


def configure(trainer="MAML", **values):
  return configuration.Configuration(trainer, workdir="run", **values)


def adapt(support_x, support_y, **kwargs):
  return make(**kwargs).adapt(np.asarray(support_x), np.asarray(support_y))


def queries_of(count):
  """Returns a batch of two tasks with that many queries."""
  inputs, query_y = next(iter(tasks().batch(2)))
  inputs["query_x"] = inputs["query_x"][:, :count]
  return tf.data.Dataset.from_tensors((inputs, query_y[:, :count]))


FLAGS = (
  (lambda: configure(ways=0), "ways=0"),
  (lambda: configure(shots=-1), "shots=-1"),
  (lambda: configure(seed=2**40), "seed=1099511627776"),
  (lambda: configure(inner_learning_rate=float("nan")), "rate=nan"),
  (lambda: configure(learning_rate=-1e-3), "learning_rate=-0.001"),
  (lambda: configure(steps_per_epoch=10, steps_per_execution=3), "execution=3"),
  (lambda: configure(data_dir="s3://bucket/x"), "s3://bucket/x"),
  (lambda: configure(num_tasks=5), "num_tasks=5, dataset='glyphs'"),
  (lambda: configure(size=28), "size=28"),
  (
    lambda: configure(learning_rate_decay="exponential"),
    "final_learning_rate=0.0",
  ),
  (
    lambda: data_sets.check_exists(configure(dataset="omnigolt")),
    "'omnigolt'. Did you mean omniglot",
  ),
  (lambda: data_sets.check_exists(configure(dataset="")), "dataset=''"),
  (
    lambda: data_sets.check_exists(configure(dataset="~no_such_user/x")),
    "dataset='~no_such_user/x'",
  ),
  (
    lambda: data_sets.check_exists(configure(dataset="./glyphs")),
    "'./glyphs', which does not exist",
  ),
)

DATA = (
  (lambda: tfmeta.TaskSpec(ways=0), "ways=0"),
  (lambda: tfmeta.TaskSpec(ways=5, shots=0), "shots=0"),
  (lambda: tfmeta.TaskSpec(ways=2.5), "ways=2.5"),
  (lambda: tasks(spec=tfmeta.TaskSpec(ways=9)), "4 classes.*9 ways"),
  (lambda: tasks(spec=tfmeta.TaskSpec(ways=3, shots=9)), "has 3 examples"),
  (lambda: tasks(y=Y[:5]), r"y of shape \(5,\)"),
  (lambda: tasks(y=Y / 2), "y of dtype float64"),
  (lambda: tasks(y=np.eye(4)[Y]), "y of dtype float64"),
  (lambda: tasks(x=X * np.nan), r"x\[0, 0\]=nan"),
  (lambda: tasks(x=X.astype(complex)), "complex128"),
  (lambda: tasks(seed=-1), "seed=-1"),
  (lambda: tasks(start=0.5), "start=0.5"),
  (lambda: tasks(spec=(3, 1, 2)), r"\(3, 1, 2\)"),
  (lambda: tfmeta.data.glyphs("tests", SPEC), "split='tests'"),
  (lambda: tfmeta.data.sinusoid("val", SPEC), "split='val'"),
  (
    lambda: tfmeta.data.tasks_from_directory("no/such", SPEC),
    "path='no/such'",
  ),
  (
    lambda: tfmeta.data.tasks_from_directory("~no_such_user", SPEC),
    "path='~no_such_user'",
  ),
  (
    lambda: tfmeta.data.embeddings("train", SPEC, data_dir="no/such"),
    "data_dir='no/such'",
  ),
)

LEARNERS = (
  (lambda: make(model="conv4"), "Received: 'conv4'"),
  (lambda: make(inner_steps=-1), "inner_steps=-1"),
  (lambda: make(inner_steps=1.5), "inner_steps=1.5"),
  (lambda: make(inner_learning_rate="0.1"), "inner_learning_rate='0.1'"),
  (lambda: make(inner_loss="crossentropy"), "crossentropy"),
  (lambda: make(inner_loss_reduction="none"), "reduction='none'"),
  (lambda: make(normalization="batch"), "normalization='batch'"),
  (lambda: make(task_map="parallel"), "task_map='parallel'"),
  (lambda: make(clipnorm=0), "clipnorm=0"),
  (lambda: make("ANIL", adapted=["haed"]), "haed"),
  (lambda: make("EMAML", num_particles=0), "num_particles=0"),
  (lambda: make("PLATIPUS", num_samples=0), "num_samples=0"),
  (lambda: make("Reptile", inner_optimizer="adagrad"), "'adagrad'"),
  (lambda: make("BMAML", meta_loss="chase"), "meta_loss='chase'"),
  (
    lambda: make(model=keras.Sequential([keras.layers.Dense(3)])),
    r"model='sequential\w*', which is not built",
  ),
  (lambda: tfmeta.models.conv4((28, 28), ways=5), r"\(28, 28\)"),
  (lambda: tfmeta.models.conv4((4, 4, 1), ways=5), r"\(4, 4, 1\)"),
  (lambda: tfmeta.models.mlp((2,), outputs=0), "outputs=0"),
)

CALLS = (
  (lambda: adapt(X[:3], [0, 1]), r"x \(3, 2\), support_y \(2,\)"),
  (lambda: adapt(X[:3, :1], [0, 1, 2]), r"\(3, 1\)"),
  (lambda: adapt(X[:3], [0, 1, 3]), "Received: 0 to 3"),
  (lambda: adapt(X[:3], [0.5, 1.0, 2.0]), "float64 of shape"),
  (lambda: adapt(X[:3] * np.nan, [0, 1, 2]), "x must be finite. Received: NaN"),
  (lambda: adapt(X[:0], np.zeros([0], int)), r"support_x \(0, 2\)"),
  (
    lambda: make().fit(tasks().batch(2), steps_per_epoch=1, verbose=0),
    "call `compile\\(\\)`",
  ),
  (
    lambda: compiled().fit(tasks(), steps_per_epoch=1, verbose=0),
    r"single tasks, with support_x of shape \(3, 2\)",
  ),
  (lambda: compiled().fit(X, Y, verbose=0), "support_x, .* Received: <class"),
  (
    lambda: compiled().fit(tasks().batch(2), verbose=0),
    "`x` has no end: .* steps_per_epoch=None",
  ),
  (
    lambda: tfmeta.evaluate(make_model(), tasks().batch(2).take(1)),
    "Functional",
  ),
  (lambda: tfmeta.evaluate(make(), tasks().take(1)), "single tasks"),
  (lambda: tfmeta.evaluate(make(), []), "tasks of type list"),
  (lambda: tfmeta.evaluate([], tasks().batch(2).take(1)), r"\[\]"),
  (
    lambda: compiled().fit(queries_of(0), verbose=0),
    r"query_x \(2, 0, 2\), query_y \(2, 0\)",
  ),
  (lambda: make().export(""), "filepath=''"),
  (lambda: make().export("x", format="pickle"), "format=pickle"),
  (
    lambda: make().export("x.tflite", normalization="moving"),
    "normalization='moving'",
  ),
)

LOADING = (
  (lambda path: keras.models.load_model(path / "none.keras"), "none.keras"),
  (
    lambda path: tfmeta.callbacks.Checkpoint(path, mode="best"),
    "mode='best'",
  ),
  (
    lambda path: make().load_weights(path / "none.weights.h5"),
    "none.weights.h5",
  ),
)


class MistakesTest(parameterized.TestCase):
  def assert_helps(self, function, named):
    with self.assertRaises((ValueError, TypeError, OSError)) as caught:
      function()
    said = str(caught.exception)
    self.assertRegex(said.replace("\n", " "), named)
    self.assertNotIn("in user code", said)
    self.assertLess(said.count(". "), MOST_SENTENCES, said)
    self.assertLess(len(said), 700, said)

  @parameterized.parameters(*FLAGS)
  def test_flags(self, function, named):
    self.assert_helps(function, named)

  @parameterized.parameters(*DATA)
  def test_data(self, function, named):
    self.assert_helps(function, named)

  @parameterized.parameters(*LEARNERS)
  def test_learners_and_models(self, function, named):
    self.assert_helps(function, named)

  @parameterized.parameters(*CALLS)
  def test_calls(self, function, named):
    self.assert_helps(function, named)

  @parameterized.parameters(*LOADING)
  def test_loading(self, function, named):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.assert_helps(lambda: function(pathlib.Path(folder)), named)


if __name__ == "__main__":
  absltest.main()
