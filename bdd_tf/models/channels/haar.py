"""The Haar channels: details of luma at two scales, without decimation."""

from __future__ import annotations

import numpy as np

from bdd_tf.edge.images.channel_constants import DETAIL_RANGE, LUMA
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant

#: Number of channels: horizontal (LH), vertical (HL) and diagonal (HH) details at 2 pixels, then at 4.
DEPTH = 6
#: Signs of a 2 x 2 block for the three details.
_SIGNS = (((1, -1), (1, -1)), ((1, 1), (-1, -1)), ((1, -1), (-1, 1)))


def _kernel() -> np.ndarray:
    """The details as one 4 x 4 convolution: float32 [4, 4, 3, 6]."""
    kernel = np.zeros((4, 4, 3, DEPTH), np.float32)
    luma = np.array(LUMA, np.float32)
    for index, signs in enumerate(np.array(_SIGNS, np.float32)):
        kernel[1:3, 1:3, :, index] = signs[..., None] / 2 * luma
        # The same transform of 2 x 2 means: weights of 1/8 over 4 x 4 pixels.
        kernel[..., 3 + index] = np.kron(signs, np.ones((2, 2), np.float32))[..., None] / 8 * luma
    return kernel / DETAIL_RANGE


def haar_details(images: tf.Tensor, variant: str = "stable") -> tf.Tensor:
    """Compute the undecimated Haar details of luma.

    With a 2 x 2 block ``a b / c d`` of luma: LH = (a - b + c - d) / 2, HL = (a + b - c - d) / 2,
    HH = (a - b - c + d) / 2; the coarser scale is the same transform of 2 x 2 means. Residual detectors such as NPR and
    SAFE see linear combinations of these details.

    Args:
        images: uint8, or float32 in [0, 255], RGB, H and W at least 3.
        variant: ``"paper"``: ``clip(detail / 16, -1, 1)``. ``"stable"``: the same, shifted and scaled to [0, 1].

    Shape:
        [N, H, W, 3] -> [N, H, W, 6] float32

    Raises:
        UsageError: For an unknown variant.

    Example:
        >>> haar_details(tf.zeros([1, 8, 8, 3], tf.uint8), "stable").numpy()[0, 4, 4]
        array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], dtype=float32)
    """
    check_variant(variant)
    # A pixel's fine block starts at the pixel, its coarse one a pixel before. Borders are reflected: zeros would be edges.
    padded = tf.pad(tf.cast(images, tf.float32), [[0, 0], [1, 2], [1, 2], [0, 0]], mode="REFLECT")
    details = tf.nn.conv2d(padded, tf.constant(_kernel()), strides=1, padding="VALID")
    details = tf.clip_by_value(details, -1.0, 1.0)
    return details if variant == "paper" else details * 0.5 + 0.5


@tf.keras.utils.register_keras_serializable("bdd_tf")
class HaarDetails(tf.keras.layers.Layer):
    """:func:`haar_details` of RGB images.

    Args:
        variant: ``"paper"`` or ``"stable"``.

    Shape:
        [N, H, W, 3] -> [N, H, W, 6]
    """

    def __init__(self, variant: str = "stable", **kwargs: object):
        super().__init__(**kwargs)
        self.variant = check_variant(variant)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Compute the details of RGB images."""
        return haar_details(images, self.variant)

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "variant": self.variant}
