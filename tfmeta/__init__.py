"""Model-agnostic meta-learning for TensorFlow and Keras 3."""

import keras as _keras

if _keras.backend.backend() != "tensorflow":
  raise ImportError(
    "tfmeta needs the TensorFlow backend of Keras: set KERAS_BACKEND=tensorflow"
    " in the environment before keras is imported. Received: "
    f"{_keras.backend.backend()!r}"
  )

from tfmeta import callbacks as callbacks
from tfmeta import core as core
from tfmeta import data as data
from tfmeta import deprecated_names as _deprecated_names
from tfmeta import environments as environments
from tfmeta import layers as layers
from tfmeta import metrics as metrics
from tfmeta import models as models
from tfmeta import rl as rl
from tfmeta import testing as testing
from tfmeta.algorithms.anil import ANIL as ANIL
from tfmeta.algorithms.bmaml import BMAML as BMAML
from tfmeta.algorithms.context import EVALUATION as EVALUATION
from tfmeta.algorithms.context import FIRST_STEP as FIRST_STEP
from tfmeta.algorithms.context import Context as Context
from tfmeta.algorithms.emaml import EMAML as EMAML
from tfmeta.algorithms.fine_tuning import FineTuning as FineTuning
from tfmeta.algorithms.imaml import IMAML as IMAML
from tfmeta.algorithms.leo import LEO as LEO
from tfmeta.algorithms.maml import FOMAML as FOMAML
from tfmeta.algorithms.maml import MAML as MAML
from tfmeta.algorithms.maml_plus_plus import MAMLPlusPlus as MAMLPlusPlus
from tfmeta.algorithms.meta_learner import MetaLearner as MetaLearner
from tfmeta.algorithms.meta_sgd import MetaSGD as MetaSGD
from tfmeta.algorithms.platipus import PLATIPUS as PLATIPUS
from tfmeta.algorithms.probabilistic import (
  ProbabilisticLearner as ProbabilisticLearner,
)
from tfmeta.algorithms.proto_net import ProtoNet as ProtoNet
from tfmeta.algorithms.reptile import Reptile as Reptile
from tfmeta.core.threads import configure as configure
from tfmeta.data.task import TaskSpec as TaskSpec
from tfmeta.evaluation import evaluate as evaluate

__version__ = "0.1.0"

_deprecated_names.install()
