"""MAML in `torch.func`: `vmap` over tasks, `grad` through `grad`."""

import torch

from benchmarks.contenders import measure
from benchmarks.contenders import torch_network
from benchmarks.shared import workload


def make_update(case: workload.Case) -> measure.Update:
  """Returns a function that makes a given number of updates."""
  weights, tasks = torch_network.load(case)
  optimizer = torch_network.make_optimizer(case, weights)
  batch = [tasks[k] for k in ("support_x", "support_y", "query_x", "query_y")]

  def task_loss(weights, support_x, support_y, query_x, query_y):
    adapted = _adapt(case, weights, support_x, support_y)
    return _loss(case, adapted, query_x, query_y)

  def batch_loss(weights):
    losses = torch.vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(weights, *batch)
    return losses.mean()

  def update(count: int, tick: measure.Tick) -> float:
    for _ in range(count):
      gradients, loss = torch.func.grad_and_value(batch_loss)(weights)
      for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
      optimizer.step()
      tick()
    return float(loss)

  return update


def _loss(case, weights, x, y):
  return torch_network.loss(case, weights, x, y, stock_norm=False)


def _adapt(case, weights, x, y):
  for _ in range(case.inner_steps):
    gradients = torch.func.grad(lambda w: _loss(case, w, x, y))(weights)
    if case.first_order:
      gradients = [g.detach() for g in gradients]
    rate = case.inner_learning_rate
    weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
  return weights


if __name__ == "__main__":
  measure.run(make_update)
