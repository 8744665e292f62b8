"""The FFT and LBP channels of one image as pictures to look at, in numpy.

The formulas, their sources and their scales are in `bdd_tf.channels`, which needs TensorFlow; a test holds both equal.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# For the colours, and for the sample points at row offset 5.19615 of radius 6: see bdd_tf.channels.
_GREY_WEIGHTS = np.array([3735, 19235, 9798])
_RADIUS, _FAR, _NEAR = 6, 3923, 16077


def grey(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Grey levels as the network's channels are made of them: uint8 [H, W, 3] RGB to int64 [H, W] in [0, 255]."""
    levels: NDArray[np.int64] = (image @ _GREY_WEIGHTS + (1 << 14)) >> 15
    return levels


def fft_log_magnitude(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """``ln(1 + |F|) / ln(1 + 255 H W)``, zero frequency in the centre.

    Args:
        levels: [H, W] integers in [0, 255].

    Returns:
        [H, W] in [0, 1].
    """
    magnitude: NDArray[np.float64] = np.abs(np.fft.fftshift(np.fft.fft2(levels)))
    scaled: NDArray[np.float64] = np.log1p(magnitude) / np.log1p(255.0 * levels.size)
    return scaled


def local_binary_pattern(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of three points at radius 6 (0 outside the image) are at least as bright as the pixel.

    Args:
        levels: [H, W] integers in [0, 255].

    Returns:
        [H, W] integers from 0 to 3.
    """
    height, width = levels.shape
    padded = np.pad(levels, _RADIUS)

    def shifted(down: int, right: int) -> NDArray[np.int64]:
        top, left = _RADIUS + down, _RADIUS + right
        return padded[top : top + height, left : left + width] - levels

    count = (shifted(0, _RADIUS) >= 0).astype(np.int64)
    for side in (-1, 1):
        far, near = shifted(side * _RADIUS, -_RADIUS // 2), shifted(side * (_RADIUS - 1), -_RADIUS // 2)
        count += _FAR * far + _NEAR * near >= 0
    return count


def pictures(image: NDArray[np.uint8]) -> dict[str, bytes]:
    """What the network sees of an image.

    Args:
        image: uint8 [H, W, 3], RGB, as `bdd_tf.edge.load_image` returns it.

    Returns:
        PNG files: ``input``, the image itself; ``fft``, grey, its smallest value black and its largest white;
        ``lbp``, grey, the counts 0 to 3 from black to white.
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
