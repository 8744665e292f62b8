"""A rectangle of pixels."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels of the upright image (EXIF rotation applied); the origin is the upper left corner."""

    left: int
    top: int
    width: int
    height: int
