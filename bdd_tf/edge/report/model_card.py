"""A summary of the model's card: from the file's metadata, and for a bundled model from the card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.report.words import percent

CARD_BYTES = 1 << 20
"""Longer cards are not read."""
_SECTION = "## Intended use and limits"


@dataclass(frozen=True)
class ModelSummary:
    """What a reader should know of a model.

    Attributes:
        rows: Name -> text, from the metadata.
        limits: Paragraphs on intended use and limits, from the card of a bundled model; empty for other files. Plain
            text in which ``**`` marks emphasis.
    """

    rows: dict[str, str]
    limits: tuple[str, ...]


def summary_of(detector: Detector) -> ModelSummary:
    """Return the summary of a detector's model."""
    return ModelSummary(_rows(detector), _limits(detector))


def _rows(detector: Detector) -> dict[str, str]:
    about = detector.metadata
    channels = about.get("channels")
    names = ", ".join(str(name) for name in channels) if isinstance(channels, list) else "unknown"
    rows = {
        "Network": f"{about.get('backbone') or 'unknown'}; channels {names}; input {detector.resize.size} px",
        "Trained on": str(about.get("dataset") or "unknown"),
    }
    if detector.trained_on is not None:
        rows["Trained on"] = detector.trained_on.describe()
    if detector.unsure is None:
        rows["Decides"] = f"FAKE from {percent(detector.threshold)} upwards, else REAL"
    else:
        low, high = detector.unsure
        rows["Decides"] = (
            f"FAKE from {percent(high)} upwards, REAL from {percent(low)} downwards, UNSURE between"
        )
    if (measured := _measured(about.get("metrics"))) is not None:
        rows["Measured"] = measured
    return rows


def _measured(metrics: Any) -> str | None:
    """Return accuracy and AUC of an evaluation in words; None without numbers."""
    if not isinstance(metrics, dict):
        return None
    found = [
        f"{word} {percent(float(metrics[key])) if key == 'accuracy' else format(metrics[key], '.3f')}"
        for key, word in (("accuracy", "accuracy"), ("auc", "AUC"))
        if isinstance(metrics.get(key), (int, float)) and not isinstance(metrics.get(key), bool)
    ]
    if not found:
        return None
    images = metrics.get("images")
    count = f" ({images:,} images)" if isinstance(images, int) else ""
    return f"{', '.join(found)} on the split {str(metrics.get('split'))[:40]}{count}"


def _limits(detector: Detector) -> tuple[str, ...]:
    card = detector.card
    if card is None or not card.is_file() or card.stat().st_size > CARD_BYTES:
        return ()
    _, _, section = card.read_text("utf-8").partition(f"\n{_SECTION}\n")
    text = section.partition("\n## ")[0]
    return tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
