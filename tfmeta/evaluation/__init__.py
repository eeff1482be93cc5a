"""Measures learners on a set of tasks, before and after adapting."""

from tfmeta.evaluation.evaluate import evaluate
from tfmeta.evaluation.result import EvaluationResult

__all__ = ["EvaluationResult", "evaluate"]
