"""What the configurations of all runs share; flags are made from it."""

import dataclasses

from trainers.run import option
from trainers.run import paths
from trainers.run import unused_flags

_PATHS = ("workdir", "data_dir", "manual_dir")

_PARAMETER_SERVER = (
  "Keras 3 cannot train under a ParameterServerStrategy, because its `fit` "
  "hands out the data itself, where that strategy needs a ClusterCoordinator; "
  "use --strategy=multi_worker"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfiguration:
  """Where a run writes, its seed, and the devices that it uses.

  Raises:
    ValueError: If a value is out of range.
  """

  workdir: str = option.field(
    "", "Folder in which the run writes, and from which it resumes."
  )
  seed: int = option.field(
    0, "Seed of the initial weights and the training tasks."
  )
  strategy: str = option.field(
    "none",
    "How devices or machines share the work; see trainers/README.md.",
    choices=("none", "mirrored", "multi_worker", "tpu"),
    refused={"parameter_server": _PARAMETER_SERVER},
  )
  tpu: str = option.field(
    "local",
    "Name or address of the TPU, for --strategy=tpu.",
    why_unused=unused_flags.without_strategy("tpu"),
  )
  startup_seconds: int = option.field(
    300,
    "Seconds to wait until all workers have started, for "
    "--strategy=multi_worker.",
    least=1,
    why_unused=unused_flags.without_strategy("multi_worker"),
  )

  def __post_init__(self) -> None:
    option.check_least(self)
    option.check_finite(self)
    if self.seed >= 2**31:
      raise ValueError(
        f"`seed` must be below 2**31. Received: seed={self.seed}"
      )
    if self.strategy == "parameter_server":
      raise ValueError(
        f"{_PARAMETER_SERVER}. Received: strategy={self.strategy!r}"
      )
    if not self.workdir:
      raise ValueError(
        "`workdir` must name the folder in which the run writes. "
        f"Received: workdir={self.workdir!r}"
      )
    for name in _PATHS:
      if path := getattr(self, name, None):
        # The class is frozen for others.
        object.__setattr__(self, name, paths.local(name, path))
