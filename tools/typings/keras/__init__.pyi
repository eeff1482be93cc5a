# Keras ships no types: what pyright infers from its source mixes the results of
# all backends, so that keras.saving.load_model may seem to return None.
from typing import Any

def __getattr__(name: str) -> Any: ...
