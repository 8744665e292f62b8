"""The LBP channel: uniform local binary pattern with 3 points at radius 6."""

from __future__ import annotations

from bdd_tf.edge.images.channel_constants import LBP_FAR, LBP_NEAR, LBP_RADIUS
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant
from bdd_tf.models.channels.layer import ChannelLayer


def local_binary_pattern(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """Count the sample points that are at least as bright as the centre.

    With three points every pattern is uniform, so the pattern is this count. The points are sampled bilinearly, with 0
    outside the image, as in scikit-image's ``local_binary_pattern(grey, P=3, R=6, method="uniform")``.

    Args:
        grey_levels: float32 integers in [0, 255].
        variant: ``"paper"``: count / 255 (four values within 0.012). ``"stable"``: count / 3.

    Shape:
        [N, H, W, 1] -> [N, H, W, 1] float32

    Raises:
        UsageError: For an unknown variant.

    Example:
        >>> float(local_binary_pattern(tf.zeros([1, 8, 8, 1]), "stable")[0, 0, 0, 0])
        1.0
    """
    check_variant(variant)
    _, height, width, _ = grey_levels.shape
    radius, back = LBP_RADIUS, LBP_RADIUS // 2
    padded = tf.pad(grey_levels, [[0, 0], [radius, radius], [back, radius], [0, 0]])

    def shifted(down: int, right: int) -> tf.Tensor:
        top, left = radius + down, back + right
        return padded[:, top : top + height, left : left + width, :] - grey_levels

    def at_least(difference: tf.Tensor) -> tf.Tensor:
        # The difference is an exact integer: 1 where it is >= 0, else 0.
        return tf.clip_by_value(difference + 1.0, 0.0, 1.0)

    count = at_least(shifted(0, radius))
    for side in (-1, 1):
        far, near = shifted(side * radius, -back), shifted(side * (radius - 1), -back)
        count += at_least(float(LBP_FAR) * far + float(LBP_NEAR) * near)
    return count * (1.0 / 255.0 if variant == "paper" else 1.0 / 3.0)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class LocalBinaryPattern(ChannelLayer):
    """:func:`local_binary_pattern` of RGB images."""

    channel = staticmethod(local_binary_pattern)
