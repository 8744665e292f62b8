"""The input of the network as images for people: RGB, FFT channel and LBP channel, computed with NumPy.

Formulas, sources and scales are documented in `bdd_tf.models.channels`, which needs TensorFlow. A test
asserts that both implementations agree.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.channel_constants import GREY_BITS, GREY_WEIGHTS, LBP_FAR, LBP_NEAR, LBP_RADIUS


def grey(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Convert RGB to the grey levels from which the forensic channels are computed.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        int64 [H, W] in [0, 255].
    """
    levels: NDArray[np.int64] = (image @ np.array(GREY_WEIGHTS) + (1 << GREY_BITS - 1)) >> GREY_BITS
    return levels


def fft_log_magnitude(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute ``ln(1 + |F|) / ln(1 + 255 H W)`` with the zero frequency in the centre.

    Args:
        levels: [H, W] integers in [0, 255].

    Returns:
        [H, W] in [0, 1].
    """
    magnitude: NDArray[np.float64] = np.abs(np.fft.fftshift(np.fft.fft2(levels)))
    scaled: NDArray[np.float64] = np.log1p(magnitude) / np.log1p(255.0 * levels.size)
    return scaled


def local_binary_pattern(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each pixel, the points at radius 6 that are at least as bright as the pixel.

    There are three points, 120 degrees apart. Pixels outside the image count as 0.

    Args:
        levels: [H, W] integers in [0, 255].

    Returns:
        [H, W] integers from 0 to 3.
    """
    height, width = levels.shape
    padded = np.pad(levels, LBP_RADIUS)

    def shifted(down: int, right: int) -> NDArray[np.int64]:
        top, left = LBP_RADIUS + down, LBP_RADIUS + right
        return padded[top : top + height, left : left + width] - levels

    count = (shifted(0, LBP_RADIUS) >= 0).astype(np.int64)
    for side in (-1, 1):
        far, near = (
            shifted(side * LBP_RADIUS, -LBP_RADIUS // 2),
            shifted(side * (LBP_RADIUS - 1), -LBP_RADIUS // 2),
        )
        count += LBP_FAR * far + LBP_NEAR * near >= 0
    return count


def channel_pngs(image: NDArray[np.uint8]) -> dict[str, bytes]:
    """Render the network's input as PNG files.

    Args:
        image: uint8 [H, W, 3], RGB, as `bdd_tf.edge.load_image` returns it.

    Returns:
        PNG files by name. ``input`` is the image itself. ``fft`` is grey, scaled so that the smallest value is black
        and the largest white. ``lbp`` is grey, with the counts 0 to 3 from black to white.
    """
    levels = grey(image)
    spectrum = fft_log_magnitude(levels)
    spectrum -= spectrum.min()
    spectrum *= 255 / max(spectrum.max(), 1e-9)
    return {
        "input": _png(image),
        "fft": _png(np.rint(spectrum).astype(np.uint8)),
        "lbp": _png((local_binary_pattern(levels) * 85).astype(np.uint8)),
    }


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
