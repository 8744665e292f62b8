"""Named conditions of the evaluation: what is done to both classes alike before a detector sees an image."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bdd_tf.datasets import codecs
from bdd_tf.datasets.codecs import Pixels
from bdd_tf.datasets.degrade import MARGIN, cut
from bdd_tf.errors import one_of

Generator = np.random.Generator
#: Range of the quality of a clean image's JPEG.
CLEAN_QUALITY = (75, 95)


def _last_jpeg(image: Pixels, rng: Generator) -> Pixels:
    low, high = CLEAN_QUALITY
    return codecs.jpeg(image, int(rng.integers(low, high + 1)), "4:2:0" if rng.random() < 0.7 else "4:4:4")


def _scaled(image: Pixels, factor: float, filter: str) -> Pixels:
    height, width = image.shape[:2]
    return codecs.resize(image, max(round(width * factor), 1), max(round(height * factor), 1), filter)


def _half(image: Pixels, rng: Generator) -> Pixels:
    return codecs.jpeg(_scaled(image, 0.5, "bicubic"), 85)


def _screenshot(image: Pixels, rng: Generator) -> Pixels:
    """Shown at a size of its own without a filter, on a screen of another contrast, then sent on."""
    shown = _scaled(image, float(rng.uniform(0.7, 0.95)), "cv-linear")
    shown = cv2.convertScaleAbs(shown, alpha=float(rng.uniform(0.92, 1.0)), beta=float(rng.uniform(0, 8)))
    return codecs.jpeg(shown, 90, "4:4:4")


def _upscale(image: Pixels, rng: Generator) -> Pixels:
    return _last_jpeg(_scaled(image, 1.5, "bicubic"), rng)


#: Name -> function of an image uint8 [H, W, 3] of any size and a random generator to the changed image.
CONDITIONS: dict[str, Callable[[Pixels, Generator], Pixels]] = {
    "clean": _last_jpeg,
    "jpeg70": lambda image, rng: codecs.jpeg(image, 70),
    "jpeg50": lambda image, rng: codecs.jpeg(image, 50),
    "webp70": lambda image, rng: codecs.webp(image, 70, method=4),
    "half": _half,
    "screenshot": _screenshot,
    "upscale": _upscale,
}


def apply_condition(image: Pixels, condition: str, seed: int, index: int) -> Pixels:
    """An image under a condition, cut off its own JPEG grid first.

    Args:
        image: uint8 [H, W, 3], RGB, any size.
        condition: A key of :data:`CONDITIONS`.
        seed: Seed of the evaluation.
        index: Of the image: its random numbers are the same under every condition.

    Returns:
        uint8 [H', W', 3].

    Raises:
        UsageError: For an unknown condition.
    """
    if condition not in CONDITIONS:
        raise one_of("condition", condition, tuple(CONDITIONS))
    rng = np.random.default_rng([seed, index, 29])
    height, width = image.shape[:2]
    # 1 to 7 pixels off the top and the left: no crop keeps the grid of the file's own blocks.
    down, across = (int(n) for n in rng.integers(1, 8, 2))
    image = image[min(down, height - 1) :, min(across, width - 1) :]
    return CONDITIONS[condition](np.ascontiguousarray(image), rng)


def view(image: Pixels, size: int, seed: int, index: int) -> Pixels:
    """One random native crop [size, size, 3] of an image, padded by reflection where it is smaller."""
    rng = np.random.default_rng([seed, index, 31])
    return np.array(cut(codecs.pad(image, size), size, size, rng.random(2)))


def crop_under(image: Pixels, condition: str, size: int, seed: int, index: int) -> Pixels:
    """:func:`apply_condition`, then :func:`view`; of large images only the part that is needed.

    Args:
        image: uint8 [H, W, 3], RGB.
        condition: A key of :data:`CONDITIONS`.
        size: Side of the crop in pixels.
        seed: Seed of the evaluation.
        index: Of the image.

    Returns:
        uint8 [size, size, 3].
    """
    need = 2 * size + 2 * MARGIN + 8
    if min(image.shape[:2]) > need:
        rng = np.random.default_rng([seed, index, 37])
        image = cut(image, need, need, rng.random(2))
    return view(apply_condition(image, condition, seed, index), size, seed, index)
