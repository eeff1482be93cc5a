from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tfmeta


class EmbeddingHeadTest(parameterized.TestCase):
  @parameterized.parameters(True, False)
  def test_it_is_a_product_with_vectors_of_length_one(self, normalize):
    model = tfmeta.models.embedding_head(4, ways=3, normalize=normalize)
    x = 5 * np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    (kernel,) = model.get_weights()
    length = np.linalg.norm(x, axis=1, keepdims=True) if normalize else 1.0
    np.testing.assert_allclose(model(x), (x / length) @ kernel, atol=1e-5)

  def test_bias(self):
    model = tfmeta.models.embedding_head(4, ways=3, use_bias=True)
    self.assertEqual([w.shape for w in model.get_weights()], [(4, 3), (3,)])

  @parameterized.parameters((0, 3), (4, 0))
  def test_sizes_must_be_positive(self, features, ways):
    with self.assertRaisesRegex(ValueError, "Received"):
      tfmeta.models.embedding_head(features, ways=ways)


if __name__ == "__main__":
  absltest.main()
