"""The median channel: what a 3 x 3 median filter removes."""

from __future__ import annotations

from bdd_tf.edge.images.channel_constants import DETAIL_RANGE
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant
from bdd_tf.models.channels.layer import ChannelLayer

#: Exchanges that bring the median of nine values to place 4 (Paeth, Graphics Gems I, 1990, in Devillard's form).
_EXCHANGES = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3), (5, 8), (4, 7), (3, 6), (1, 4),
    (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip


def median_filter(grey_levels: tf.Tensor) -> tf.Tensor:
    """Filter with the median of 3 x 3 pixels, borders reflected.

    Shape:
        [N, H, W, 1] -> [N, H, W, 1], H and W at least 2
    """
    _, height, width, _ = grey_levels.shape
    padded = tf.pad(grey_levels, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT")
    values = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    for low, high in _EXCHANGES:
        values[low], values[high] = (
            tf.minimum(values[low], values[high]),
            tf.maximum(values[low], values[high]),
        )
    return values[4]


def median_residual(grey_levels: tf.Tensor, variant: str = "stable") -> tf.Tensor:
    """Subtract the median of 3 x 3 pixels, as FerretNet does.

    Args:
        grey_levels: float32 integers in [0, 255], H and W at least 2.
        variant: ``"paper"``: ``clip(residual / 16, -1, 1)``. ``"stable"``: the same, shifted and scaled to [0, 1].

    Shape:
        [N, H, W, 1] -> [N, H, W, 1] float32

    Raises:
        UsageError: For an unknown variant.

    Example:
        >>> float(median_residual(tf.fill([1, 8, 8, 1], 255.0), "paper")[0, 0, 0, 0])
        0.0
    """
    check_variant(variant)
    residual = (grey_levels - median_filter(grey_levels)) * (1.0 / DETAIL_RANGE)
    residual = tf.clip_by_value(residual, -1.0, 1.0)
    return residual if variant == "paper" else residual * 0.5 + 0.5


@tf.keras.utils.register_keras_serializable("bdd_tf")
class MedianResidual(ChannelLayer):
    """:func:`median_residual` of RGB images."""

    channel = staticmethod(median_residual)
