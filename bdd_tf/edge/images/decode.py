"""Decode and resize images with Pillow; training and detection share this module.

Image files are untrusted. Every failure to decode one raises an `ImageError`, whose text is one sentence without the
path, which the caller adds.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from bdd_tf.edge.images.errors import MAX_PIXELS, ImageError
from bdd_tf.edge.images.flatten import flattened, transparent_colour
from bdd_tf.edge.images.formats import EXTRAS, HEAD, KNOWN, family_of
from bdd_tf.edge.images.opening import is_file_object, open_regular, read_object
from bdd_tf.edge.images.resize import ResizeRule, check_array
from bdd_tf.edge.images.tiff_tiles import correct_tiles
from bdd_tf.errors import UsageError

if TYPE_CHECKING:
    import mmap

ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
)
"""A path, the content of an image file, an open binary file, a Pillow image, or an RGB array uint8 [H, W, 3]."""

_PLUGINS = {"Webp": "WebP"}
_EXIF_ORIENTATION = 0x0112
_EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PREFIX = 16  # bytes by which Pillow's plugins recognize their format
_STRIP = 4_000_000  # pixels that are converted at a time
_MAX_JPEG_SCANS = 100
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA


def read_image(source: ImageSource) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    EXIF rotation is applied, transparent pixels are composited over white, 16-bit greys are scaled to 8 bits (divided
    by 257 and rounded), and only the first frame or page of a file is read.

    Args:
        source: A path, the content of an image file, an open binary file (read from its beginning), a Pillow image, or an
            array, which is returned unchanged.

    Returns:
        uint8 array [H, W, 3], RGB.

    Raises:
        ImageError: If the file is missing, empty, truncated, in an unknown format, or larger than `MAX_PIXELS`.
        UsageError: If an array is not uint8 [H, W, 3], or the source is of another type.
    """
    return as_array(open_image(source))


