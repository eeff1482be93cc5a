"""Tests that private names of frameworks are used in one file only.

Names that begin with an underscore promise nothing: any release of Keras or
TensorFlow may change them. tfmeta/core/keras_internals.py holds the few that
have no public alternative, each with its reason and a test.
"""

import ast
import functools

from absl.testing import absltest
from absl.testing import parameterized
import keras
import source_tree
import tensorflow as tf

FOLDERS = ("tfmeta", "trainers", "benchmarks")
HOME = "tfmeta/core/keras_internals.py"

# Packages that may be missing are loaded by name here, and nowhere else.
LOADERS = {"tfmeta/packages.py", "trainers/run/packages.py"}

_PRIVATE_MODULES = ("tensorflow.python", "keras.src")
_BY_NAME = (
  "getattr",
  "setattr",
  "hasattr",
  "delattr",
  "__getattribute__",
  "__setattr__",
  "__delattr__",
  "attrgetter",
  "methodcaller",
  "object",  # mock.patch.object
)
_LOADING = ("importlib", "imp", "pkgutil", "runpy")
# These read the files and the metadata of packages, and load no module.
_READING = ("importlib.resources", "importlib.metadata")


# Public methods of named tuples, whose fields might have such names.
_OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name):
  """Returns whether `name` begins with one underscore and is not `_` itself."""
  if name in _OF_NAMED_TUPLES:
    return False
  dunder = name.startswith("__") and name.endswith("__")
  return name.startswith("_") and name.strip("_") != "" and not dunder


@functools.cache
def framework_names():
  """Returns private attributes of classes that users of Keras derive from.

  Instances have more of them than their classes.
  """
  model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
  model.compile("adam", "mse", metrics=["mae"])
  model.fit(tf.ones([2, 2]), tf.ones([2, 1]), verbose=0)
  samples = (
    model,
    model.layers[0],
    model.optimizer,
    keras.metrics.Mean(),
    keras.losses.MeanSquaredError(),
    keras.callbacks.Callback(),
    keras.initializers.Zeros(),
    keras.layers.BatchNormalization(),
    keras.layers.MaxPooling2D(),
    keras.layers.Wrapper(keras.layers.Dense(1)),
    keras.optimizers.schedules.CosineDecay(1.0, 1),
    tf.distribute.get_strategy(),
    tf.Module(),
  )
  return {
    name for sample in samples for name in dir(sample) if is_private(name)
  }


