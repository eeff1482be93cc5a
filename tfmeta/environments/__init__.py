"""Environments: families of tasks in which policies act."""

from tfmeta.environments.base import Environment as Environment
from tfmeta.environments.decision_process import Bandit as Bandit
from tfmeta.environments.decision_process import (
  DecisionProcess as DecisionProcess,
)
from tfmeta.environments.locomotion import AntDirection as AntDirection
from tfmeta.environments.locomotion import AntGoal as AntGoal
from tfmeta.environments.locomotion import AntVelocity as AntVelocity
from tfmeta.environments.locomotion import (
  HalfCheetahDirection as HalfCheetahDirection,
)
from tfmeta.environments.locomotion import (
  HalfCheetahVelocity as HalfCheetahVelocity,
)
from tfmeta.environments.navigation import Navigation as Navigation
from tfmeta.environments.simulators import Simulator as Simulator
from tfmeta.environments.simulators import from_gymnasium as from_gymnasium
