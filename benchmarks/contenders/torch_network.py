"""The networks and losses of all cases in PyTorch, as functions of weights."""

import numpy as np
import torch

from benchmarks.shared import workload


def load(
  case: workload.Case,
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
  """Returns initial weights and tasks in PyTorch's layout (channels first)."""
  weights = [torch.tensor(_layout(w)) for w in workload.make_weights(case)]
  tasks = {}
  for key, value in workload.make_tasks(case).items():
    images = value.ndim == 5
    value = np.moveaxis(value, -1, 2) if images else value
    tensor = torch.tensor(np.ascontiguousarray(value))
    tasks[key] = tensor.long() if tensor.dtype == torch.int32 else tensor
  return weights, tasks


def make_optimizer(
  case: workload.Case, weights: list[torch.Tensor]
) -> torch.optim.Optimizer:
  """Returns the outer optimizer."""
  if not case.adam:
    return torch.optim.SGD(weights, lr=workload.SGD_LEARNING_RATE)
  return torch.optim.Adam(
    weights, lr=workload.ADAM_LEARNING_RATE, eps=workload.ADAM_EPSILON
  )


def loss(
  case: workload.Case,
  weights: list[torch.Tensor],
  x: torch.Tensor,
  y: torch.Tensor,
  *,
  stock_norm: bool = True,
) -> torch.Tensor:
  """Returns the mean loss of a set of examples.

  Args:
    case: The case, which decides between the networks.
    weights: Weights of the network.
    x: Inputs, `[n, ...]`.
    y: Targets, `[n, 1]`, or labels, `[n]`.
    stock_norm: Whether to use PyTorch's batch normalization. In PyTorch 2.13
      its second derivatives are correct under `torch.autograd.grad` but not
      under `torch.func`, which therefore needs the formula written out.
  """
  if case.ways is None:
    return torch.nn.functional.mse_loss(_mlp(weights, x), y)
  normalize = _stock_norm if stock_norm else _written_norm
  return torch.nn.functional.cross_entropy(_conv4(weights, x, normalize), y)


def _mlp(weights, x):
  *hidden, kernel, bias = weights
  for inner_kernel, inner_bias in zip(hidden[::2], hidden[1::2], strict=True):
    x = torch.relu(x @ inner_kernel + inner_bias)
  return x @ kernel + bias


def _conv4(weights, x, normalize):
  *blocks, kernel, bias = weights
  for i in range(0, len(blocks), 4):
    x = torch.nn.functional.conv2d(x, blocks[i], blocks[i + 1], padding=1)
    x = normalize(x, blocks[i + 2], blocks[i + 3])
    x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
  # The other contenders flatten features with channels last.
  return x.permute(0, 2, 3, 1).flatten(1) @ kernel + bias


def _stock_norm(x, scale, shift):
  return torch.nn.functional.batch_norm(
    x, None, None, scale, shift, training=True, eps=workload.NORM_EPSILON
  )


def _written_norm(x, scale, shift):
  mean = x.mean((0, 2, 3), keepdim=True)
  variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
  scale = scale[:, None, None] * torch.rsqrt(variance + workload.NORM_EPSILON)
  return (x - mean) * scale + shift[:, None, None]


def _layout(weight):
  if weight.ndim != 4:
    return weight
  return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
