"""The one place that reads and resizes images: Pillow decodes, for training and for detection alike.

Image files come from strangers, so everything that can go wrong with one ends in an `ImageError` whose
text is one sentence for people (without the path, which the caller knows).
"""

from __future__ import annotations

import importlib
import io
import math
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bdd_tf.errors import BddError, UsageError, one_of

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused before they are decoded (100 megapixels take 400 MB in Pillow)."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
)
"""Lower-case suffixes by which `find_images` recognises images inside a folder."""

EXPLANATION_SUFFIX = ".explain.png"
"""How the pictures of `bdd detect --explain` end, which lie beside images and are none."""

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]

# Leading bytes of each accepted format, and the Pillow plugin that reads it. Naming the one plugin keeps
# Pillow from importing all forty (slow), and strangers' files from the likes of EPS (runs Ghostscript).
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
)
_PLUGINS = {"Webp": "WebP"}
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP = 4_000_000  # pixels
_MAX_JPEG_SCANS = 100
# A JPEG marker with a segment: neither a stuffed or fill byte nor a restart inside a scan, nor TEM.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_MAX_SIDE = math.isqrt(MAX_PIXELS)
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR}


class ImageError(BddError):
    """An image that cannot be read; ``str()`` is one sentence that does not repeat the path."""


def read_image(source: ImageSource) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    EXIF rotation is applied; alpha is laid over white; greys of 16 bit are scaled to 8 (by 257, rounded); of
    files with several frames or pages the first is taken.

    Args:
        source: A path, the bytes of an image file, a PIL image, or an array (returned as it is).

    Returns:
        uint8 array [H, W, 3], RGB, values 0 to 255.

    Raises:
        ImageError: If the file is missing, empty, truncated, no image of a known format, or larger than
            `MAX_PIXELS`.
        UsageError: If an array is not uint8 [H, W, 3], or the source is of another type.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    image = _decode(source)
    if image.width * image.height <= _STRIP:
        return np.asarray(image)
    # In strips, because Pillow gives its pixels away by way of two further copies.
    result = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        result[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return result


def load_image(source: ImageSource, rule: ResizeRule) -> NDArray[np.uint8]:
    """Decode an image and bring it to a network's size; equal to ``rule.apply(read_image(source))``.

    Args:
        source: As for `read_image`.
        rule: How to resize and crop.

    Returns:
        uint8 array [rule.size, rule.size, 3], RGB, values 0 to 255.

    Raises:
        ImageError: As for `read_image`, or if the image is too long and thin to be resized.
        UsageError: As for `read_image`.
    """
    return load_sized(source, rule)[0]


def load_sized(
    source: ImageSource, rule: ResizeRule, max_pixels: int | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """As `load_image`, with the image's own size, and for a machine that bears less than `MAX_PIXELS`.

    Args:
        source: As for `read_image`.
        rule: How to resize and crop.
        max_pixels: Files with more pixels are refused before they are decoded; None for `MAX_PIXELS`.

    Returns:
        uint8 array [rule.size, rule.size, 3], and width and height of the upright image in pixels.

    Raises:
        ImageError: As for `load_image`, or if the image has more than ``max_pixels``.
        UsageError: As for `read_image`.
    """
    if isinstance(source, np.ndarray):
        seen = rule.apply(source)
        return seen, (source.shape[1], source.shape[0])
    image = _decode(source, max_pixels)
    return np.asarray(rule._apply_pil(image)), image.size


@dataclass(frozen=True)
class ResizeRule:
    """Resize the shorter side, then crop the centre: the geometry of torchvision's Resize and CenterCrop.

    Attributes:
        size: Side of the square that comes out, in pixels.
        shorter_side: Length of the shorter side after resizing and before cropping, in pixels; at least
            ``size``. The longer side becomes ``int(shorter_side * long / short)``.
        interpolation: ``"bilinear"``: Pillow's, which filters when it shrinks (antialiasing).

    Raises:
        UsageError: If a value is impossible.
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
        """Resize the shorter side to ``size`` itself; square images of that size stay untouched."""
        return cls(size, size)

    @classmethod
    def reference(cls, size: int) -> ResizeRule:
        """The reference detector's rule: shorter side 9/8 of ``size`` (252 for 224), then the centre."""
        return cls(size, size * 9 // 8)

    @classmethod
    def from_dict(cls, values: object) -> ResizeRule:
        """Inverse of `to_dict`.

        Raises:
            UsageError: If keys are missing or unknown, or a value is impossible.
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
        """The rule as plain JSON values: ``size``, ``shorter_side``, ``interpolation``."""
        return asdict(self)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one image.

        Args:
            image: uint8 array [H, W, 3].

        Returns:
            uint8 array [size, size, 3]; the image itself when nothing has to be done.

        Raises:
            ImageError: If the image is so long and thin that resizing it would exceed `MAX_PIXELS`.
            UsageError: If the array is not uint8 [H, W, 3].
        """
        height, width = _checked_array(image).shape[:2]
        if height == width == self.size == self.shorter_side:
            return image
        return np.asarray(self._apply_pil(Image.fromarray(image)))

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The square of an image that `apply` lets through, rounded to whole pixels.

        Args:
            width: Of the image, in pixels.
            height: Likewise.

        Returns:
            ``left, top, width, height`` in pixels of the image.
        """
        (resized_width, resized_height), left, top = self._geometry(width, height)
        across, down = width / resized_width, height / resized_height
        corner = round(left * across), round(top * down)
        return (*corner, max(1, round(self.size * across)), max(1, round(self.size * down)))

    def _apply_pil(self, image: Image.Image) -> Image.Image:
        resized, left, top = self._geometry(*image.size)
        if image.size != resized:
            image = image.resize(resized, _INTERPOLATIONS[self.interpolation])
        if resized == (self.size, self.size):
            return image
        return image.crop((left, top, left + self.size, top + self.size))

    def _geometry(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """Width and height after resizing, and where the crop begins in that."""
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


def find_images(
    paths: Iterable[str | Path],
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
    left_out: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Walk files and folders.

    Args:
        paths: Files, which are yielded as they are whatever their names, and folders, which are searched
            recursively, in sorted order. Hidden files and folders are skipped, and a folder reached twice
            through links is searched once. Files in folders that end in `EXPLANATION_SUFFIX` are left out.
        suffixes: Lower-case ends of the names looked for in folders.
        left_out: Told each file that was left out for being an explanation's picture.

    Yields:
        Paths, lazily; a path that does not exist is yielded too, so that reading it reports the error.
    """
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from _walk(path, suffixes, set(), left_out)
        else:
            yield path


def _walk(
    folder: Path,
    suffixes: frozenset[str],
    visited: set[tuple[int, int]],
    left_out: Callable[[Path], None] | None,
) -> Iterator[Path]:
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            return
        visited.add(identity)
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")
            )
    except OSError:
        # Yielded like a missing path: reading it names the reason.
        yield folder
        return
    for name, is_folder in found:
        if is_folder:
            yield from _walk(folder / name, suffixes, visited, left_out)
        elif name.lower().endswith(EXPLANATION_SUFFIX):
            if left_out is not None:
                left_out(folder / name)
        elif os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122 (one Path per file is slow)
            yield folder / name


def _checked_array(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            f"an image array must be uint8 of shape [height, width, 3] (RGB, 0 to 255); this one is "
            f"{image.dtype} of shape {list(image.shape)}."
        )
    return image


def _decode(source: ImageSource, max_pixels: int | None = None) -> Image.Image:
    """The source as a loaded Pillow image of mode RGB, the right way up."""
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, Image.Image):
        return _to_rgb(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        with io.BytesIO(source) as file:
            return _decode_file(file, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        with _opened(source) as file:
            return _decode_file(file, max_pixels)
    raise UsageError(
        f"an image must be a path, the bytes of a file, a PIL image or a uint8 array [H, W, 3]; "
        f"got {type(source).__name__}."
    )


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    try:
        # A named pipe would wait for ever, and /dev/zero never ends.
        mode = os.stat(path).st_mode  # noqa: PTH116 (path may be a str, and detection is a hot loop)
        if stat.S_ISDIR(mode):
            raise ImageError("this is a folder, not an image")
        if not stat.S_ISREG(mode):
            raise ImageError("this is not a regular file")
        file = open(path, "rb")  # noqa: SIM115, PTH123 (closed below)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    with file:
        yield file


def _decode_file(file: io.BytesIO | io.BufferedReader, max_pixels: int) -> Image.Image:
    try:
        head = file.read(16)
        file.seek(0)
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or error}") from None
    if not head:
        raise ImageError("the file is empty (0 bytes)")
    family = next((f for magic, at, f in _FORMATS if head[at : at + len(magic)] == magic), None)
    if family is None:
        raise ImageError("not an image in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF)")
    try:
        importlib.import_module(f"PIL.{_PLUGINS.get(family, family)}ImagePlugin")
        image = Image.open(file, formats=(family.upper(),))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image has more than {max_pixels:,} pixels, which is the limit") from None
    except ImportError:
        raise ImageError(f"the file is {family.upper()}, which this build of Pillow does not read") from None
    except Exception as error:
        # Hostile headers make Pillow's parsers raise nearly anything (KeyError, struct.error ...).
        raise ImageError(f"the {family.upper()} file is damaged ({_reason(error)})") from None
    with image:
        if "progressive" in image.info:
            _check_scans(file)
        return _to_rgb(image, max_pixels)


def _check_scans(file: io.BytesIO | io.BufferedReader) -> None:
    """Refuse progressive JPEGs whose many scans, of a few bytes each, take minutes to decode.

    Each scan visits every block of the image: at 100 megapixels 141 bytes cost 20 ms. Cameras and libraries write
    about ten.
    """
    with memoryview(file.getbuffer() if isinstance(file, io.BytesIO) else _mapped(file)) as data:
        at, scans = 2, 0
        while (marker := _JPEG_MARKER.search(data, at)) and (code := data[marker.start() + 1]) != _JPEG_END:
            # Behind a marker stands its segment's length; thumbnails, themselves JPEGs, lie in such segments.
            at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
            scans += code == _JPEG_SCAN
            if scans > _MAX_JPEG_SCANS:
                raise ImageError(
                    f"the JPEG is progressive in more than {_MAX_JPEG_SCANS} scans, which is the limit"
                )


def _mapped(file: io.BufferedReader) -> mmap.mmap:
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
        image.load()
        return _upright(_flattened(image), image)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"the image does not fit in memory ({width}x{height} pixels)") from None
    except Exception as error:
        # See _decode_file: decoders of damaged files raise nearly anything.
        raise ImageError(f"the image is damaged or truncated ({_reason(error)})") from None


def _upright(flat: Image.Image, original: Image.Image) -> Image.Image:
    # TIFF files turn themselves while loading, and then no longer name an orientation.
    try:
        turn = _EXIF_TURNS.get(original.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # A damaged EXIF block says nothing about the pixels, which were read.
        turn = None
    return flat if turn is None else flat.transpose(turn)


def _flattened(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as RGB: alpha over white, deep greys brought to 8 bit."""
    if image.mode.startswith(("I", "F")):
        grey = Image.fromarray(_grey_to_uint8(np.asarray(image)))
        return grey.convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        # In strips, because three further images of 100 megapixels would take 1.2 GB.
        result = Image.new("RGB", image.size)
        rows = max(1, _STRIP // image.width)
        for top in range(0, image.height, rows):
            strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
            white = Image.new("RGBA", strip.size, "white")
            result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
        return result
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_uint8(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Greys of 16 bit, 32 bit or floating point, [H, W], as uint8.

    Neither 32-bit nor floating-point files say what value white has. The usual ones are told apart by their
    largest value: floats up to 1, bytes up to 255, 16-bit values up to 65535; beyond these lie measurements,
    not photographs.
    """
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= 65535):
        raise ImageError(
            f"the image has {grey.dtype.name} greys from {low:g} to {high:g}; they must lie in 0 to 65535"
        )
    if grey.dtype.kind == "f" and high <= 1:
        white = 1.0
    elif grey.dtype.itemsize > 2 and high <= 255:
        white = 255.0
    else:
        white = 65535.0
    # In slices, because the intermediate float values of a 100-megapixel scan would take 400 MB.
    result = np.empty(grey.shape, np.uint8)
    for top in range(0, grey.shape[0], 256):
        part = grey[top : top + 256].astype(np.float32)
        result[top : top + 256] = np.floor(part * np.float32(255.0 / white) + np.float32(0.5))
    return result


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text names a Python object
        return "broken header"
    text = " ".join(str(error).split())
    return text[:120].rstrip(".") or type(error).__name__
