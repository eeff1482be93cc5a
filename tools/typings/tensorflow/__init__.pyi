# TensorFlow ships no types, and the stubs that pyright brings along refuse code
# that runs, such as tensor[..., 0], 2.0 ** tensor and tf.random.experimental.
# So TensorFlow counts as untyped, and everything else is checked.
from typing import Any

def __getattr__(name: str) -> Any: ...
