"""The types that the parts of tfmeta hand to each other."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Literal

import tensorflow as tf

# One tensor for each trainable variable of a model, in the model's order.
Weights = list[tf.Tensor]
# One tensor for each non-trainable variable of a model, in the model's order.
State = list[tf.Tensor]

# `(weights, step) -> scalar loss`; `step` counts inner steps from 0.
SupportLoss = Callable[[Weights, Any], tf.Tensor]

# One rate for each weight; `None` leaves its weight unchanged.
StepRates = Sequence[tf.Tensor | float | None]
# The rates of all steps, or a function from the step to its rates.
LearningRates = StepRates | Callable[[Any], StepRates]

Reduction = Literal["mean", "sum", "sum_over_ways"]
TaskMap = Literal["auto", "map", "vectorize", "unroll"]

# How the inner loss of a policy credits an action: see `tfmeta.core.credit`.
Surrogate = Literal["lvc", "dice", "log_likelihood"]
