"""Meta-reinforcement learning: policies that adapt by policy gradients."""

from tfmeta.rl.episodes import Episodes as Episodes
from tfmeta.rl.evaluation import ReturnsResult as ReturnsResult
from tfmeta.rl.evaluation import collect_episodes as collect_episodes
from tfmeta.rl.evaluation import evaluate as evaluate
from tfmeta.rl.learner import PolicyLearner as PolicyLearner
from tfmeta.rl.learners import ANIL as ANIL
from tfmeta.rl.learners import FOMAML as FOMAML
from tfmeta.rl.learners import MAML as MAML
from tfmeta.rl.learners import MetaSGD as MetaSGD
from tfmeta.rl.learners import Reptile as Reptile
from tfmeta.rl.particles import BMAML as BMAML
from tfmeta.rl.particles import EMAML as EMAML
from tfmeta.rl.promp import ProMP as ProMP
from tfmeta.rl.trust_region import TrustRegion as TrustRegion