def as_array(image: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a result of `open_image`: uint8 [H, W, 3], RGB; an array is returned unchanged."""
    if isinstance(image, np.ndarray):
        return image
    if image.width * image.height <= _STRIP:
        return np.asarray(image)
    # In strips: np.asarray on a whole Pillow image makes two temporary copies.
    result = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        result[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return result


def open_image(source: ImageSource, max_pixels: int | None = None) -> Image.Image | NDArray[np.uint8]:
    """Variant of `read_image` that leaves the pixels in a Pillow image, so that parts of it can become arrays.

    Args:
        source: As for `read_image`.
        max_pixels: Larger images are refused before they are decoded; None for `MAX_PIXELS`.

    Returns:
        A Pillow image of mode RGB, upright and loaded; an array is returned unchanged.

    Raises:
        ImageError: As for `read_image`, or if a file or Pillow image has more than ``max_pixels`` pixels.
        UsageError: As for `read_image`.
    """
    return check_array(source) if isinstance(source, np.ndarray) else _decode(source, max_pixels)


def load_image(source: ImageSource, rule: ResizeRule) -> NDArray[np.uint8]:
    """Decode an image and resize it to a network's input; equal to ``rule.apply(read_image(source))``.

    Args:
        source: As for `read_image`.
        rule: The resize transform.

    Returns:
        uint8 array [rule.size, rule.size, 3], RGB.

    Raises:
        ImageError: As for `read_image`, or if the aspect ratio is too extreme to be resized.
        UsageError: As for `read_image`.
    """
    image = open_image(source)
    return rule.apply(image) if isinstance(image, np.ndarray) else np.asarray(rule.apply_pil(image))


def _decode(source: ImageSource, max_pixels: int | None = None) -> Image.Image:
    """Decode to a Pillow image of mode RGB, upright, with its pixels loaded."""
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, Image.Image):
        return _to_rgb(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        with io.BytesIO(source) as file:
            return _decode_file(file, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        with open_regular(source) as file:
            return _decode_file(file, max_pixels)
    if is_file_object(source):
        return _decode(read_object(source), max_pixels)
    raise UsageError(
        f"an image must be a path, the bytes of a file, an open binary file, a PIL image or an RGB uint8 array "
        f"[H, W, 3]; got {type(source).__name__}."
    )


def _decode_file(file: io.BytesIO | io.BufferedReader, max_pixels: int) -> Image.Image:
    try:
        head = file.read(HEAD) or b""
        file.seek(0)
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or error}") from None
    if not head:
        raise ImageError("the file is empty (0 bytes)")
    family = family_of(head)
    if family is None:
        raise ImageError(f"not an image in a known format ({KNOWN})")
    if family in EXTRAS:
        _load_plugin(family)
    try:
        image = open_known(file, family)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image has more than {max_pixels:,} pixels, which is the limit") from None
    except ImportError:
        raise ImageError(f"the file is {family.upper()}, which this build of Pillow does not read") from None
    except Exception as error:
        # On malicious headers Pillow's parsers raise almost any exception (KeyError, struct.error ...).
        if family == "Tiff" and isinstance(error, UnidentifiedImageError):
            raise ImageError("the TIFF file is damaged, or of a kind that Pillow does not read") from None
        raise ImageError(f"the {family.upper()} file is damaged ({_reason(error)})") from None
    with image:
        if "progressive" in image.info:
            _check_scans(file)
        return _to_rgb(image, max_pixels)


def open_known(file: io.BytesIO | io.BufferedReader, family: str) -> ImageFile.ImageFile:
    """Variant of `PIL.Image.open` for a known format.

    `Image.open` imports the five common plugins before it looks at an open file, which takes longer than to decode and
    score a photograph.

    Raises:
        UnidentifiedImageError: If the plugin of the format does not accept the file.
    """
    if family not in EXTRAS:
        importlib.import_module(f"PIL.{_PLUGINS.get(family, family)}ImagePlugin")
    plugin, accepts = Image.OPEN[family.upper()]
    accepted = accepts is None or accepts(file.read(_PREFIX))
    if isinstance(accepted, str) or not accepted:  # a text is the reason
        raise UnidentifiedImageError
    file.seek(0)
    try:
        return plugin(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error):
        raise UnidentifiedImageError from None


def _load_plugin(family: str) -> None:
    """Import the plugin of a format that Pillow does not read itself.

    Raises:
        ImageError: If it is not installed.
    """
    name, module, package = EXTRAS[family]
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        raise ImageError(f"the image is {name}, which needs another package: pip install {package}") from None
    if family == "Heif":
        plugin.register_heif_opener()


def _check_scans(file: io.BytesIO | io.BufferedReader) -> None:
    """Refuse progressive JPEGs with so many tiny scans that decoding takes minutes.

    The decoder visits every block of the image in each scan: at 100 megapixels, a scan of 141 bytes takes 20 ms.
    Cameras and libraries write about ten scans.
    """
    # A JPEG marker that starts a segment: no stuffed byte, fill byte, restart marker or TEM.
    starts = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
    with memoryview(file.getbuffer() if isinstance(file, io.BytesIO) else _mapped(file)) as data:
        at, scans = 2, 0
        while (marker := starts.search(data, at)) and (code := data[marker.start() + 1]) != _JPEG_END:
            # Skip the segment by the length that follows its marker: embedded JPEG thumbnails have markers too.
            at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
            scans += code == _JPEG_SCAN
            if scans > _MAX_JPEG_SCANS:
                raise ImageError(
                    f"the JPEG is progressive in more than {_MAX_JPEG_SCANS} scans, which is the limit"
                )


def _mapped(file: io.BufferedReader) -> mmap.mmap:
    import mmap  # for progressive JPEG files only

    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ImageError(f"the file cannot be read: {error}") from None


def _to_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"the image has {width}x{height} pixels, more than the limit of {max_pixels:,}")
    if width == 0 or height == 0:
        raise ImageError(f"the image has no pixels ({width}x{height})")
    try:
        key = transparent_colour(image)
        correct_tiles(image)
        image.load()
        return _upright(flattened(image, key, _STRIP), image)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"the image does not fit in memory ({width}x{height} pixels)") from None
    except Exception as error:
        # As in _decode_file: decoders of damaged files raise almost any exception.
        raise ImageError(f"the image is damaged or truncated ({_reason(error)})") from None


def _upright(flat: Image.Image, original: Image.Image) -> Image.Image:
    # Pillow rotates TIFF files itself while loading them, and then removes their orientation tag.
    try:
        transpose = _EXIF_TRANSPOSES.get(original.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # The EXIF block is damaged; the pixels were decoded without error.
        transpose = None
    return flat if transpose is None else flat.transpose(transpose)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its message contains the repr of a Python object
        return "broken header"
    text = " ".join(str(error).split())
    return text[:120].rstrip(".") or type(error).__name__
