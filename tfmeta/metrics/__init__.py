"""Metrics of predictions: accuracy, error, likelihood and calibration."""

from tfmeta.metrics.calibration import BrierScore as BrierScore
from tfmeta.metrics.calibration import (
  ExpectedCalibrationError as ExpectedCalibrationError,
)
from tfmeta.metrics.calibration import calibration_bins as calibration_bins
from tfmeta.metrics.calibration import (
  expected_calibration_error as expected_calibration_error,
)
from tfmeta.metrics.intervals import mean_and_interval as mean_and_interval
from tfmeta.metrics.intervals import plus_minus as plus_minus
from tfmeta.metrics.predictions import accuracy as accuracy
from tfmeta.metrics.predictions import brier_score as brier_score
from tfmeta.metrics.predictions import log_probabilities as log_probabilities
from tfmeta.metrics.predictions import mean_squared_error as mean_squared_error
from tfmeta.metrics.predictions import (
  mixture_negative_log_likelihood as mixture_negative_log_likelihood,
)
from tfmeta.metrics.predictions import nearest_neighbour as nearest_neighbour
from tfmeta.metrics.predictions import (
  negative_log_likelihood as negative_log_likelihood,
)
from tfmeta.metrics.selection import COVERAGES as COVERAGES
from tfmeta.metrics.selection import selective_accuracy as selective_accuracy
