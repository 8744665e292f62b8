"""The FFT channel: log-magnitude of the two-dimensional DFT."""

from __future__ import annotations

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant
from bdd_tf.models.channels.dft import spectrum_quadrants, whole_spectrum
from bdd_tf.models.channels.layer import ChannelLayer


def fft_log_magnitude(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """Compute the log-magnitude of the spectrum, with the zero frequency in the centre.

    Args:
        grey_levels: float32 integers in [0, 255], H and W even and known.
        variant: ``"paper"``: ``20 ln(|F| + 1e-9) / 255``, about [-1.63, 1.3]. ``"stable"``:
            ``ln(1 + |F|) / ln(1 + 255 H W)`` in [0, 1], without the steep drop at empty bins.

    Shape:
        [N, H, W, 1] -> [N, H, W, 1] float32

    Raises:
        UsageError: For an unknown variant, or if H or W is unknown or odd.

    Example:
        >>> float(fft_log_magnitude(tf.fill([1, 32, 32, 1], 255.0), "stable")[0, 16, 16, 0])
        1.0
    """
    check_variant(variant)
    _, height, width, _ = grey_levels.shape
    offset, scale = (1e-9, 20.0 / 255.0) if variant == "paper" else (1.0, 0.0)
    # The logarithm is taken of the quadrants, before symmetry fills the map: half the number of logarithms.
    quadrants = spectrum_quadrants(grey_levels)
    scale = scale or float(1.0 / np.log1p(255.0 * height * width))
    return whole_spectrum(*(tf.math.log(bins + offset) * scale for bins in quadrants))


@tf.keras.utils.register_keras_serializable("bdd_tf")
class FFTLogMagnitude(ChannelLayer):
    """:func:`fft_log_magnitude` of RGB images."""

    channel = staticmethod(fft_log_magnitude)
