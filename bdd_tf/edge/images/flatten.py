"""Convert Pillow images of any mode to RGB: depth, photometric interpretation and transparency are those of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.errors import ImageError

_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339  # tags of TIFF
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED = 1, 2


def transparent_colour(image: Image.Image) -> int | tuple[int, ...] | bytes | None:
    """Return the transparent colour of an image on the scale of its pixels; None if it has none.

    Pillow widens greys of 2 and 4 bits, and shortens colours of 16 bits, but leaves a PNG's transparent colour as it is.

    Args:
        image: The image before its pixels are loaded, which forgets their depth.
    """
    key: int | tuple[int, ...] | bytes | None = image.info.get("transparency")
    raw = getattr(image, "tile", None)
    kind = str(raw[0][3] if raw and isinstance(raw[0][3], str) else "")
    if isinstance(key, int) and kind in ("L;2", "L;4"):
        return key * 255 // ((1 << int(kind[2])) - 1)
    if isinstance(key, tuple) and kind == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key


def flattened(
    image: Image.Image, key: int | tuple[int, ...] | bytes | None, strip_pixels: int
) -> Image.Image:
    """Convert a loaded image of any mode to RGB: composite over white, reduce deep greys to 8 bits.

    Args:
        image: The image.
        key: Its transparent colour, see `transparent_colour`.
        strip_pixels: Number of pixels that are converted at a time.

    Returns:
        An image of mode RGB.

    Raises:
        ImageError: If the greys are no photograph's.
    """
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image)
        white, inverted = _white_of(image)
        grey = grey_to_uint8(deep, white, inverted)
        if isinstance(key, int):
            grey[deep == key] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "L" and _is_signed(image) and int(np.asarray(image).max()) > 127:
        raise ImageError("the image has negative greys, of signed 8-bit integers")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or key is not None:
        # In strips: three temporary images of 100 megapixels would take 1.2 GB.
        result = Image.new("RGB", image.size)
        rows = max(1, strip_pixels // image.width)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            if key is not None:
                strip.info["transparency"] = key
            strip = strip.convert("RGBA")
            white_strip = Image.new("RGBA", strip.size, "white")
            result.paste(Image.alpha_composite(white_strip, strip).convert("RGB"), (0, top))
        return result
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_signed(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", None)
    return tags is not None and _SIGNED in tuple(tags.get(_SAMPLE_FORMAT, ()))


def _white_of(image: Image.Image) -> tuple[float | None, bool]:
    """The value of white in the greys of a TIFF file, if its tags tell, and whether white and black are exchanged."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return None, False
    bits = tags.get(_BITS, (1,))
    bits = bits[0] if isinstance(bits, tuple) else bits
    unsigned = tuple(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))[:1] == (_UNSIGNED,)
    white = 2.0**bits - 1 if unsigned and 8 < bits <= 16 else None
    return white, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def grey_to_uint8(
    grey: NDArray[Any], white: float | None = None, inverted: bool = False
) -> NDArray[np.uint8]:
    """Convert 12-bit, 16-bit, 32-bit or floating-point greys to uint8.

    Neither 32-bit nor floating-point files record the value of white. It is inferred from the maximum of the image: 1
    (floats only), 255 (not for 16-bit files) or 65535. Larger values are measurements rather than photographs.

    Args:
        grey: [H, W].
        white: Value of white; None to infer it.
        inverted: Whether 0 is white.

    Returns:
        uint8 [H, W].

    Raises:
        ImageError: If a value is negative, too large or not finite.
    """
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= 65535):
        raise ImageError(
            f"the image has {grey.dtype.name} greys from {low:g} to {high:g}; they must lie in 0 to 65535"
        )
    if white is not None:
        white = max(white, high)
    elif grey.dtype.kind == "f" and high <= 1:
        white = 1.0
    elif grey.dtype.itemsize > 2 and high <= 255:
        white = 255.0
    else:
        white = 65535.0
    # In slices: the intermediate floats of a 100-megapixel scan would take 400 MB.
    result = np.empty(grey.shape, np.uint8)
    for top in range(0, grey.shape[0], 256):
        part = grey[top : top + 256].astype(np.float32)
        part = np.float32(white) - part if inverted else part
        result[top : top + 256] = np.floor(part * np.float32(255.0 / white) + np.float32(0.5))
    return result
