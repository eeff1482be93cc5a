"""The multilayer perceptron."""

from collections.abc import Sequence

import keras

from tfmeta import arguments
from tfmeta import layers
from tfmeta.models import blocks


def mlp(
  input_shape: Sequence[int],
  *,
  outputs: int,
  hidden: Sequence[int] = (40, 40),
  context: int = 0,
  activation: str = "relu",
  kernel_initializer: str | keras.Initializer = "glorot_uniform",
  dtype: str | None = None,
  name: str = "mlp",
) -> keras.Model:
  """Builds a multilayer perceptron.

  With `input_shape=(1,)` and `outputs=1`, the defaults give the network of
  MAML's sinusoid regression. The authors' code initializes its kernels with
  `keras.initializers.TruncatedNormal(stddev=0.01)`. The default here is
  Glorot's initialization, which reaches a lower error after the same number of
  updates.

  Args:
    input_shape: Shape of one example. Examples with more than one axis are
      flattened.
    outputs: Number of linear outputs: logits, or values of a regression.
    hidden: Units of the hidden layers, first to last. Defaults to `(40, 40)`.
    context: Number of learned inputs, which are the same for all examples and
      start at 0. They belong to the weights, so an inner loop adapts them. A
      few numbers can then change the function as a whole. Defaults to 0.
    activation: Activation of the hidden layers. Defaults to `"relu"`.
    kernel_initializer: Initializer of all kernels. Biases start at 0. Defaults
      to `"glorot_uniform"`.
    dtype: Dtype or policy of all layers. Defaults to Keras's global policy.
    name: Name of the model. Defaults to `"mlp"`.

  Returns:
    A built model, `[n, *input_shape] -> [n, outputs]`. Its layers with weights
    are called `hidden_1`, `hidden_2`, ..., and `head`; the one of the learned
    inputs is called `context`.

  Raises:
    ValueError: If `outputs` or an entry of `hidden` is not an integer of at
      least 1, or `context` of at least 0.

  References:
    C. Finn, P. Abbeel, S. Levine. Model-Agnostic Meta-Learning for Fast
    Adaptation of Deep Networks. ICML 2017. https://arxiv.org/abs/1703.03400
    (layer sizes read in the authors' code, github.com/cbfinn/maml)
  """
  arguments.check_integer("outputs", outputs, least=1)
  for units in hidden:
    arguments.check_integer("hidden", units, least=1)
  arguments.check_integer("context", context, least=0)
  inputs = x = blocks.model_input(input_shape, dtype)
  if len(input_shape) != 1:
    x = keras.layers.Flatten(dtype=dtype)(x)
  if context:
    x = layers.LearnedInputs(context, dtype=dtype, name="context")(x)
  options = {"kernel_initializer": kernel_initializer, "dtype": dtype}
  for number, units in enumerate(hidden, start=1):
    x = keras.layers.Dense(
      units, activation=activation, name=f"hidden_{number}", **options
    )(x)
  return keras.Model(
    inputs, keras.layers.Dense(outputs, name="head", **options)(x), name=name
  )
