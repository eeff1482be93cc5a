"""Environments: families of tasks in which policies act."""

from tfmeta.environments.base import Environment as Environment
from tfmeta.environments.decision_process import Bandit as Bandit
from tfmeta.environments.decision_process import (
  DecisionProcess as DecisionProcess,
)
from tfmeta.environments.navigation import Navigation as Navigation
