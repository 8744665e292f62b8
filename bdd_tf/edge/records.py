"""What `bdd detect` says of each file, and the forms it says it in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bdd_tf.edge.familiarity import Strangeness
from bdd_tf.edge.labels import FAKE, LABELS

COLUMNS = ("path", "fake_probability", "verdict", "error")
CROP_COLUMNS = ("left", "top", "width", "height", "box_probability", "crops")
"""Further columns of CSV under ``--crop``."""


@dataclass(frozen=True)
class Record:
    """What is known about one image or video: a probability with its verdict, or an error.

    A video that breaks off has both: the probability is that of the part that could be read.

    Attributes:
        path: As found.
        fake_probability: In [0, 1]; None if the image could not be read.
        verdict: ``"REAL"`` or ``"FAKE"``; None if the image could not be read.
        error: One sentence; None if all went well.
        box: ``left, top, width, height`` in pixels of the part that looks most fake, if a crop was chosen.
        box_probability: That part's own probability.
        crops: How many parts were scored.
        video: Of a video, its summary as JSON values (`bdd_tf.edge.video.Watched.to_dict`).
        explanation: What `--explain` found, as JSON values (`bdd_tf.edge.detect_explain`).
        interrupted: Whether a signal stopped the video.
        thumbnail: A small JPEG, if thumbnails were asked for.
        size: Width and height of the image in pixels, if thumbnails were asked for.
        strangeness: What sets it apart from the training images, of a video by the size of its frames.
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
    thumbnail: bytes | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    strangeness: Strangeness | None = None

    def to_dict(self, *, crop: bool = False, explain: bool = False) -> dict[str, Any]:
        """As JSON values.

        Args:
            crop: Whether to add ``box``, ``box_probability`` and ``crops``.
            explain: Whether to add ``explanation``, which may be None.

        Returns:
            `COLUMNS` and ``note``, these, and of videos ``video``.
        """
        values = {column: getattr(self, column) for column in COLUMNS}
        values["note"] = None if self.strangeness is None else self.strangeness.note
        if crop:
            box = None if self.box is None else list(self.box)
            values.update(box=box, box_probability=self.box_probability, crops=self.crops)
        if explain:
            values["explanation"] = self.explanation
        if self.video is not None:
            values["video"] = self.video
        return values


Form = Callable[[Record], str]


def choose_form(form: str, *, crop: bool = False, explain: bool = False) -> Form:
    """The function that makes a line of a record; prints CSV's header.

    Args:
        form: ``"text"``, ``"json"`` or ``"csv"``.
        crop: Whether a crop was chosen, whose box is then told.
        explain: Whether JSON is to hold explanations.
    """
    if form == "json":
        return lambda record: as_json(record.to_dict(crop=crop, explain=explain))
    if form == "csv":
        print_line(",".join(COLUMNS + (CROP_COLUMNS if crop else ())))
        return lambda record: _as_csv(record, crop)
    return _as_text


def as_json(values: dict[str, Any]) -> str:
    """One line of JSON.

    ASCII only: bytes of a file name that are no UTF-8 become \\udcXX escapes, which json.loads turns back.
    """
    return json.dumps(values)


def print_line(line: str) -> None:
    """Print to standard output, at once, for whoever reads the pipe line by line.

    What the terminal's encoding lacks, and bytes of file names that are no UTF-8, are shown as escapes.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def print_fake(record: Record, *, null: bool = False) -> None:
    """Print a fake's path alone, byte by byte as the file system has it, for other programs.

    Args:
        record: Of any verdict; nothing is printed unless it is ``FAKE``.
        null: End it with a zero byte, for ``xargs -0``, since a path may hold a line feed.
    """
    if record.verdict != LABELS[FAKE]:
        return
    if sys.stdout.isatty() and not null:
        print_line(visible(record.path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(record.path) + (b"\0" if null else b"\n"))
    sys.stdout.buffer.flush()


def visible(text: str) -> str:
    """Text on one line and without control characters, which a file name may hold to deceive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_text(record: Record) -> str:
    box = ""
    if record.box is not None and record.box_probability is not None:
        left, top, width, height = record.box
        box = f"  worst {record.box_probability:.4f} at {left},{top} {width}x{height} of {record.crops}"
    return f"{record.verdict}  {record.fake_probability:.4f}{box}  {visible(record.path)}"


def _as_csv(record: Record, crop: bool) -> str:
    values = [getattr(record, column) for column in COLUMNS]
    if crop:
        values += [*(record.box or (None,) * 4), record.box_probability, record.crops]
    return ",".join("" if value is None else _csv_field(str(value)) for value in values)


def _csv_field(text: str) -> str:
    if any(character in text for character in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
