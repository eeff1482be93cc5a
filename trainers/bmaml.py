"""Trains BMAML: MAML whose inner loop moves particles that repel each other.

python -m trainers.bmaml
python -m trainers.bmaml --dataset=sinusoid --num_particles=10
python -m trainers.bmaml --particle_weights=head --meta_loss=nll
"""

from trainers import emaml
from trainers.run import command_line
from trainers.run import flags
from trainers.run import option

PRESETS = {
  name: {
    **preset,
    "meta_loss": "chaser",
    "leader_steps": 1,
    "prior": "hierarchical",
    "repulsion_scale": 0.5,
  }
  for name, preset in emaml.PRESETS.items()
}


def _unless_chaser(config) -> str | None:
  if config.own["meta_loss"] != "chaser":
    return f"--meta_loss={config.own['meta_loss']} has no leader"
  return None


def _unless_flat(config) -> str | None:
  default = "hierarchical" if config.is_regression else "flat"
  if config.own.get("prior", default) == "hierarchical":
    return "the likelihood of a hierarchical prior is a sum over the examples"
  return None


def _unless_several(config) -> str | None:
  if config.own["num_particles"] == 1:
    return "a single particle has no other to repel"
  return None


TRAINER = flags.Trainer(
  "bmaml",
  "BMAML",
  options=(
    *emaml.PARTICLES,
    option.Option(
      "meta_loss",
      str,
      "chaser",
      "Loss of the outer loop: the distance from particles that have also seen "
      "the query set (chaser), or the negative log-likelihood of the query "
      "set.",
      choices=("chaser", "nll"),
    ),
    option.Option(
      "leader_steps",
      int,
      1,
      "Number of further steps on support and query set together, after which "
      "the particles are the leader that the chaser follows; at least 1.",
      why_unused=_unless_chaser,
    ),
    option.Option(
      "prior",
      str,
      None,
      "Prior of the weights. Defaults to hierarchical for regression, flat for "
      "classification. A hierarchical prior has large gradients: with it, "
      "classification needs a smaller --inner_learning_rate, such as 0.01.",
      choices=("hierarchical", "flat"),
    ),
    option.Option(
      "repulsion_scale",
      float,
      1.0,
      "Factor of the repulsion between particles: 1 is exact, and the released "
      "code uses 0.5 for sinusoids.",
      why_unused=_unless_several,
    ),
  ),
  defaults={"inner_loss_reduction": "sum"},
  why_unused={"inner_loss_reduction": _unless_flat},
  presets=PRESETS,
  source=emaml.SOURCE,
)

if __name__ == "__main__":
  command_line.train(TRAINER)
