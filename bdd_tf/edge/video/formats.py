"""Recognise videos by the suffix of a file, or by its first bytes. Apart from `video_file`, so that images need none of it."""

from __future__ import annotations

import os

from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD
from bdd_tf.edge.images.opening import read_head

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .mts .m2ts .wmv .flv .ogv .3gp".split())
"""Lower-case suffixes by which videos are recognised inside a folder. ``.ts`` is excluded: it is also TypeScript."""

_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_MAGIC: tuple[tuple[bytes, int], ...] = (
    (b"AVI ", 8),
    (b"\x1aE\xdf\xa3", 0),  # Matroska, WebM
    (b"\0\0\x01\xba", 0),  # MPEG program stream
    (b"\0\0\x01\xb3", 0),  # MPEG video
    (b"FLV\x01", 0),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0),  # ASF
    (b"OggS", 0),
)
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def is_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a regular file starts with the magic bytes of a video format; False if it cannot be read."""
    try:
        return begins_like_video(read_head(path, HEAD))
    except ImageError:
        return False


def begins_like_video(head: bytes) -> bool:
    """Return whether the first `HEAD` bytes of a file are those of a video."""
    if head[4:8] in _ATOMS:
        return head[4:8] != b"ftyp" or head[8:12] not in _IMAGE_BRANDS
    # MPEG transport streams, with and without a time stamp in front of each packet.
    if any(head[at : at + 1] == b"G" == head[at + 188 : at + 189] for at in (0, 4)):
        return True
    return any(head[at : at + len(magic)] == magic for magic, at in _MAGIC)
