"""Measures whether samples take both readings of an ambiguous support set.

A support set has two readings if two rules explain its labels. A query is open
if the readings give it different answers. Arrays have T tasks, M samples, Q
queries and W classes: `probabilities` are those of each sample, `[T, M, Q, W]`,
and `readings` are the answers of both readings, `[T, Q, 2]`.
"""

import numpy as np

# Probability that a sample must give to the answers of a reading.
READING_PROBABILITY = 0.8


def is_open(readings: np.ndarray) -> np.ndarray:
  """Returns whether the readings give different answers, `[T, Q]` or `[Q]`.

  Args:
    readings: Answers of both readings, `[T, Q, 2]` or `[Q, 2]`.
  """
  return readings[..., 0] != readings[..., 1]


def agreement(probabilities: np.ndarray, readings: np.ndarray) -> np.ndarray:
  """Returns the probability that a sample gives each reading, `[T, M, 2]`.

  The mean is over open queries. A sample that wavers between the readings, with
  a slight preference for one, therefore takes neither.
  """
  mask = is_open(readings)[:, np.newaxis, :, np.newaxis]
  given = np.take_along_axis(probabilities, readings[:, np.newaxis], axis=-1)
  count = np.maximum(mask.sum(axis=2), 1)
  return (given * mask).sum(axis=2) / count


def is_covered(probabilities: np.ndarray, readings: np.ndarray) -> np.ndarray:
  """Returns whether samples take both readings, `[T]`."""
  best = agreement(probabilities, readings).max(axis=1)
  return np.all(best >= READING_PROBABILITY, axis=1)


def count_likeliest(
  probabilities: np.ndarray, readings: np.ndarray
) -> np.ndarray:
  """Returns how many readings are the likeliest one for some sample, `[T]`.

  This is the coverage of the PLATIPUS paper. It has no threshold, so a sample
  with a slight preference counts as much as one that is sure.
  """
  labels = readings[:, np.newaxis]
  given = np.take_along_axis(probabilities, labels, axis=-1)
  of_samples = np.log(np.maximum(given, 1e-7)).sum(axis=2)
  likeliest = of_samples.argmax(axis=-1)
  found = [np.any(likeliest == one, axis=1) for one in range(2)]
  return np.sum(found, axis=0)


def shuffle_samples(probabilities: np.ndarray, seed: int = 0) -> np.ndarray:
  """Deals the answers to each query to the samples at random.

  Samples that take a reading do so in all queries, so a task that is still
  covered after this is covered by luck.
  """
  random = np.random.default_rng(seed)
  order = random.random(probabilities.shape[:-1]).argsort(axis=1)
  return np.take_along_axis(probabilities, order[..., np.newaxis], axis=1)


def disagreement(answers: np.ndarray, ways: int) -> np.ndarray:
  """Returns the share of pairs of samples that differ, `[T, Q]`.

  Args:
    answers: Most likely class of each sample, `[T, M, Q]`.
    ways: Number of classes.
  """
  samples = answers.shape[1]
  votes = np.stack([(answers == way).sum(axis=1) for way in range(ways)])
  alike = (votes * (votes - 1)).sum(axis=0)
  return 1 - alike / (samples * (samples - 1)) if samples > 1 else 0.0 * alike


def joint_loss(probabilities: np.ndarray, readings: np.ndarray) -> float:
  """Returns the negative log-likelihood of a task's queries, per query.

  The likelihood is that of all queries at once under the mixture of samples,
  and the loss is a mean over both readings. A sample that takes a reading makes
  it likely. Samples that are undecided in every query do not.
  """
  labels = np.moveaxis(readings, -1, 0)[:, :, np.newaxis, :, np.newaxis]
  logs = np.log(np.maximum(probabilities, 1e-7))[np.newaxis]
  of_samples = np.take_along_axis(logs, labels, axis=-1).sum(axis=(-2, -1))
  # Subtracting the largest logarithm keeps `exp` from underflowing.
  largest = of_samples.max(axis=-1, keepdims=True)
  mean = np.exp(of_samples - largest).mean(axis=-1)
  return float(-np.mean(np.log(mean) + largest[..., 0]) / readings.shape[1])


def all_metrics(
  probabilities: np.ndarray, readings: np.ndarray
) -> dict[str, float]:
  """Returns all metrics of samples as means over tasks."""
  answers = probabilities.argmax(axis=-1)
  mask = is_open(readings)
  differ = disagreement(answers, probabilities.shape[-1])
  right = answers[..., np.newaxis] == readings[:, np.newaxis]
  confidence = probabilities.max(axis=-1).mean(axis=1)
  shuffled = shuffle_samples(probabilities)
  found = {
    "covered": is_covered(probabilities, readings).mean(),
    "likeliest_readings": count_likeliest(probabilities, readings).mean(),
    "covered_by_luck": is_covered(shuffled, readings).mean(),
    "takes_a_reading": _takes_reading(probabilities, readings).mean(),
    "disagreeing_open": differ[mask].mean(),
    "disagreeing_closed": differ[~mask].mean(),
    "confidence_open": confidence[mask].mean(),
    "sample_accuracy": right.mean(),
    "sample_accuracy_closed": right[..., 0].mean(axis=1)[~mask].mean(),
    "joint_nll": joint_loss(probabilities, readings),
  }
  return {name: float(value) for name, value in found.items()}


def _takes_reading(
  probabilities: np.ndarray, readings: np.ndarray
) -> np.ndarray:
  """Returns whether a sample takes either reading, `[T, M]`."""
  return np.any(
    agreement(probabilities, readings) >= READING_PROBABILITY, axis=-1
  )
