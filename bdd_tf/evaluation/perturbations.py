"""Image perturbations: compression, resizing, blur, noise, crops, brightness, contrast.

Each function takes and returns uint8 RGB [H, W, 3] of the same size, and its result depends only on its arguments and the
versions of Pillow and NumPy. A severity outside its range is a UsageError. :data:`PERTURBATIONS` lists them with the
severities of `bdd evaluate --robustness`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.errors import UsageError

Pixels = NDArray[np.uint8]
#: Filter of every resize: Pillow's default, which antialiases when it reduces.
FILTER = Image.Resampling.BICUBIC


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Encode as JPEG and decode, with Pillow's defaults except for the quality (chroma at half the resolution).

    Args:
        image: uint8 [H, W, 3].
        quality: In [1, 95] (libjpeg's scale); every quality changes the image.
    """
    _check("JPEG quality", quality, 1, 95)
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        with Image.open(file, formats=("JPEG",)) as read:
            return np.asarray(read)


def resize(image: Pixels, factor: float) -> Pixels:
    """Reduce to a fraction of the side and enlarge to the original size (:data:`FILTER`), which removes detail.

    Args:
        image: uint8 [H, W, 3].
        factor: In (0, 1]; each side becomes ``round(factor * side)``, at least 1 pixel. 1 changes nothing.
    """
    _check("resize factor", factor, 1e-6, 1)
    height, width = image.shape[:2]
    small = max(round(factor * width), 1), max(round(factor * height), 1)
    return np.asarray(Image.fromarray(image).resize(small, FILTER).resize((width, height), FILTER))


def blur(image: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian, truncated at 4 sigma; border pixels are replicated outside the image.

    Args:
        image: uint8 [H, W, 3].
        sigma: Standard deviation in pixels, at least 0; 0 changes nothing.
    """
    _check("blur sigma", sigma, 0, 1000)
    if sigma == 0:
        return image.copy()
    reach = max(int(4 * sigma + 0.5), 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    values = image.astype(np.float32)
    for axis in (0, 1):
        values = _convolve(values, weights, reach, axis)
    return np.rint(values).astype(np.uint8)


def _convolve(values: NDArray[np.float32], weights: NDArray[np.float32], reach: int, axis: int) -> NDArray:
    padding = [(0, 0)] * 3
    padding[axis] = (reach, reach)
    padded = np.moveaxis(np.pad(values, padding, mode="edge"), axis, 0)
    side = values.shape[axis]
    total = sum(weight * padded[i : i + side] for i, weight in enumerate(weights))
    return np.moveaxis(total, 0, axis)


def noise(image: Pixels, deviation: float, seed: int) -> Pixels:
    """Add independent Gaussian noise to every value; the result is rounded and clipped to [0, 255].

    Args:
        image: uint8 [H, W, 3].
        deviation: Standard deviation in levels of 255, at least 0; 0 changes nothing.
        seed: Seed of the noise. At another deviation the same noise is only scaled.
    """
    _check("noise deviation", deviation, 0, 255)
    drawn = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return _bytes(image + np.float32(deviation) * drawn)


def crop(image: Pixels, share: float) -> Pixels:
    """Crop the centre and enlarge it to the original size (:data:`FILTER`).

    Args:
        image: uint8 [H, W, 3].
        share: Fraction of each side, in (0, 1]; the sides become ``round(share * side)``, at least 1 pixel. 1 changes nothing.
    """
    _check("crop share", share, 1e-6, 1)
    height, width = image.shape[:2]
    tall, wide = max(round(share * height), 1), max(round(share * width), 1)
    top, left = (height - tall) // 2, (width - wide) // 2
    centre = Image.fromarray(image).crop((left, top, left + wide, top + tall))
    return np.asarray(centre.resize((width, height), FILTER))


def brightness(image: Pixels, factor: float) -> Pixels:
    """Multiply every value; the result is rounded and clipped to [0, 255].

    Args:
        image: uint8 [H, W, 3].
        factor: At least 0; 1 changes nothing.
    """
    _check("brightness factor", factor, 0, 255)
    return _bytes(image * np.float32(factor))


def contrast(image: Pixels, factor: float) -> Pixels:
    """Multiply every value's difference from the image's mean; the result is rounded and clipped to [0, 255].

    Args:
        image: uint8 [H, W, 3].
        factor: At least 0; 1 changes nothing.
    """
    _check("contrast factor", factor, 0, 255)
    mean = np.float32(image.mean())
    return _bytes(mean + np.float32(factor) * (image - mean))


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _check(what: str, given: float, low: float, high: float) -> None:
    if not low <= given <= high:
        raise UsageError(f"{what} is {given:g}; it must lie in [{low:g}, {high:g}].")


@dataclass(frozen=True)
class Perturbation:
    """A perturbation with its severities.

    Attributes:
        name: Its name in tables and files.
        unit: Unit of the severity, for tables and figures.
        severities: In ascending order of strength.
        function: Called with the image and a severity, and with a seed if ``seeded``.
        seeded: Whether it draws random numbers.
    """

    name: str
    unit: str
    severities: tuple[float, ...]
    function: Callable[..., Pixels]
    seeded: bool = False

    def apply(self, image: Pixels, severity: float, seed: int) -> Pixels:
        """Perturb an image, uint8 [H, W, 3]. The seed is ignored unless ``seeded``."""
        return self.function(image, severity, seed) if self.seeded else self.function(image, severity)


PERTURBATIONS: dict[str, Perturbation] = {
    p.name: p
    for p in (
        Perturbation("jpeg", "quality", (95, 90, 75, 50, 30), jpeg),
        Perturbation("resize", "share of the side", (0.75, 0.5, 0.25), resize),
        Perturbation("blur", "sigma, pixels", (0.5, 1, 2), blur),
        Perturbation("noise", "deviation, of 255", (2, 5, 10, 20), noise, seeded=True),
        Perturbation("crop", "share of the side", (0.9, 0.75, 0.5), crop),
        Perturbation("darker", "brightness, factor", (0.8, 0.6), brightness),
        Perturbation("brighter", "brightness, factor", (1.25, 1.6), brightness),
        Perturbation("contrast", "factor", (0.8, 0.6, 0.4), contrast),
    )
}
