"""The exam that every learner must pass; users' own are welcome."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from absl.testing import parameterized
import keras

from tfmeta.testing import exam
from tfmeta.testing.exam import subject as subjects


class LearnerTestCase(parameterized.TestCase):
  """A test case with the exam of learners.

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
    backbones: Sequence[str] = ("mlp", "conv4"),
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(0.01),
    draws: bool = False,
    checks: Sequence[Callable[..., None]] = exam.CHECKS,
  ) -> None:
    """Asks all questions of the exam, each one as a subtest.

    Args:
      learner_class: A subclass of `MetaLearner`.
      init_kwargs: Its arguments besides the model. The inner loop they
        describe must be one that lowers the support loss of tasks of 3 ways
        and 2 shots.
      backbones: Any of `"mlp"`, `"conv4"` and `"embeddings"`.
      optimizer: Makes the outer optimizer.
      draws: Whether training draws what predictions do without, or otherwise.
        Such a learner is not asked whether its loss in training is that of a
        prediction.
      checks: The questions, functions `(test case, subject)`.
    """
    for backbone in backbones:
      subject = subjects.Subject(
        learner_class, init_kwargs or {}, backbone, optimizer, draws
      )
      for check in checks:
        with self.subTest(f"{check.__name__} on {backbone}"):
          check(self, subject)
