"""Grey levels, from which all other channels are computed."""

from __future__ import annotations

import numpy as np

from bdd_tf.edge.images.channel_constants import GREY_BITS, GREY_WEIGHTS
from bdd_tf.legacy_keras import tf


def grey(images: tf.Tensor) -> tf.Tensor:
    """Convert to grey as the published code does: OpenCV's BGR2GRAY applied to RGB data.

    Args:
        images: uint8, or float32 that holds integers in [0, 255], RGB.

    Returns:
        float32 integers in [0, 255], equal to OpenCV's uint8 result.

    Shape:
        [N, H, W, 3] -> [N, H, W, 1]

    Example:
        >>> grey(tf.constant([[[[255, 0, 0]]]], tf.uint8)).numpy().ravel()
        array([29.], dtype=float32)
    """
    x = tf.cast(images, tf.float32)
    weights = tf.constant(np.array(GREY_WEIGHTS, np.float32).reshape(1, 1, 3, 1))
    # All sums are integers below 2**24, the scale is a power of two: exact in float32.
    total = tf.nn.conv2d(x, weights, strides=1, padding="VALID")
    return tf.floor((total + float(1 << GREY_BITS - 1)) / float(1 << GREY_BITS))
