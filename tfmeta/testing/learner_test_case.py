"""The exam that every learner must pass; use it for your own learners too."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from absl.testing import parameterized
import keras

from tfmeta.testing import exam
from tfmeta.testing.exam import subject as subjects


class LearnerTestCase(parameterized.TestCase):
  """A test case that can run the exam on a learner.

  Example:
  ```python
  class MyLearnerTest(tfmeta.testing.LearnerTestCase):

    def test_exam(self):
      self.run_learner_test(MyLearner, init_kwargs={"inner_steps": 2})
  ```
  """

  def run_learner_test(
    self,
    learner_class: type,
    *,
    init_kwargs: dict[str, Any] | None = None,
    backbones: Sequence[str] = ("mlp", "conv"),
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(0.01),
    draws: bool = False,
    checks: Sequence[Callable[..., None]] = exam.CHECKS,
  ) -> None:
    """Asks all questions of the exam, each one as a subtest.

    Args:
      learner_class: A subclass of `MetaLearner`.
      init_kwargs: Its arguments besides the model. They must describe an inner
        loop that lowers the support loss of tasks with 3 ways and 2 shots.
      backbones: Networks to run the exam on: any of `"mlp"`, `"conv"` (two
        convolutional blocks), `"conv4"` (four of them) and `"embeddings"`.
        Defaults to `("mlp", "conv")`.
      optimizer: Function that makes the outer optimizer. Defaults to Adam with
        a learning rate of 0.01.
      draws: Whether only training, or only prediction, samples weights. If
        `True`, the exam does not compare their losses. Defaults to `False`.
      checks: The questions: functions that take a test case and a
        `tfmeta.testing.exam.subject.Subject`. Defaults to all questions.
    """
    for backbone in backbones:
      subject = subjects.Subject(
        learner_class, init_kwargs or {}, backbone, optimizer, draws
      )
      for check in checks:
        with self.subTest(f"{check.__name__} on {backbone}"):
          check(self, subject)
