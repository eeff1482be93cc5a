"""Tests which weights "head", names of layers and functions choose."""

from absl.testing import absltest
from absl.testing import parameterized
import keras

from tfmeta.layers import chosen_weights


def _model():
  """Builds two nested blocks, each with a layer named "dense", and a head."""
  inputs = keras.Input((3,))
  x = inputs
  for name in ("first", "second"):
    block = keras.Sequential(
      [
        keras.Input((3,)),
        keras.layers.Dense(3, name="dense"),
        keras.layers.BatchNormalization(scale=False, name=f"{name}_norm"),
      ],
      name=name,
    )
    x = block(x)
  return keras.Model(inputs, keras.layers.Dense(2, name="last")(x))


class ChosenMaskTest(parameterized.TestCase):
  # Weights: first/dense (2), first_norm (1), second/dense (2), second_norm (1),
  # last (2).
  @parameterized.named_parameters(
    ("head", "head", [6, 7]),
    ("one_name", "first_norm", [2]),
    ("path", ["second/dense"], [3, 4]),
    ("names_in_any_order", ("last", "first/dense"), [0, 1, 6, 7]),
    ("function", lambda v: v.path.endswith("kernel"), [0, 3, 6]),
  )
  def test_chooses(self, choice, expected):
    mask = chosen_weights.chosen_mask(_model(), "adapted", choice)
    self.assertEqual([i for i, chosen in enumerate(mask) if chosen], expected)
    self.assertLen(mask, 8)

  def test_head_is_the_last_layer_with_trainable_weights(self):
    model = _model()
    model.get_layer("last").trainable = False
    mask = chosen_weights.chosen_mask(model, "adapted", "head")
    self.assertEqual(mask, [False] * 5 + [True])

  @parameterized.named_parameters(
    ("unknown", ["last", "nine"]),
    ("ambiguous", "dense"),
    ("model", "first"),
    ("empty", []),
    ("number", 3),
  )
  def test_refuses_what_is_no_layer(self, choice):
    message = (
      "`adapted` must be 'head', paths or unique names.*first/dense, "
      "first/first_norm, second/dense, second/second_norm, last.*"
      "Received: adapted="
    )
    with self.assertRaisesRegex(ValueError, message):
      chosen_weights.chosen_mask(_model(), "adapted", choice)

  def test_refuses_a_frozen_layer(self):
    model = _model()
    model.get_layer("last").trainable = False
    with self.assertRaisesRegex(ValueError, "with trainable weights"):
      chosen_weights.chosen_mask(model, "adapted", "last")

  def test_refuses_to_choose_nothing(self):
    with self.assertRaisesRegex(
      ValueError, "`part` must choose at least one.*last/kernel.*Received: part"
    ):
      chosen_weights.chosen_mask(_model(), "part", lambda v: False)


if __name__ == "__main__":
  absltest.main()
