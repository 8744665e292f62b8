"""Correct the way in which Pillow unpacks two kinds of TIFF files: it gives other pixels for them, without an error."""

from __future__ import annotations

from typing import Any

from PIL import Image

_BITS, _PLANES = 258, 284  # tags
_SEPARATE = 2
# libtiff returns numbers in the order of the machine, but Pillow exchanges the bytes of these again.
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF", "F;64BF": "F;64NF"}


def correct_tiles(image: Image.Image) -> None:
    """Correct how an image of a TIFF file will be unpacked; other images remain as they are.

    Corrected are compressed numbers with the most significant byte first, except for unsigned ones, and uncompressed samples
    of 16 bits in separate planes, of which Pillow reads half of the bytes as 8-bit samples.

    Args:
        image: An image whose pixels are not loaded yet; it is changed.
    """
    tags: Any = getattr(image, "tag_v2", None)
    tiles: Any = getattr(image, "tile", None)
    if tags is None or not tiles:
        return
    bits = tags.get(_BITS, (1,))
    bits = bits if isinstance(bits, tuple) else (bits,)
    wide = tags.get(_PLANES) == _SEPARATE and set(bits) == {16}
    order = "B" if getattr(tags, "_endian", "<") == ">" else "L"
    corrected = []
    for tile in tiles:
        codec, extents, offset, args = tile
        mode = args[0] if isinstance(args, tuple) and args else None
        if codec == "libtiff" and mode in _NATIVE:
            args = (_NATIVE[mode], *args[1:])
        elif (
            codec == "raw"
            and wide
            and isinstance(mode, str)
            and len(mode) == 1
            and image.mode in ("RGB", "RGBA", "CMYK")
        ):
            args = (f"{mode};16{order}", *args[1:])
        corrected.append(
            tile._replace(args=args) if hasattr(tile, "_replace") else (codec, extents, offset, args)
        )
    image.tile = corrected  # type: ignore[attr-defined]
