"""What happens to pictures on their way: compression, resizing, blur, noise, crops, light.

Each function takes and returns uint8 RGB [H, W, 3] of the same size, and is a pure function of its arguments: Pillow
and NumPy decide the rest. :data:`PERTURBATIONS` names them with the severities at which `bdd evaluate --robustness`
applies them, the mildest first.
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
#: Pillow's filter for every resize here: its default, antialiased when it shrinks.
FILTER = Image.Resampling.BICUBIC


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Write as JPEG and read back, with Pillow's defaults for all but the quality (chroma at half the resolution).

    Args:
        image: uint8 [H, W, 3].
        quality: From 1 to 95 (libjpeg's scale); there is none that changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another quality.
    """
    _check("JPEG quality", quality, 1, 95)
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        with Image.open(file, formats=("JPEG",)) as read:
            return np.asarray(read)


def resize(image: Pixels, factor: float) -> Pixels:
    """Shrink to a share of the side and enlarge again (:data:`FILTER`): detail is lost, the size stays.

    Args:
        image: uint8 [H, W, 3].
        factor: In (0, 1]; each side becomes ``round(factor * side)``, at least 1 pixel. 1 changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another factor.
    """
    _check("resize factor", factor, 1e-6, 1)
    height, width = image.shape[:2]
    small = max(round(factor * width), 1), max(round(factor * height), 1)
    return np.asarray(Image.fromarray(image).resize(small, FILTER).resize((width, height), FILTER))


def blur(image: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian, cut off at 4 sigma; the border's pixels go on outside.

    Args:
        image: uint8 [H, W, 3].
        sigma: Standard deviation in pixels, at least 0; 0 changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another sigma.
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
    """Add Gaussian noise to every value, independently, rounded and cut off at 0 and 255.

    Args:
        image: uint8 [H, W, 3].
        deviation: Standard deviation in grey levels, of 255; at least 0. 0 changes nothing.
        seed: The noise of a seed is the same at every deviation, but for its scale.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another deviation.
    """
    _check("noise deviation", deviation, 0, 255)
    drawn = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return _bytes(image + np.float32(deviation) * drawn)


def crop(image: Pixels, share: float) -> Pixels:
    """Keep the centre and enlarge it to the former size (:data:`FILTER`).

    Args:
        image: uint8 [H, W, 3].
        share: Of each side, in (0, 1]; the sides become ``round(share * side)``, at least 1 pixel. 1 changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another share.
    """
    _check("crop share", share, 1e-6, 1)
    height, width = image.shape[:2]
    tall, wide = max(round(share * height), 1), max(round(share * width), 1)
    top, left = (height - tall) // 2, (width - wide) // 2
    centre = Image.fromarray(image).crop((left, top, left + wide, top + tall))
    return np.asarray(centre.resize((width, height), FILTER))


def brightness(image: Pixels, factor: float) -> Pixels:
    """Multiply every value, rounded and cut off at 255.

    Args:
        image: uint8 [H, W, 3].
        factor: At least 0; 1 changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another factor.
    """
    _check("brightness factor", factor, 0, 255)
    return _bytes(image * np.float32(factor))


def contrast(image: Pixels, factor: float) -> Pixels:
    """Multiply every value's distance from the image's mean, rounded and cut off at 0 and 255.

    Args:
        image: uint8 [H, W, 3].
        factor: At least 0; 1 changes nothing.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UsageError: For another factor.
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
    """A perturbation by name, and how hard it is tried.

    Attributes:
        name: What tables call it.
        unit: What its severity counts, for people.
        severities: The mildest first.
        function: Called with the image and a severity, and a seed where ``seeded``.
        seeded: Whether it draws numbers.
    """

    name: str
    unit: str
    severities: tuple[float, ...]
    function: Callable[..., Pixels]
    seeded: bool = False

    def apply(self, image: Pixels, severity: float, seed: int) -> Pixels:
        """The image perturbed, uint8 [H, W, 3]; of the seed only where it is ``seeded``."""
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
