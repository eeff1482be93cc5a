"""What draws answer where two readings of a support set differ.

Arrays of T tasks, M draws, Q queries and W classes: `probabilities` are those
of each draw, `[T, M, Q, W]`; `readings` are the two answers that fit a query,
`[T, Q, 2]`. A query is open where these differ.
"""

import numpy as np

# Probability that a draw must give to the answers of a reading.
SHARE = 0.8


def agreement(probabilities: np.ndarray, readings: np.ndarray) -> np.ndarray:
  """Probability that a draw gives a reading, `[T, M, 2]`.

  The mean over open queries: a draw that wavers between readings, with a slight
  preference for one, takes neither.
  """
  is_open = _is_open(readings)[:, np.newaxis, :, np.newaxis]
  given = np.take_along_axis(probabilities, readings[:, np.newaxis], axis=-1)
  count = np.maximum(is_open.sum(axis=2), 1)
  return (given * is_open).sum(axis=2) / count


def covered(probabilities: np.ndarray, readings: np.ndarray) -> np.ndarray:
  """Whether one draw takes the one reading and another the other, `[T]`."""
  best = agreement(probabilities, readings).max(axis=1)
  return np.all(best >= SHARE, axis=1)


def shuffled(probabilities: np.ndarray, seed: int = 0) -> np.ndarray:
  """The same answers to each query, dealt to the draws anew.

  What remains of `covered` is luck: draws of a reading keep to it.
  """
  random = np.random.default_rng(seed)
  order = random.random(probabilities.shape[:-1]).argsort(axis=1)
  return np.take_along_axis(probabilities, order[..., np.newaxis], axis=1)


def disagreement(answers: np.ndarray, ways: int) -> np.ndarray:
  """Share of the pairs of draws that differ, `[T, Q]`; 0 for a single draw."""
  draws = answers.shape[1]
  votes = np.stack([(answers == way).sum(axis=1) for way in range(ways)])
  alike = (votes * (votes - 1)).sum(axis=0)
  return 1 - alike / (draws * (draws - 1)) if draws > 1 else 0.0 * alike


def joint_loss(probabilities: np.ndarray, readings: np.ndarray) -> float:
  """Negative log-likelihood of all queries of a task at once, per query.

  Under the mixture of draws, as a mean over both readings: a draw that keeps
  to a reading makes it likely, halves of a belief in every query do not.
  """
  labels = np.moveaxis(readings, -1, 0)[:, :, np.newaxis, :, np.newaxis]
  logs = np.log(np.maximum(probabilities, 1e-7))[np.newaxis]
  of_draws = np.take_along_axis(logs, labels, axis=-1).sum(axis=(-2, -1))
  largest = of_draws.max(axis=-1, keepdims=True)
  mean = np.exp(of_draws - largest).mean(axis=-1)
  return float(-np.mean(np.log(mean) + largest[..., 0]) / readings.shape[1])


def figures(probabilities: np.ndarray, readings: np.ndarray) -> dict:
  """All figures of draws, means over tasks."""
  answers = probabilities.argmax(axis=-1)
  is_open = _is_open(readings)
  differ = disagreement(answers, probabilities.shape[-1])
  right = answers[..., np.newaxis] == readings[:, np.newaxis]
  confidence = probabilities.max(axis=-1).mean(axis=1)
  found = {
    "covered": covered(probabilities, readings).mean(),
    "covered_by_luck": covered(shuffled(probabilities), readings).mean(),
    "takes_a_reading": _takes_one(probabilities, readings).mean(),
    "disagreeing_open": differ[is_open].mean(),
    "disagreeing_closed": differ[~is_open].mean(),
    "confidence_open": confidence[is_open].mean(),
    "draw_accuracy": right.mean(),
    "draw_accuracy_closed": right[..., 0].mean(axis=1)[~is_open].mean(),
    "joint_nll": joint_loss(probabilities, readings),
  }
  return {name: float(value) for name, value in found.items()}


def _takes_one(probabilities: np.ndarray, readings: np.ndarray) -> np.ndarray:
  """Whether a draw takes either reading, `[T, M]`."""
  return np.any(agreement(probabilities, readings) >= SHARE, axis=-1)


def _is_open(readings: np.ndarray) -> np.ndarray:
  return readings[..., 0] != readings[..., 1]
