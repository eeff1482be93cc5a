"""MAML with policy gradients in PyTorch, one task after another.

It works as public implementations do: a NumPy environment of the episodes of
one task, `torch.autograd.grad`, and products with the curvature by two
gradients of the divergence. The mathematics is that of
`tfmeta.rl.MAML(credit="lvc")` with a `TrustRegion`. The last line that it
prints is JSON.
"""

import argparse
import json
import time

import numpy as np
import torch

GOALS, EPISODES, HORIZON = 20, 20, 100
RATE, DISCOUNT = 0.1, 0.99
MAX_DIVERGENCE, DAMPING, ITERATIONS, BACKTRACKS = 0.01, 1e-5, 10, 15


def initial_weights(generator):
  """Returns the weights of a policy with two layers of 64 units."""
  weights = []
  for rows, columns in ((2, 64), (64, 64), (64, 2)):
    bound = (6 / (rows + columns)) ** 0.5
    kernel = torch.empty(rows, columns).uniform_(
      -bound, bound, generator=generator
    )
    weights += [kernel, torch.zeros(columns)]
  return [w.requires_grad_() for w in [*weights, torch.zeros(2)]]


def distribution(weights, x):
  for kernel, bias in (weights[0:2], weights[2:4]):
    x = torch.tanh(x @ kernel + bias)
  normal = torch.distributions.Normal(
    x @ weights[4] + weights[5], torch.exp(weights[6])
  )
  return torch.distributions.Independent(normal, 1)


def roll_out(weights, goal):
  """Acts the episodes of one task, and returns what is learned from them."""
  position = np.zeros((EPISODES, 2), np.float32)
  alive = np.ones(EPISODES, bool)
  rows = []
  with torch.no_grad():
    for _ in range(HORIZON):
      acted = distribution(weights, torch.from_numpy(position))
      action = acted.sample()
      moved = position + 0.1 * np.clip(action.numpy(), -1, 1)
      offset = moved - goal
      reward = -np.sqrt((offset**2).sum(axis=-1)) * alive
      rows.append((position, action.numpy(), reward, alive))
      alive = alive & ~(np.abs(offset) < 0.01).all(axis=-1)
      position = moved
  stacked = [np.stack(t, axis=1) for t in zip(*rows, strict=True)]
  x, actions, rewards, mask = (torch.from_numpy(t) for t in stacked)
  mask = mask.float()
  with torch.no_grad():
    acted = distribution(weights, x)
  return x, actions, mask, advantages(x, rewards, mask), acted


def advantages(x, rewards, mask):
  """Returns normalized advantages with a fitted linear baseline."""
  returns = torch.zeros_like(rewards)
  total = torch.zeros(EPISODES)
  for t in reversed(range(HORIZON)):
    total = rewards[:, t] + DISCOUNT * total
    returns[:, t] = total
  time_ = (torch.arange(HORIZON) / 100).expand(EPISODES, HORIZON)
  powers = torch.stack([time_**p for p in range(4)], dim=-1)
  clipped = x.clamp(-10, 10)
  features = torch.cat([clipped, clipped**2, powers], dim=-1)
  rows = (features * mask[..., None]).reshape(-1, features.shape[-1]).double()
  targets = (returns * mask).reshape(-1, 1).double()
  ridge = 1e-5 * torch.eye(rows.shape[1], dtype=torch.float64)
  fit = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ targets)
  raw = (returns - (rows @ fit).float().reshape(returns.shape)) * mask
  raw = (raw - raw.sum() / mask.sum()) * mask
  return raw / ((raw**2).sum().div(mask.sum()).sqrt() + 1e-8)


def surrogate(weights, episodes):
  x, actions, mask, merits, acted = episodes
  now = distribution(weights, x)
  ratio = torch.exp(now.log_prob(actions) - acted.log_prob(actions))
  return -(ratio * merits * mask).sum() / mask.sum()


def adapt(weights, support, *, create_graph):
  slopes = torch.autograd.grad(
    surrogate(weights, support), weights, create_graph=create_graph
  )
  return [w - RATE * g for w, g in zip(weights, slopes, strict=True)]


def divergence(weights, episodes):
  x, _, mask, _, acted = episodes
  now = distribution(weights, x)
  apart = torch.distributions.kl_divergence(acted, now)
  return (apart * mask).sum() / mask.sum()


def flat(tensors):
  return torch.cat([t.reshape(-1) for t in tensors])


