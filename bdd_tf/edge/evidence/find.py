"""Find the evidence in one image file."""

from __future__ import annotations

import io
import os
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.evidence.item import HINT, Evidence
from bdd_tf.edge.evidence.signatures import check_signature
from bdd_tf.edge.evidence.thumbnails import shows_another
from bdd_tf.edge.evidence.walker import walk
from bdd_tf.edge.images.decode import open_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.opening import open_regular, read_head

MOST_BYTES = 32 << 20
"""Of a larger file, this much of its beginning is read: metadata stands there in nearly all formats."""

MOST_SIGNED_BYTES = 256 << 20
"""Signatures of larger files are not checked, since that reads all of a file."""

_NOT_CHECKED = "its signature was not checked"

Source = bytes | bytearray | str | os.PathLike[str]


def find_evidence(
    source: Source, image: Image.Image | NDArray[np.uint8] | None = None
) -> tuple[Evidence, ...]:
    """Find statements about the making of an image in its file, without judging them.

    Memory and time are bounded, whatever the file contains: at most `MOST_BYTES` are read, and walked once. If there is a
    C2PA manifest and c2pa-python is installed, its signature is checked, against the trust list that the environment
    variable BDD_C2PA_TRUST names; nothing is fetched.

    Args:
        source: Content or path of a file: JPEG, PNG, WebP, HEIC, AVIF, JPEG XL, GIF or TIFF. In other formats nothing is
            found.
        image: The decoded image (PIL image of mode RGB, or uint8 [H, W, 3]), if there is one: a thumbnail in the metadata
            is compared with it, so that the file need not be decoded again.

    Returns:
        What was found, in the order of the file; empty if there is nothing. Damaged metadata is left out or reported as
        ``damaged``.

    Raises:
        ImageError: If the path names no readable file.
        UsageError: If BDD_C2PA_TRUST names no list of certificates, and there is a signature to check.
        BddError: If the C++ library is missing.
    """
    content = read_head(source, MOST_BYTES) if isinstance(source, (str, os.PathLike)) else source
    items = walk(memoryview(content)[:MOST_BYTES])
    found: list[Evidence] = []
    for item in items:
        evidence = Evidence(item["kind"], item["says"], item["where"], item["strength"])
        if evidence.kind == "thumbnail":
            evidence = _with_comparison(evidence, item, content, source, image)
        found.append(evidence)
    manifest = next((evidence for evidence in found if evidence.kind == "c2pa"), None)
    return tuple(found if manifest is None else _with_signature(found, manifest, source))


def _with_comparison(
    evidence: Evidence,
    item: dict[str, Any],
    content: bytes | bytearray,
    source: Source,
    image: Image.Image | NDArray[np.uint8] | None,
) -> Evidence:
    """Say whether a thumbnail shows the image."""
    try:
        image = open_image(source) if image is None else image
    except ImageError:
        return evidence
    at = item["at"]
    differs = shows_another(bytes(content[at : at + item["bytes"]]), image)
    if differs is None:
        return evidence._replace(says=f"{evidence.says}, which could not be compared with the image")
    if not differs:
        return evidence._replace(says=f"{evidence.says}, which shows the image")
    return evidence._replace(
        says=f"{evidence.says}, which shows another picture or another part: the image was changed after it was made",
        strength=HINT,
    )


def _with_signature(found: list[Evidence], manifest: Evidence, source: Source) -> list[Evidence]:
    """Say whether the manifest's signature fits, also of what its actions state."""
    if isinstance(source, (str, os.PathLike)):
        file: Any = open_regular(source)
        size = os.fstat(file.fileno()).st_size
    else:
        file, size = nullcontext(io.BytesIO(source)), len(source)
    with file as opened:
        checked = None if size > MOST_SIGNED_BYTES else check_signature(opened, manifest.where)
    if checked is None:
        return found
    clause, strength = checked
    place = f"{manifest.where} actions"
    return [
        item._replace(says=item.says.replace(_NOT_CHECKED, clause), strength=strength)
        if item is manifest
        else item._replace(strength=strength)
        if item.where == place
        else item
        for item in found
    ]