def _methods_and_attributes(class_node):
  """Yields the nodes that define a member of a class, with its name."""
  for node in ast.walk(class_node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      yield node, node.name
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
      if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
        yield node, node.attr
  for node in class_node.body:
    for target in _targets(node):
      yield node, target


def _targets(node):
  targets = getattr(node, "targets", [getattr(node, "target", None)])
  return [target.id for target in targets if isinstance(target, ast.Name)]


def _classes(tree):
  return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def defined_names(tree):
  """Returns the private names of a file's own functions and members."""
  names = {
    name for c in _classes(tree) for _, name in _methods_and_attributes(c)
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.add(node.name)
  for node in tree.body:
    names.update(_targets(node))
  return {name for name in names if is_private(name)}


def _base_names(class_node):
  return [ast.unparse(base).split("[")[0] for base in class_node.bases]


def framework_classes(trees):
  """Returns the names of our classes that derive from a framework's class."""
  bases = {
    node.name: _base_names(node) for tree in trees for node in _classes(tree)
  }

  def derives(name, seen):
    if name.partition(".")[0] in ("keras", "tf", "tensorflow"):
      return True
    last = name.rpartition(".")[2]
    if last in seen:
      return False
    return any(derives(base, seen | {last}) for base in bases.get(last, ()))

  return {name for name in bases if derives(name, frozenset())}


def uses(tree, own, derived):
  """Yields line and text of each use of a private name of a framework.

  Args:
    tree: Syntax tree of a file.
    own: Private names that the package of the file defines.
    derived: Names of our classes that derive from a framework's.
  """
  here = defined_names(tree)
  # A name of Keras does not become ours because another file defines it too.
  allowed = here | (own - framework_names())
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      if is_private(node.attr) and node.attr not in allowed:
        yield node.lineno, node.attr
      elif ast.unparse(node).startswith(_PRIVATE_MODULES):
        yield node.lineno, ast.unparse(node)
    elif isinstance(node, ast.Import | ast.ImportFrom):
      yield from _imports(node)
    elif isinstance(node, ast.Call):
      yield from _calls_by_name(node, allowed)
    elif isinstance(node, ast.Subscript):
      yield from _subscripts(node, allowed)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      if node.value.startswith(_PRIVATE_MODULES):
        yield node.lineno, node.value
    elif isinstance(node, ast.ClassDef) and node.name in derived:
      for member, name in _methods_and_attributes(node):
        if name in framework_names():
          yield member.lineno, f"{node.name}.{name} (override)"


def _imports(node):
  module = getattr(node, "module", None) or ""
  for alias in node.names:
    name = f"{module}.{alias.name}".lstrip(".")
    first = name.partition(".")[0]
    if name.startswith(_READING):
      continue
    if first in _LOADING or name.startswith(_PRIVATE_MODULES):
      yield node.lineno, name
    elif first in ("keras", "tensorflow") and any(
      map(is_private, name.split("."))
    ):
      yield node.lineno, name


def _calls_by_name(node, allowed):
  """Yields `getattr(x, "_name")` and the like."""
  called = ast.unparse(node.func).rpartition(".")[2]
  if called in ("__import__", "eval", "exec"):
    yield node.lineno, called
  if called in _BY_NAME:
    for argument in node.args:
      yield from _private_string(argument, allowed)


def _subscripts(node, allowed):
  """Yields `vars(x)["_name"]` and `x.__dict__["_name"]`."""
  text = ast.unparse(node.value)
  if text.endswith("__dict__") or text.startswith(("vars(", "globals(")):
    yield from _private_string(node.slice, allowed)


def _private_string(node, allowed):
  """Yields a string that is a private name, whole or at its beginning."""
  while isinstance(node, ast.BinOp | ast.JoinedStr):
    node = node.left if isinstance(node, ast.BinOp) else node.values[0]
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    if is_private(node.value) and node.value not in allowed:
      yield node.lineno, node.value


def violations():
  """Returns `path:line name` for each use outside of keras_internals."""
  paths = source_tree.python_files(*FOLDERS)
  trees = {path: source_tree.syntax_tree(path) for path in paths}
  derived = framework_classes(trees.values())
  own = {folder: set() for folder in FOLDERS}
  for path, tree in trees.items():
    own[path.partition("/")[0]] |= defined_names(tree)
  return [
    f"{path}:{line} {name}"
    for path, tree in trees.items()
    if path != HOME
    for line, name in sorted(uses(tree, own[path.partition("/")[0]], derived))
    if not (path in LOADERS and name.startswith("importlib"))
  ]


class PrivateNamesTest(parameterized.TestCase):
  def test_private_names_of_frameworks_have_one_home(self):
    found = violations()
    self.assertEmpty(found, "\n" + "\n".join(found))

  @parameterized.parameters(
    "model._flatten_layers()",
    "layer._trainable_variables",
    "from tensorflow.python.ops import control_flow_util",
    "import keras.src.layers",
    "from keras import _tf_keras",
    "import importlib",
    "__import__('keras.src')",
    "getattr(model, '_compile_loss')",
    "object.__setattr__(model, '_compile_loss', 1)",
    "getattr(model, '_compile' + kind)",
    "getattr(model, f'_compile_{kind}')",
    "vars(model)['_layers']",
    "model.__dict__['_layers']",
    "sys.modules['keras.src.layers']",
    "tf.keras.src._x",
    "class Own(keras.Model):\n  def _maybe_symbolic_build(self): pass",
    "class Own(Base):\n  def _maybe_symbolic_build(self): pass",
    "class Own(keras.Model):\n  _layers = ()",
    "class Own(keras.Model):\n  def f(self): self._layers = ()",
  )
  def test_is_refused(self, source):
    base = ast.parse("class Base(keras.layers.Layer): pass")
    tree = ast.parse(source)
    derived = framework_classes([base, tree])
    self.assertNotEmpty(list(uses(tree, {"_layers"}, derived)), source)

  @parameterized.parameters(
    "class Own(keras.Model):\n  def _mine(self): return self._mine",
    "class Own:\n  def _layers(self): return self._layers",
    "learner._ours()",
    "getattr(model, 'inner_optimizer')",
    "getattr(model, name)",
    "for _ in range(3): pass",
    "module.__file__",
    "def _helper(): pass\n_helper()",
    "import importlib.resources",
    "from importlib import metadata",
  )
  def test_is_allowed(self, source):
    tree = ast.parse(source)
    found = list(uses(tree, {"_ours"}, framework_classes([tree])))
    self.assertEmpty(found, source)


if __name__ == "__main__":
  absltest.main()
