"""Recurrent layers that can be differentiated twice on GPUs."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("tfmeta")
class LSTM(keras.layers.LSTM):
  """Long short-term memory that can be differentiated twice on GPUs.

  On GPUs, Keras's layer uses a kernel of cuDNN. TensorFlow has a gradient of
  this kernel, and no gradient of that gradient. This layer computes the same
  values with elementary operations, as Keras's does on CPUs.

  Args:
    units: Integer > 0, the size of the output.
    **kwargs: The other arguments of `keras.layers.LSTM`, except for
      `use_cudnn`, which is ignored.
  """

  def __init__(self, units: int, **kwargs: Any):
    super().__init__(units, **{**kwargs, "use_cudnn": False})


@keras.saving.register_keras_serializable("tfmeta")
class GRU(keras.layers.GRU):
  """Gated recurrent unit that can be differentiated twice on GPUs.

  On GPUs, Keras's layer uses a kernel of cuDNN. TensorFlow has a gradient of
  this kernel, and no gradient of that gradient. This layer computes the same
  values with elementary operations, as Keras's does on CPUs.

  Args:
    units: Integer > 0, the size of the output.
    **kwargs: The other arguments of `keras.layers.GRU`, except for `use_cudnn`,
      which is ignored.
  """

  def __init__(self, units: int, **kwargs: Any):
    super().__init__(units, **{**kwargs, "use_cudnn": False})
