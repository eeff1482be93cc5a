"""MAML in PyTorch: `torch.autograd.grad`, one task after another."""

import torch

from benchmarks.contenders import measure
from benchmarks.contenders import torch_network
from benchmarks.shared import workload


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that makes a given number of updates."""
  weights, tasks = torch_network.load(case)
  weights = [w.requires_grad_() for w in weights]
  optimizer = torch_network.make_optimizer(case, weights)

  def update(count: int, tick: measure.Tick) -> float:
    for _ in range(count):
      optimizer.zero_grad()
      loss = _backward(case, weights, tasks)
      optimizer.step()
      tick()
    return loss

  return update


def _backward(case, weights, tasks):
  """Accumulates the meta-gradient task by task and returns the mean loss.

  Memory does not grow with the number of tasks.
  """
  total = 0.0
  for i in range(case.tasks):
    task = {key: value[i] for key, value in tasks.items()}
    adapted = _adapt(case, weights, task)
    loss = torch_network.loss(case, adapted, task["query_x"], task["query_y"])
    (loss / case.tasks).backward()
    total += float(loss.detach())
  return total / case.tasks


def _adapt(case, weights, task):
  for _ in range(case.inner_steps):
    loss = torch_network.loss(
      case, weights, task["support_x"], task["support_y"]
    )
    gradients = torch.autograd.grad(
      loss, weights, create_graph=not case.first_order
    )
    rate = case.inner_learning_rate
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
  return weights


if __name__ == "__main__":
  measure.run(make_update)
