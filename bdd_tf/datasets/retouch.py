"""Retouching, as cameras and photo editors do it: sharpening, local contrast, denoising, a tone curve.

Photographs that people publish are often sharpened and denoised, and a detector that has seen few such photographs
takes the traces of that for those of a generator. Both classes are retouched alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bdd_tf.datasets.codecs import Pixels

#: Range of the sigma of sharpening in pixels, and of its amount.
SHARPEN = ((0.5, 2.5), (0.2, 1.5))
#: Range of the sigma of local contrast in pixels, and of its amount.
LOCAL_CONTRAST = ((6.0, 20.0), (0.1, 0.5))
#: Range of the strength of the bilateral filter, in grey levels.
DENOISE = (8.0, 35.0)
#: Range of the exponent of the tone curve, log-uniform.
GAMMA = (0.7, 1.4)


@dataclass(frozen=True)
class Retouch:
    """All that is done to one image.

    Attributes:
        denoise: Strength of the bilateral filter in grey levels; 0 for none.
        sigma: Of the unsharp mask, in pixels.
        amount: Its amount; 0 for none.
        gamma: Exponent of the tone curve; 1 for none.
        curve: Share of an S-curve, in [0, 1].
    """

    denoise: float
    sigma: float
    amount: float
    gamma: float
    curve: float


def draw(rng: np.random.Generator) -> Retouch:
    """Draw one retouch: denoising (a third), sharpening (two thirds) or local contrast (a sixth), a tone curve (half).

    Args:
        rng: Consumed by the same number of draws each time.

    Returns:
        The retouch; one in eighteen does nothing.
    """
    denoised, mask, toned = rng.random(3)
    position = rng.random(5)
    sigma, amount = SHARPEN if mask < 2 / 3 else LOCAL_CONTRAST
    low, high = np.log(GAMMA)
    return Retouch(
        denoise=_at(DENOISE, position[0]) if denoised < 1 / 3 else 0.0,
        sigma=_at(sigma, position[1]),
        amount=_at(amount, position[2]) if mask < 5 / 6 else 0.0,
        gamma=float(np.exp(_at((low, high), position[3]))) if toned < 1 / 2 else 1.0,
        curve=float(position[4]) if toned < 1 / 4 else 0.0,
    )


def _at(span: tuple[float, float], position: float) -> float:
    return span[0] + float(position) * (span[1] - span[0])


def apply(image: Pixels, retouch: Retouch) -> Pixels:
    """Retouch one image.

    Args:
        image: uint8 [H, W, 3], RGB, contiguous.
        retouch: From :func:`draw`.

    Returns:
        uint8 [H, W, 3].
    """
    if retouch.denoise:
        image = cv2.bilateralFilter(image, 5, retouch.denoise, 2.0)
    if retouch.amount:
        soft = cv2.GaussianBlur(image, (0, 0), retouch.sigma)
        image = cv2.addWeighted(image, 1 + retouch.amount, soft, -retouch.amount, 0)
    if retouch.gamma != 1 or retouch.curve:
        image = cv2.LUT(image, _tones(retouch))
    return image


def _tones(retouch: Retouch) -> Pixels:
    """The tone curve as uint8 [256]."""
    levels = (np.arange(256) / 255) ** retouch.gamma
    # A smooth step: steeper in the middle, flat at both ends.
    steep = levels * levels * (3 - 2 * levels)
    mixed = (1 - retouch.curve) * levels + retouch.curve * steep
    return np.rint(255 * mixed).astype(np.uint8)
