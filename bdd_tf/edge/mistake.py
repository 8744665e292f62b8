"""Keep a wrong verdict as a case: a small ZIP file on this machine, without the pixels unless they are asked for."""

from __future__ import annotations

import hashlib
import json
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import PIL

from bdd_tf import __version__
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detector import Detector
from bdd_tf.files import complete_file

CASE = "case.json"
"""Name of the JSON file in the bundle."""
_FORMAT = 1


def case_of(
    record: Record, content: bytes, truth: str, detector: Detector, *, with_name: bool
) -> dict[str, Any]:
    """Return what a bundle says of a verdict.

    Args:
        record: The result.
        content: The image file.
        truth: ``"REAL"`` or ``"FAKE"``: what the image is.
        detector: Scored the image.
        with_name: Whether to name the file; a name may tell more than its owner wants.

    Returns:
        JSON values: ``format``, ``truth``, ``wrong`` (whether the verdict is the other one), ``image`` (``sha256``,
        ``bytes``, ``width``, ``height``, ``name``), ``result`` (the record without its path), ``model``, ``software`` and
        ``made``.
    """
    width, height = record.size or (None, None)
    result = record.to_dict()
    del result["path"]
    result.pop("model", None)
    about = detector.metadata
    return {
        "format": _FORMAT,
        "truth": truth,
        "wrong": record.verdict not in (truth, None),
        "image": {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "width": width,
            "height": height,
            "name": Path(record.path).name if with_name else None,
        },
        "result": result,
        "model": {
            **detector.identity.to_dict(),
            **{
                key: about.get(key)
                for key in ("backbone", "channels", "resolution", "dataset", "threshold", "unsure")
            },
        },
        "software": {
            "bdd_tf": __version__,
            "engine": detector.engine_name,
            "pillow": PIL.__version__,
        },
        "made": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
    }


def write_bundle(path: Path, case: dict[str, Any], image: bytes | None, suffix: str = "") -> None:
    """Write the bundle.

    Args:
        path: The ZIP file.
        case: Of `case_of`.
        image: The image file to include; None to leave it out.
        suffix: Suffix of the image's name in the bundle, e.g. ``".jpg"``.

    Raises:
        BddError: If the file cannot be written.
    """
    with (
        complete_file(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle,
    ):
        bundle.writestr(CASE, json.dumps(case, indent=2) + "\n")
        if image is not None:
            bundle.writestr(f"image{suffix}", image)
