"""The Sobel channel: magnitude of the 7 x 7 Sobel gradient."""

from __future__ import annotations

import numpy as np

from bdd_tf.edge.images.channel_constants import SOBEL_DERIVE, SOBEL_SMOOTH
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant
from bdd_tf.models.channels.layer import ChannelLayer

#: Upper bound of the magnitude: one side of the kernel sums to 64 * 10, at 255 grey levels, in both directions.
_SOBEL_MAX = 64 * 10 * 255 * np.sqrt(2.0)


def sobel_magnitude(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """Compute the length of the gradient, as OpenCV's ``Sobel(..., ksize=7)`` gives it in both directions.

    Args:
        grey_levels: float32 integers in [0, 255], H and W at least 4.
        variant: ``"paper"``: magnitude / 255, unnormalised, up to 905. ``"stable"``:
            ``ln(1 + magnitude) / ln(1 + maximum)`` in [0, 1].

    Shape:
        [N, H, W, 1] -> [N, H, W, 1] float32

    Raises:
        UsageError: For an unknown variant.

    Example:
        >>> float(sobel_magnitude(tf.fill([1, 8, 8, 1], 255.0))[0, 0, 0, 0])
        0.0
    """
    check_variant(variant)
    padded = tf.pad(grey_levels, [[0, 0], [3, 3], [3, 3], [0, 0]], mode="REFLECT")
    smooth, derive = np.array(SOBEL_SMOOTH, np.float32), np.array(SOBEL_DERIVE, np.float32)

    def separable(vertical: np.ndarray, horizontal: np.ndarray) -> tf.Tensor:
        x = tf.nn.conv2d(padded, tf.constant(vertical.reshape(7, 1, 1, 1)), strides=1, padding="VALID")
        return tf.nn.conv2d(x, tf.constant(horizontal.reshape(1, 7, 1, 1)), strides=1, padding="VALID")

    dx = separable(smooth, derive)
    dy = separable(derive, smooth)
    magnitude = tf.sqrt(dx * dx + dy * dy)
    if variant == "paper":
        return magnitude * (1.0 / 255.0)
    return tf.math.log(magnitude + 1.0) * float(1.0 / np.log1p(_SOBEL_MAX))


@tf.keras.utils.register_keras_serializable("bdd_tf")
class SobelMagnitude(ChannelLayer):
    """:func:`sobel_magnitude` of RGB images."""

    channel = staticmethod(sobel_magnitude)
