"""The error for an unreadable image, and the limit on the image size."""

from __future__ import annotations

from bdd_tf.errors import BddError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: Pillow needs 4 bytes per pixel, 400 MB at this limit."""


class ImageError(BddError):
    """An image that cannot be read or scored; ``str()`` is one sentence without the path."""