def update(weights, goals, clock):
  """Makes one update, and returns the mean returns before and after."""
  data = []
  for goal in goals:
    support = roll_out(weights, goal)
    adapted = adapt(weights, support, create_graph=False)
    data.append((support, roll_out(adapted, goal)))
  clock("acting and adapting")
  gradient = torch.zeros_like(flat(weights))
  loss = 0.0
  for support, query in data:
    adapted = adapt(weights, support, create_graph=True)
    value = surrogate(adapted, query)
    gradient += flat(torch.autograd.grad(value, weights)) / len(data)
    loss += float(value) / len(data)
  clock("meta-gradient")
  step(weights, data, gradient, loss)
  clock("trust region")


def product(weights, data, vector):
  """Returns the second derivative of the mean divergence, times a vector."""
  total = DAMPING * vector
  for support, query in data:
    adapted = adapt(weights, support, create_graph=True)
    slopes = torch.autograd.grad(
      divergence(adapted, query), weights, create_graph=True
    )
    along = (flat(slopes) * vector).sum()
    total = total + flat(torch.autograd.grad(along, weights)) / len(data)
  return total


def step(weights, data, gradient, loss):
  """Moves the weights within the trust region."""
  x = torch.zeros_like(gradient)
  residual, direction = gradient.clone(), gradient.clone()
  squared = residual @ residual
  for _ in range(ITERATIONS):
    if squared < 1e-10:
      break
    curved = product(weights, data, direction)
    length = squared / (direction @ curved)
    x += length * direction
    residual -= length * curved
    following = residual @ residual
    direction = residual + following / squared * direction
    squared = following
  steepness = x @ (gradient - residual)
  scale = -torch.sqrt(2 * MAX_DIVERGENCE / steepness)
  start = [w.detach().clone() for w in weights]
  for _ in range(BACKTRACKS):
    move(weights, start, scale * x)
    lower, apart = measure(weights, data)
    if lower < loss and apart < MAX_DIVERGENCE:
      return
    scale *= 0.8
  move(weights, start, 0 * x)


def move(weights, start, moved):
  sizes = [w.numel() for w in weights]
  with torch.no_grad():
    for w, s, part in zip(weights, start, moved.split(sizes), strict=True):
      w.copy_(s + part.reshape(s.shape))


def measure(weights, data):
  loss, apart = 0.0, 0.0
  for support, query in data:
    adapted = adapt(weights, support, create_graph=False)
    with torch.no_grad():
      loss += float(surrogate(adapted, query)) / len(data)
      apart += float(divergence(adapted, query)) / len(data)
  return loss, apart


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--updates", type=int, default=5)
  arguments = parser.parse_args()
  weights = initial_weights(torch.Generator().manual_seed(0))
  torch.manual_seed(0)
  rng = np.random.default_rng(0)
  seconds, parts = [], []
  for _ in range(arguments.updates):
    goals = rng.uniform(-0.5, 0.5, (GOALS, 2)).astype(np.float32)
    marks = [("", time.perf_counter())]
    update(weights, goals, lambda n: marks.append((n, time.perf_counter())))  # noqa: B023
    pairs = zip(marks[1:], marks, strict=False)
    parts.append({name: end - start for (name, end), (_, start) in pairs})
    seconds.append(marks[-1][1] - marks[0][1])
  with torch.no_grad():
    finals = [adapt_and_return(weights, goal) for goal in goals]
  print(
    json.dumps(
      {"seconds": seconds, "parts": parts, "return": float(np.mean(finals))}
    )
  )


def adapt_and_return(weights, goal):
  """Returns the mean return after one inner step."""
  with torch.enable_grad():
    adapted = adapt(weights, roll_out(weights, goal), create_graph=False)
  return mean_return(adapted, goal)


def mean_return(weights, goal):
  """Returns the mean return of new episodes."""
  position = np.zeros((EPISODES, 2), np.float32)
  total, alive = np.zeros(EPISODES), np.ones(EPISODES, bool)
  for _ in range(HORIZON):
    action = distribution(weights, torch.from_numpy(position)).sample()
    position = position + 0.1 * np.clip(action.numpy(), -1, 1)
    offset = position - goal
    total -= np.sqrt((offset**2).sum(axis=-1)) * alive
    alive = alive & ~(np.abs(offset) < 0.01).all(axis=-1)
  return total.mean()


if __name__ == "__main__":
  main()
