"""The resize transform shared by training, evaluation and detection."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.errors import MAX_PIXELS, ImageError
from bdd_tf.errors import UsageError, one_of

_MAX_SIDE = math.isqrt(MAX_PIXELS)
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class ResizeRule:
    """Resize the shorter side, then crop the centre, with the geometry of torchvision's Resize and CenterCrop.

    Attributes:
        size: Side of the output square, in pixels.
        shorter_side: Length of the shorter side after resizing and before cropping, in pixels; at least
            ``size``. The longer side becomes ``int(shorter_side * long / short)``.
        interpolation: ``"bilinear"``: Pillow's filter, which is antialiased when it shrinks an image.

    Raises:
        UsageError: If a value is out of range.
    """

    size: int
    shorter_side: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("size", "shorter_side"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_SIDE:
                raise UsageError(
                    f"resize rule: {name} is {value!r}; it must be a whole number from 1 to {_MAX_SIDE}."
                )
        if self.shorter_side < self.size:
            raise UsageError(
                f"resize rule: shorter_side {self.shorter_side} is less than size {self.size}, which leaves "
                "nothing to crop from; shorter_side must be at least size."
            )
        if self.interpolation not in tuple(_INTERPOLATIONS):
            raise one_of("interpolation", self.interpolation, tuple(_INTERPOLATIONS))

    @classmethod
    def native(cls, size: int) -> ResizeRule:
        """Resize the shorter side to ``size`` and crop; square images of that size remain unchanged."""
        return cls(size, size)

    @classmethod
    def reference(cls, size: int) -> ResizeRule:
        """Return the paper's transform: resize the shorter side to 9/8 of ``size`` (252 for 224) and crop."""
        return cls(size, size * 9 // 8)

    @classmethod
    def from_dict(cls, values: object) -> ResizeRule:
        """Inverse of `to_dict`.

        Raises:
            UsageError: If ``values`` is no mapping, a key is missing or unknown, or a value is out of range.
        """
        known = tuple(field.name for field in fields(cls))
        if not isinstance(values, dict):
            raise UsageError(f"resize rule: {values!r} is not a mapping with the keys {', '.join(known)}.")
        for key in values:
            if key not in known:
                raise one_of("key of a resize rule", key, known)
        missing = [key for key in ("size", "shorter_side") if key not in values]
        if missing:
            raise UsageError(f"resize rule: {' and '.join(missing)} missing; keys: {', '.join(known)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: ``size``, ``shorter_side``, ``interpolation``."""
        return asdict(self)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one image.

        Args:
            image: uint8 array [H, W, 3], RGB.

        Returns:
            uint8 array [size, size, 3]; the same object if the image already has that size.

        Raises:
            ImageError: If the aspect ratio is so extreme that the resized image would exceed `MAX_PIXELS`.
            UsageError: If the array is not uint8 [H, W, 3].
        """
        height, width = check_array(image).shape[:2]
        if height == width == self.size == self.shorter_side:
            return image
        return np.asarray(self.apply_pil(Image.fromarray(image)))

    def apply_pil(self, image: Image.Image) -> Image.Image:
        """Resize and crop a Pillow image of mode RGB; see `apply`."""
        resized, left, top = self._geometry(*image.size)
        if image.size != resized:
            image = image.resize(resized, _INTERPOLATIONS[self.interpolation])
        if resized == (self.size, self.size):
            return image
        return image.crop((left, top, left + self.size, top + self.size))

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of an image that survives the crop of `apply`, rounded to whole pixels.

        Args:
            width: Width of the image, in pixels.
            height: Height of the image, in pixels.

        Returns:
            ``left, top, width, height`` in pixels of the original image.
        """
        (resized_width, resized_height), left, top = self._geometry(width, height)
        across, down = width / resized_width, height / resized_height
        corner = round(left * across), round(top * down)
        return (*corner, max(1, round(self.size * across)), max(1, round(self.size * down)))

    def _geometry(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """Return the resized width and height, and the left and top of the crop within them."""
        short, long = sorted((width, height))
        long_resized = int(self.shorter_side * long / short)
        if self.shorter_side * long_resized > MAX_PIXELS:
            raise ImageError(
                f"the image is too long and thin ({width}x{height} pixels): resized to a shorter side of "
                f"{self.shorter_side} it would be {long_resized} pixels long"
            )
        resized = (self.shorter_side, long_resized) if width <= height else (long_resized, self.shorter_side)
        left, top = (round((side - self.size) / 2) for side in resized)
        return resized, left, top


def check_array(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the array if it is a non-empty RGB image.

    Raises:
        UsageError: If it is not uint8 [H, W, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            f"an image array must be uint8 of shape [height, width, 3] (RGB, 0 to 255); this one is "
            f"{image.dtype} of shape {list(image.shape)}."
        )
    return image
