"""Find the evidence in one image file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.evidence.item import Evidence
from bdd_tf.edge.evidence.walker import walk
from bdd_tf.edge.images.opening import read_head

MOST_BYTES = 32 << 20
"""Of a larger file, this much of its beginning is read: metadata stands there in nearly all formats."""


def find_evidence(
    source: bytes | bytearray | str | Path, image: Image.Image | NDArray[np.uint8] | None = None
) -> tuple[Evidence, ...]:
    """Find statements about the making of an image in its file, without judging them.

    Memory and time are bounded, whatever the file contains: at most `MOST_BYTES` are read, and walked once.

    Args:
        source: Content or path of a file: JPEG, PNG, WebP, HEIC, AVIF, JPEG XL, GIF or TIFF. In other formats nothing is
            found.
        image: The decoded image (PIL image, or uint8 [H, W, 3]), if there is one: a thumbnail in the metadata is compared
            with it, so that it need not be decoded again.

    Returns:
        What was found, in the order of the file; empty if there is nothing. Damaged metadata is left out or reported as
        ``damaged``.

    Raises:
        ImageError: If the path names no readable file.
        BddError: If the C++ library is missing.
    """
    content = read_head(source, MOST_BYTES) if isinstance(source, (str, os.PathLike)) else source
    found = []
    for item in walk(content[:MOST_BYTES] if len(content) > MOST_BYTES else content):
        found.append(Evidence(item["kind"], item["says"], item["where"], item["strength"]))
    return tuple(found)
