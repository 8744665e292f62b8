"""The check that no binary convolution became a float one."""

import numpy as np
import pytest

from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from converters.tflite import builtin_ops
from converters.verify import check_operators


def convolution(kernel):
    image = tf.keras.Input((8, 8, 3), batch_size=1)
    maps = tf.keras.layers.Conv2D(64, 3, use_bias=False)(image)
    layer = tf.keras.layers.Conv2D(64, 3, use_bias=False)
    model = tf.keras.Model(image, layer(maps))
    layer.set_weights([kernel])
    return model


def test_weights_of_zeros_are_not_taken_for_signs():
    shape = (3, 3, 64, 64)
    # timm and open_clip initialise the last scale of each residual block with 0.
    zeros = convolution(np.zeros(shape, np.float32))
    check_operators(zeros, parse_tflite(builtin_ops.float_file(zeros)))
    signs = convolution(np.where(np.random.default_rng(0).random(shape) < 0.5, -0.5, 0.5).astype(np.float32))
    with pytest.raises(BddError, match=r"holds the weights of a binary convolution in a float CONV_2D"):
        check_operators(signs, parse_tflite(builtin_ops.float_file(signs)))
