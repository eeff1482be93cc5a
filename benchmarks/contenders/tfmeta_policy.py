"""MAML with policy gradients by `tfmeta.rl`: times updates and prints JSON."""

import argparse
import json
import time

import keras

import tfmeta

GOALS, EPISODES, HORIZON = 20, 20, 100


class Clock(keras.callbacks.Callback):
  """A callback that notes how long each update takes."""

  def __init__(self):
    super().__init__()
    self.seconds, self.returns = [], []

  def on_train_batch_begin(self, batch, logs=None):
    """Starts the clock, and the metrics of this update."""
    self.model.reset_metrics()
    self.start = time.perf_counter()

  def on_train_batch_end(self, batch, logs=None):
    """Stops the clock."""
    self.seconds.append(time.perf_counter() - self.start)
    self.returns.append(float(logs["return"]))


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--updates", type=int, default=5)
  parser.add_argument("--optimizer", default="trust_region")
  parser.add_argument("--curvature_episodes", type=int, default=0)
  arguments = parser.parse_args()
  keras.utils.set_random_seed(0)
  env = tfmeta.environments.Navigation(horizon=HORIZON)
  learner = tfmeta.rl.MAML(
    tfmeta.models.gaussian_policy((2,), actions=2, hidden=(64, 64)),
    env,
    episodes=EPISODES,
    inner_learning_rate=0.1,
  )
  learner.compile(
    keras.optimizers.Adam(1e-3)
    if arguments.optimizer == "adam"
    else tfmeta.rl.TrustRegion(
      0.01, curvature_episodes=arguments.curvature_episodes or None
    )
  )
  clock = Clock()
  learner.fit(
    env.tasks("train", seed=0).batch(GOALS, drop_remainder=True),
    steps_per_epoch=arguments.updates,
    shuffle=False,
    verbose=0,
    callbacks=[clock],
  )
  print(json.dumps({"seconds": clock.seconds, "return": clock.returns[-1]}))


if __name__ == "__main__":
  main()
