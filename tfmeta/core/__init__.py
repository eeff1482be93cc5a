"""Pure functions from which inner loops are built."""

from tfmeta.core.functional import apply as apply
from tfmeta.core.functional import state_of as state_of
from tfmeta.core.functional import substituted as substituted
from tfmeta.core.functional import weights_of as weights_of
from tfmeta.core.inner_loop import AdamState as AdamState
from tfmeta.core.inner_loop import adam_step as adam_step
from tfmeta.core.inner_loop import gradient_path as gradient_path
from tfmeta.core.inner_loop import gradient_step as gradient_step
from tfmeta.core.inner_loop import run_inner_loop as run_inner_loop
from tfmeta.core.losses import Targets as Targets
from tfmeta.core.losses import kind_of_targets as kind_of_targets
from tfmeta.core.losses import log_mean_exp as log_mean_exp
from tfmeta.core.losses import mean_prediction as mean_prediction
from tfmeta.core.losses import reduced_loss as reduced_loss
from tfmeta.core.multi_step import multi_step_loss as multi_step_loss
from tfmeta.core.multi_step import multi_step_shares as multi_step_shares
from tfmeta.core.random import fold_in as fold_in
from tfmeta.core.svgd import rbf_kernel as rbf_kernel
from tfmeta.core.svgd import svgd_direction as svgd_direction
from tfmeta.core.task_map import choose_method as choose_method
from tfmeta.core.task_map import map_and_sum as map_and_sum
from tfmeta.core.task_map import map_tasks as map_tasks
