"""What a report says: everything is gathered here, and `bdd_tf.edge.report.page` only writes it down."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from bdd_tf import __version__
from bdd_tf.edge.detect.loader import preview
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence import Evidence
from bdd_tf.edge.explain import heat_map
from bdd_tf.edge.explain.explainers import create_explainer
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.images.decode import open_image
from bdd_tf.edge.images.opening import read_all
from bdd_tf.edge.images.views import size_of
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.report.model_card import ModelSummary, summary_of
from bdd_tf.edge.view_scores import score_views


@dataclass(frozen=True)
class Report:
    """The content of a report.

    Attributes:
        name: Name of the image, as the user gave it.
        record: Its result.
        rule: What decided.
        picture: The image, reduced, as a JPEG file without metadata.
        heat_map: PNG file of the explanation.
        explained: What the heat map shows, in words.
        evidence: What the file itself says; None if nobody looked.
        model: About the model.
        facts: Versions and digests: name -> text.
    """

    name: str
    record: Record
    rule: DecisionRule
    picture: bytes
    heat_map: bytes
    explained: str
    evidence: tuple[Evidence, ...] | None
    model: ModelSummary
    facts: dict[str, str]


def gather(record: Record, name: str, detector: Detector, cropper: Cropper, rule: DecisionRule) -> Report:
    """Gather the content of a report.

    Args:
        record: Of an image that was scored; its path is that of the file.
        name: Name under which the image is reported.
        detector: Scored the image.
        cropper: Cut the image.
        rule: Decided.

    Raises:
        ImageError: If the file cannot be read any more.
        BddError: If the model fails.
    """
    content = read_all(record.path)
    # A PIL image of its own: its reduced copy is made in place.
    image = open_image(content)
    width, height = size_of(image)
    views = cropper(image)
    found = score_views(detector, [views], cropper)[0]
    seen = views.images[found.view]
    explanation = create_explainer("occlusion", detector)(seen)
    shown = preview(image)
    drawn = heat_map.draw(
        seen,
        explanation,
        record.verdict or "",
        Path(name).name,
        found.probability,
        record.note,
        heat_map.photo_of(shown, explanation, views, found.view, (width, height), detector.resize),
    )
    part = (
        "" if found.views == 1 else f", for the most suspicious of the {found.views} parts that were scored"
    )
    return Report(
        name,
        record,
        rule,
        _jpeg(shown),
        heat_map.png(drawn),
        f"{explanation.meaning}{part}",
        record.evidence,
        summary_of(detector),
        _facts(content, (width, height), detector),
    )


def _jpeg(picture: Image.Image) -> bytes:
    with io.BytesIO() as file:
        picture.convert("RGB").save(file, "JPEG", quality=85)
        return file.getvalue()


def _facts(content: bytes, size: tuple[int, int], detector: Detector) -> dict[str, str]:
    identity: dict[str, Any] = detector.identity.to_dict()
    return {
        "Image": f"{size[0]} x {size[1]} px, {len(content):,} bytes",
        "Image file SHA-256": hashlib.sha256(content).hexdigest(),
        "Model": f"{identity['name']}, written by bdd_tf {identity['version'] or 'of unknown version'}",
        "Model file SHA-256": identity["sha256"],
        "Software": f"bdd_tf {__version__}, engine {detector.engine_name}, Pillow {PIL.__version__}",
        "Made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
    }
