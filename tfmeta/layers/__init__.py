"""Layers with exact second derivatives, and functions that walk layers."""

from tfmeta.layers.cosine_dense import CosineDense as CosineDense
from tfmeta.layers.exact import exact as exact
from tfmeta.layers.exact import inexact_layers as inexact_layers
from tfmeta.layers.learned_inputs import LearnedInputs as LearnedInputs
from tfmeta.layers.learned_rates import LearnedRates as LearnedRates
from tfmeta.layers.log_deviation import LogDeviation as LogDeviation
from tfmeta.layers.mean_prediction import MeanPrediction as MeanPrediction
from tfmeta.layers.normalization import BatchNormalization as BatchNormalization
from tfmeta.layers.normalization import GroupNormalization as GroupNormalization
from tfmeta.layers.normalization import LayerNormalization as LayerNormalization
from tfmeta.layers.normalization import (
  TransductiveBatchNormalization as TransductiveBatchNormalization,
)
from tfmeta.layers.per_step import PerStepNormalization as PerStepNormalization
from tfmeta.layers.pooling import MaxPooling2D as MaxPooling2D
from tfmeta.layers.recurrent import GRU as GRU
from tfmeta.layers.recurrent import LSTM as LSTM
from tfmeta.layers.statistics import (
  has_batch_normalization as has_batch_normalization,
)
from tfmeta.layers.statistics import in_normalization as in_normalization
from tfmeta.layers.statistics import support_state as support_state
from tfmeta.layers.statistics import transductive as transductive
