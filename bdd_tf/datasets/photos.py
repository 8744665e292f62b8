"""The data set ``photos``: crops of photographs and AI-made images, listed by a manifest.

A folder with ``manifest.csv`` (crops, :data:`COLUMNS`) and, optionally, ``whole.csv`` (whole images). The manifest
comes from outside: every path, number and image header is checked before it is used.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import UsageError

MANIFEST, WHOLE = "manifest.csv", "whole.csv"
COLUMNS = ("path", "label", "split", "source", "family", "content", "kind", "scale", "width", "height", "format",
           "quality", "table", "group")  # fmt: skip
WHOLE_COLUMNS = ("path", "label", "source", "family", "content", "width", "height")
SPLITS = ("train", "validation")
KINDS = ("native", "scaled")
#: Family of the fakes that our own decoders make (:mod:`bdd_tf.datasets.decoders`).
OWN_DECODERS = "own-decoders"
#: Largest file and side of an image that is accepted.
MAX_BYTES, MAX_SIDE = 32 * 1024**2, 8192
_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Photo:
    """One row of a manifest.

    Attributes:
        path: Of the image below the data set's folder, with forward slashes.
        label: 0 = REAL, 1 = FAKE.
        split: ``train`` or ``validation``.
        source: Generator, camera or collection.
        family: Generators that are held out together; empty for REAL.
        content: What several images may share (a prompt, an animal, a house); it never straddles a split.
        kind: ``native``: cut at the image's own scale; ``scaled``: the whole image was shrunk first.
        scale: Factor between the original image and this crop, in (0, 1].
        width: Of the original image in pixels.
        height: Likewise.
        format: Of the original file, e.g. ``JPEG``.
        quality: Estimated JPEG quality of the crop's file, 0 if unknown.
        table: Hash of the crop's quantization tables and chroma subsampling.
        group: The original image, for several crops of one.
    """

    path: str
    label: int
    split: str
    source: str
    family: str
    content: str
    kind: str
    scale: float
    width: int
    height: int
    format: str = "JPEG"
    quality: int = 0
    table: str = ""
    group: str = ""

    @property
    def short_side(self) -> float:
        """Pixels of the short side that the whole image has at this crop's scale."""
        return self.scale * min(self.width, self.height)

    @property
    def names(self) -> frozenset[str]:
        """The names by which this image can be held out: its source and its family."""
        return frozenset(name for name in (self.source, self.family) if name)


def read_manifest(data_dir: str | Path, file: str = MANIFEST) -> list[Photo]:
    """The rows of a manifest, checked.

    Args:
        data_dir: Folder that holds the manifest and the images.
        file: Name of the manifest inside it: :data:`MANIFEST` or :data:`WHOLE`. Rows of the latter get split
            ``validation``, kind ``native`` and scale 1.

    Returns:
        One :class:`Photo` per row, in the file's order.

    Raises:
        UsageError: If the folder or file is missing, a column is missing, or rows are wrong: up to ten are listed
            with their line numbers.
    """
    folder = Path(data_dir).expanduser()
    table = folder / file
    if not table.is_file():
        raise UsageError(f"{folder} holds no {file}; --data-dir must name the unpacked folder that does.")
    expected = WHOLE_COLUMNS if file == WHOLE else COLUMNS
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in expected if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(
                    f"{table} lacks the column {', '.join(missing)}; expected {','.join(expected)}."
                )
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{table} cannot be read as CSV: {error}.") from error
    photos, faults, seen = [], [], set()
    for line, row in rows:
        try:
            photo = _photo(row)
            if photo.path in seen:
                raise ValueError(f"{photo.path} is listed twice")
            _check_path(folder, photo.path)
        except ValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        seen.add(photo.path)
        photos.append(photo)
    if faults:
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise UsageError(f"{table} has {len(faults)} bad rows:\n  " + "\n  ".join(faults[:10]) + more)
    if not photos:
        raise UsageError(f"{table} lists no images.")
    return photos


def _photo(row: dict[str, str]) -> Photo:
    def text(name: str, possible: tuple[str, ...] = ()) -> str:
        value = (row.get(name) or "").strip()
        if possible and value not in possible:
            raise ValueError(f"{name} is {value!r}; possible: {', '.join(possible)}")
        return value

    def number(name: str, low: float, high: float, default: str = "") -> float:
        value = row.get(name) or default
        try:
            result = float(value)
        except ValueError:
            raise ValueError(f"{name} is {value!r}, which is not a number") from None
        if not (math.isfinite(result) and low <= result <= high):
            raise ValueError(f"{name} is {value}; it must lie in [{low:g}, {high:g}]")
        return result

    if None in row:
        raise ValueError("more cells than columns")
    kind = text("kind").rstrip("0123456789") or "native"
    if kind not in KINDS:
        raise ValueError(f"kind is {row['kind']!r}; possible: native0, native1, ..., scaled0, ...")
    path = text("path")
    content = text("content")
    if not content:
        raise ValueError("content is empty; give the image's own name where nothing is shared")
    return Photo(
        path,
        LABELS.index(text("label", tuple(LABELS))),
        text("split", SPLITS) if "split" in row else "validation",
        text("source") or "unknown",
        text("family"),
        content,
        kind,
        number("scale", 1e-3, 1.0, "1"),
        int(number("width", 1, 1e6)),
        int(number("height", 1, 1e6)),
        text("format").upper(),
        int(number("quality", 0, 100, "0")),
        text("table"),
        text("group") or path,
    )


def _check_path(folder: Path, path: str) -> None:
    """Refuse a path that leaves the folder or names no regular file of a reasonable size."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise ValueError(f"path {path!r} must be relative, with forward slashes and without '..'")
    file = folder / path
    try:
        size = file.stat().st_size
    except (OSError, ValueError):
        raise ValueError(f"no file {path}") from None
    if not file.is_file():
        raise ValueError(f"{path} is not a file")
    if not 0 < size <= MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes; it must have 1 to {MAX_BYTES:,}")


def read_files(data_dir: str | Path, photos: Iterable[Photo]) -> list[bytes]:
    """The encoded images, with their headers checked so that no later decoding meets a surprise in size.

    Args:
        data_dir: The data set's folder.
        photos: Rows of its manifest.

    Returns:
        The files' contents, in order; the archive's 21,747 crops take 170 MB.

    Raises:
        UsageError: For the first file that cannot be read, leaves the folder by a link, is not JPEG, PNG or WebP, or
            has a side above :data:`MAX_SIDE`.
    """
    folder = Path(data_dir).expanduser().resolve()
    contents = []
    for photo in photos:
        file = folder / photo.path
        try:
            # A link inside the folder may lead out of it.
            if not file.resolve().is_relative_to(folder):
                raise UsageError(f"{file} is a link that leads out of {folder}.")
            content = file.read_bytes()
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                size = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UsageError(f"{file} cannot be read as {', '.join(_FORMATS)}: {error}.") from error
        if not 1 <= min(size) <= max(size) <= MAX_SIDE:
            raise UsageError(
                f"{file} has {size[0]}x{size[1]} pixels; at most {MAX_SIDE} a side are accepted."
            )
        contents.append(content)
    return contents
