"""Tests learned rates: shapes, steps, names and configuration."""

from absl.testing import absltest
import keras
import numpy as np

from tfmeta import layers


class LearnedRatesTest(absltest.TestCase):
  def test_one_rate_per_tensor_and_step(self):
    rates = layers.LearnedRates([(), ()], initial_rate=0.1, steps=3)
    self.assertEqual([r.shape for r in rates.rates], [(3,), (3,)])
    rates.rates[1].assign([1.0, 2.0, 3.0])
    found = [float(rate) for rate in rates.at(1)]
    np.testing.assert_allclose(found, [0.1, 2.0], rtol=1e-6)

  def test_one_rate_per_entry_for_all_steps(self):
    rates = layers.LearnedRates([(2, 3), (3,)], initial_rate=0.2)
    for step in (0, 7):
      self.assertEqual([r.shape for r in rates.at(step)], [(2, 3), (3,)])

  def test_config_and_names(self):
    rates = layers.LearnedRates(
      [()], initial_rate=0.1, steps=2, names=["dense/kernel"]
    )
    again = layers.LearnedRates.from_config(rates.get_config())
    self.assertEqual(again.get_config(), rates.get_config())
    self.assertEqual(again.rates[0].name, "dense_kernel")

  def test_names_must_be_as_many_as_shapes(self):
    with self.assertRaises(ValueError):
      layers.LearnedRates([(), ()], initial_rate=0.1, names=["one"])

  def test_dtype(self):
    rates = layers.LearnedRates([()], initial_rate=0.1, dtype="float64")
    self.assertEqual(
      keras.backend.standardize_dtype(rates.rates[0].dtype), "float64"
    )


if __name__ == "__main__":
  absltest.main()
