"""How well a learner does on a set of tasks, before and after adapting."""

from tfmeta.evaluation.measure import evaluate
from tfmeta.evaluation.result import EvaluationResult

__all__ = ["EvaluationResult", "evaluate"]
