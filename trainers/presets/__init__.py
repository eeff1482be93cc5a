"""Published settings, as values of flags, by trainer.

What the command line says goes before a preset.
"""

from typing import Any

from trainers.presets import bmaml
from trainers.presets import leo
from trainers.presets import maml
from trainers.presets import maml_plus_plus
from trainers.presets import platipus
from trainers.presets import reptile

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
  "maml": maml.PRESETS,
  "fomaml": maml.PRESETS,
  "anil": {},
  "bmaml": bmaml.BMAML,
  "emaml": bmaml.EMAML,
  "leo": leo.PRESETS,
  "platipus": platipus.PRESETS,
  "meta_sgd": {},
  "maml_plus_plus": maml_plus_plus.PRESETS,
  "reptile": reptile.PRESETS,
}

SOURCES = {
  "maml": maml.SOURCE,
  "fomaml": maml.SOURCE,
  "bmaml": bmaml.SOURCE,
  "emaml": bmaml.SOURCE,
  "leo": leo.SOURCE,
  "platipus": platipus.SOURCE,
  "maml_plus_plus": maml_plus_plus.SOURCE,
  "reptile": reptile.SOURCE,
}
