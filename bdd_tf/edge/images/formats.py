"""Recognise image formats by the first bytes of a file, and name the Pillow plugin that reads each."""

from __future__ import annotations

HEAD = 205
"""Number of bytes that `family_of` and the recognition of videos need."""

# Magic bytes of each accepted format, their offset, and the Pillow plugin that reads it. Importing a single plugin is
# faster than letting Pillow import all forty, and keeps untrusted files away from plugins such as EPS, which runs
# Ghostscript.
_FORMATS: tuple[tuple[bytes, int, str], ...] = (
    (b"\xff\xd8\xff", 0, "Jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "Png"),
    (b"WEBP", 8, "Webp"),
    (b"GIF87a", 0, "Gif"),
    (b"GIF89a", 0, "Gif"),
    (b"BM", 0, "Bmp"),
    (b"II*\0", 0, "Tiff"),
    (b"MM\0*", 0, "Tiff"),
    (b"II+\0", 0, "Tiff"),
    (b"MM\0+", 0, "Tiff"),
    (b"ftypavi", 4, "Avif"),
    *(
        (b"ftyp" + brand, 4, "Heif")
        for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
    ),
    (b"\0\0\0\x0cJXL \r\n\x87\n", 0, "Jxl"),
    (b"\xff\x0a", 0, "Jxl"),
)
KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIF, JPEG XL"
"""The accepted formats, for messages."""
EXTRAS = {
    "Heif": ("HEIF", "pillow_heif", "pillow-heif"),
    "Jxl": ("JPEG XL", "pillow_jxl", "pillow-jxl-plugin"),
}
"""Formats that Pillow does not read itself: family -> name, module and package of the plugin."""
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def family_of(head: bytes) -> str | None:
    """Return the format's family (``"Jpeg"`` ...) for the first bytes of a file; None if it is no known image."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"mif1", b"msf1") and b"avif" in head[16:64]:
        return "Avif"
    return next((f for magic, at, f in _FORMATS if head[at : at + len(magic)] == magic), None)


def is_image(head: bytes) -> bool:
    """Return whether a file of any name begins like an image; stricter than `family_of` where two bytes are the magic.

    Args:
        head: The first `HEAD` bytes of the file, or all of a shorter file.
    """
    family = family_of(head)
    if family == "Bmp":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head[:2] == b"\xff\x0a":
        return False  # a JPEG XL codestream has no more magic; its name must say so
    return family is not None
