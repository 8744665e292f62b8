"""Compare an embedded thumbnail with its image: a picture that was changed afterwards may keep the old thumbnail."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.views import size_of

MOST_PIXELS = 2_000_000
"""Larger thumbnails are not decoded."""

_SIDE = 24
_SAMPLES = 4 * _SIDE
_SAME_CORRELATION = 0.7
_SAME_ASPECT = 1.12
_BLACK = 24
"""Cameras pad thumbnails of another aspect ratio with bars at most this bright."""
_FLAT = 4.0


def shows_another(thumbnail: bytes, image: Image.Image | NDArray[np.uint8]) -> bool | None:
    """Whether a thumbnail shows another picture than its image, or another part of it.

    Args:
        thumbnail: A JPEG file.
        image: The decoded image: a PIL image of mode RGB, or uint8 [H, W, 3]. It may be rotated against the thumbnail by
            multiples of 90 degrees.

    Returns:
        True or False; None if that cannot be told: the thumbnail is damaged or too large, or one of both is flat.
    """
    small = _decoded(thumbnail)
    if small is None:
        return None
    width, height = size_of(image)
    whole = _normalised(_grey(image))
    best = -1.0
    for turns in range(4):
        turned = np.rot90(small, turns)
        ratio = (turned.shape[1] / turned.shape[0]) / (width / height)
        if max(ratio, 1 / ratio) > _SAME_ASPECT:
            continue
        one = _normalised(_sampled(turned))
        if one is None or whole is None:
            return None
        best = max(best, float((one * whole).mean()))
    return best < _SAME_CORRELATION


def _decoded(thumbnail: bytes) -> NDArray[np.uint8] | None:
    """Grey pixels without black bars; None if the file cannot be decoded."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as file:
            warnings.simplefilter("ignore")
            if file.width * file.height > MOST_PIXELS or min(file.size) < _SIDE:
                return None
            pixels = np.asarray(file.convert("L"))
    except Exception:  # Pillow raises many types on damaged files
        return None
    rows, columns = (np.flatnonzero(pixels.max(axis) > _BLACK) for axis in (1, 0))
    if len(rows) < _SIDE or len(columns) < _SIDE:
        return None
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _grey(image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means of `_SIDE` x `_SIDE` parts, from a sparse grid of pixels: the cost does not depend on the image's size."""
    if isinstance(image, np.ndarray):
        return _sampled(image).mean(axis=2) if image.ndim == 3 else _sampled(image)
    size = (_SAMPLES, _SAMPLES)
    return _sampled(np.asarray(image.resize(size, Image.Resampling.NEAREST).convert("L")))


def _sampled(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    rows, columns = (((np.arange(_SAMPLES) + 0.5) * side / _SAMPLES).astype(int) for side in pixels.shape[:2])
    grid = pixels[rows[:, None], columns].astype(np.float64)
    parts: NDArray[np.float64] = grid.reshape(_SIDE, 4, _SIDE, 4, *grid.shape[2:]).mean(axis=(1, 3))
    return parts


def _normalised(grey: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Zero mean and unit deviation; None if the picture is flat."""
    deviation = float(grey.std())
    return None if deviation < _FLAT else (grey - grey.mean()) / deviation
