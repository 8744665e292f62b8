"""Records of `bdd detect`, one per file, and their output formats: text, JSON and CSV."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bdd_tf.edge.evidence.item import Evidence
from bdd_tf.edge.images.out_of_distribution import Deviation
from bdd_tf.edge.labels import FAKE, LABELS
from bdd_tf.edge.stability import Stability
from bdd_tf.edge.text import visible

COLUMNS = ("path", "fake_probability", "verdict", "error", "note")
CROP_COLUMNS = ("left", "top", "width", "height", "box_probability", "crops")
"""Additional CSV columns with ``--crop``."""
EVIDENCE_COLUMN = "evidence"
"""Last CSV column with ``--evidence``: the kinds that were found, with spaces between them."""


class Record(NamedTuple):
    """Result for one image or video: a probability with its verdict, or an error.

    A truncated video has both; its probability is that of the part that could be read.

    Attributes:
        path: Path of the file.
        fake_probability: Score in [0, 1]; None if the file could not be read.
        verdict: ``"REAL"`` or ``"FAKE"``, or ``"UNSURE"`` of a file with a band; None if the file could not be read.
        error: Error message, one sentence; None if there was no error.
        box: ``left, top, width, height`` of the most suspicious view, in pixels, if a crop was selected.
        box_probability: Score of that view alone.
        crops: Number of views scored, if a crop was selected.
        video: Summary of a video as JSON values (`bdd_tf.edge.video.watch.VideoResult.to_dict`).
        explanation: Result of ``--explain`` as JSON values (`bdd_tf.edge.detect.explanations`).
        interrupted: Whether a signal stopped the video.
        thumbnail: JPEG thumbnail, if requested.
        size: Width and height of the image in pixels, if known.
        deviation: Deviation from the training images; for videos, by the size of the frames alone, or of native crops by
            those of the last frame.
        views: Of native crops, their number and whether they were padded or have no texture, as JSON values
            (`bdd_tf.edge.images.crops.Views.to_dict`).
        stability: Scores of degraded copies, if they were requested.
        model: Name, version and digest of the model file, as JSON values.
        evidence: What the file's metadata says, which the score does not depend on.
    """

    path: str
    fake_probability: float | None = None
    verdict: str | None = None
    error: str | None = None
    box: tuple[int, int, int, int] | None = None
    box_probability: float | None = None
    crops: int | None = None
    video: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None
    interrupted: bool = False
    thumbnail: bytes | None = None
    size: tuple[int, int] | None = None
    deviation: Deviation | None = None
    views: dict[str, Any] | None = None
    stability: Stability | None = None
    model: dict[str, Any] | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def note(self) -> str | None:
        """Reasons to distrust the score, in a few words; None if there are none.

        How the image differs from the training images, and which degraded copies have another verdict.
        """
        reasons = (
            None if self.deviation is None else self.deviation.note,
            None if self.stability is None else self.stability.note,
        )
        return "; ".join(reason for reason in reasons if reason) or None

    def to_dict(self, *, crop: bool = False, explain: bool = False) -> dict[str, Any]:
        """Return the record as JSON values.

        Args:
            crop: Whether to add ``box``, ``box_probability`` and ``crops``.
            explain: Whether to add ``explanation``, which may be None.

        Returns:
            The keys in `COLUMNS`, the keys requested, ``views`` if native crops were scored, ``stability`` if degraded
            copies were, ``video`` if the record is a video's, ``evidence`` if some was found, and ``model`` if it is known.
        """
        values = {column: getattr(self, column) for column in COLUMNS}
        if crop:
            box = None if self.box is None else list(self.box)
            values.update(box=box, box_probability=self.box_probability, crops=self.crops)
        if explain:
            values["explanation"] = self.explanation
        if self.views is not None:
            values["views"] = self.views
        if self.stability is not None:
            values["stability"] = self.stability.to_dict()
        if self.video is not None:
            values["video"] = self.video
        if self.evidence:
            values["evidence"] = [item.as_dict() for item in self.evidence]
        if self.model is not None:
            values["model"] = self.model
        return values


Form = Callable[[Record], str]


def choose_form(
    form: str, *, crop: bool = False, explain: bool = False, notes: bool = True, evidence: bool = False
) -> Form:
    """Return the function that formats a record as one line of text. For CSV, print the header first.

    Args:
        form: ``"text"``, ``"json"`` or ``"csv"``.
        crop: Whether a crop was selected; the output then includes the most suspicious view.
        explain: Whether JSON output includes explanations.
        notes: Whether text output includes notes; JSON and CSV always do.
        evidence: Whether text output includes evidence, in lines of their own, and CSV a column of its kinds; JSON always
            does.
    """
    if form == "json":
        return lambda record: as_json(record.to_dict(crop=crop, explain=explain))
    if form == "csv":
        print_line(
            ",".join((*COLUMNS, *(CROP_COLUMNS if crop else ()), *((EVIDENCE_COLUMN,) if evidence else ())))
        )
        return lambda record: _as_csv(record, crop, evidence)
    return lambda record: _as_text(record, notes) + (evidence_lines(record.evidence) if evidence else "")


def evidence_lines(evidence: Iterable[Evidence]) -> str:
    """Return one indented line per piece of evidence, each with a line feed in front."""
    return "".join(f"\n  {item.strength}: {visible(item.says)} ({visible(item.where)})" for item in evidence)


def as_json(values: dict[str, Any]) -> str:
    """Return one line of JSON in ASCII.

    Bytes of a file name that are not valid UTF-8 become \\udcXX escapes, which json.loads restores.
    """
    return json.dumps(values)


def print_line(line: str) -> None:
    """Print one line on standard output and flush it, so that a reader of the pipe receives it immediately.

    Characters that the output encoding lacks, and bytes that are not valid UTF-8, are printed as escapes.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def print_fake(record: Record, *, null: bool = False) -> None:
    """Print only the path of a fake, for other programs, with the exact bytes of the file name.

    Args:
        record: Any record; nothing is printed unless its verdict is ``FAKE``.
        null: Whether to end the path with a zero byte, for ``xargs -0``, since a path may contain a line feed.
    """
    if record.verdict != LABELS[FAKE]:
        return
    if sys.stdout.isatty() and not null:
        print_line(visible(record.path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(record.path) + (b"\0" if null else b"\n"))
    sys.stdout.buffer.flush()


def _as_text(record: Record, notes: bool) -> str:
    box = ""
    if record.box is not None and record.box_probability is not None:
        left, top, width, height = record.box
        box = f"  worst {record.box_probability:.4f} at {left},{top} {width}x{height} of {record.crops}"
    note = f"  (note: {record.note})" if notes and record.note is not None else ""
    return f"{record.verdict}  {record.fake_probability:.4f}{box}  {visible(record.path)}{note}"


def _as_csv(record: Record, crop: bool, evidence: bool) -> str:
    values = [getattr(record, column) for column in COLUMNS]
    if crop:
        values += [*(record.box or (None,) * 4), record.box_probability, record.crops]
    if evidence:
        values.append(" ".join(dict.fromkeys(item.kind for item in record.evidence)) or None)
    return ",".join("" if value is None else _csv_field(str(value)) for value in values)


def _csv_field(text: str) -> str:
    if any(character in text for character in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
