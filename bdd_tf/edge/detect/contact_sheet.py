"""Contact sheet: one HTML file with thumbnails of all images, sorted by score, highest first.

The file is self-contained: thumbnails, style and script are embedded, and its content security policy blocks
everything else, whatever the names of the scored files contain. Until all scores are known, thumbnails are kept in a
temporary file, so that memory use remains small with thousands of images.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.evidence.item import Evidence
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, summary
from bdd_tf.edge.labels import FAKE, LABELS
from bdd_tf.edge.text import visible
from bdd_tf.files import complete_file

_STYLE = """
:root { --real: #2a7f62; --fake: #c0392b; --line: #dadce0; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.4 system-ui, sans-serif; color: #202124; background: #f6f7f8; }
header { position: sticky; top: 0; z-index: 1; padding: 12px 20px; background: #fff; border-bottom: 1px solid var(--line);
  display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: center; }
h1 { font-size: 17px; margin: 0; }
label { display: flex; gap: 8px; align-items: center; }
input[type=range] { width: 240px; accent-color: var(--fake); }
input[type=number] { width: 5.5em; font: inherit; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(184px, 1fr)); gap: 14px; padding: 18px 20px; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-top: 4px solid var(--real); border-radius: 6px;
  overflow: hidden; content-visibility: auto; contain-intrinsic-size: 184px 240px; }
figure.fake { border-top-color: var(--fake); }
figure[hidden] { display: none; }
.picture { height: 176px; display: flex; align-items: center; justify-content: center; background: #eceef0; }
.frame { position: relative; display: block; line-height: 0; }
.frame img { max-width: 176px; max-height: 168px; }
.frame img.small { image-rendering: pixelated; }
.box { position: absolute; border: 2px solid #ffd400; outline: 1px solid #0008; }
figcaption { padding: 7px 10px 9px; }
.verdict { font-weight: 600; color: var(--real); }
.fake .verdict { color: var(--fake); }
.score { float: right; font-variant-numeric: tabular-nums; }
.note { margin: 0; padding: 8px 20px; background: #fff3cd; }
.path, .more { font-size: 12px; color: #5f6368; overflow-wrap: anywhere; }
.path a { color: inherit; }
.more ul { margin: 2px 0 0; padding-left: 16px; }
section { padding: 0 20px 24px; }
h2 { font-size: 15px; margin: 8px 0; }
section li { overflow-wrap: anywhere; }
@media print { header { position: static; } }
"""

_SCRIPT = """
"use strict";
const slider = document.getElementById("threshold"), number = document.getElementById("number");
const only = document.getElementById("only"), counts = document.getElementById("counts");
const cards = Array.from(document.querySelectorAll("figure"));
const scores = cards.map(card => Number(card.dataset.score));
function update() {
  const threshold = Number(slider.value);
  let fakes = 0;
  cards.forEach((card, i) => {
    const fake = scores[i] >= threshold;
    fakes += fake;
    card.classList.toggle("fake", fake);
    card.querySelector(".verdict").textContent = fake ? "FAKE" : "REAL";
    card.hidden = only.value === "fake" ? !fake : only.value === "real" ? fake : false;
  });
  counts.textContent = fakes + " fake, " + (cards.length - fakes) + " real";
}
slider.addEventListener("input", () => { number.value = Number(slider.value).toFixed(4); update(); });
number.addEventListener("input", () => { slider.value = number.value; update(); });
only.addEventListener("change", update);
update();
"""


@dataclass(frozen=True)
class _Entry:
    """A scored image; its thumbnail is ``length`` bytes from ``start`` of the temporary file."""

    score: float
    verdict: str
    path: str
    note: str
    start: int
    length: int
    size: tuple[int, int]
    box: tuple[int, int, int, int] | None
    evidence: tuple[Evidence, ...]


class ContactSheet:
    """Collects records, then writes the sheet; to be used in a ``with`` statement.

    Args:
        path: Path of the HTML file.
        threshold: Initial position of the threshold slider, in [0, 1].
        trained_on: Statistics that the images were compared with, for the note on those that differ.
    """

    def __init__(self, path: Path, threshold: float, trained_on: TrainingStatistics | None = None) -> None:
        self._path = path
        self._threshold = threshold
        self._entries: list[_Entry] = []
        self._unread: list[tuple[str, str]] = []
        self._trained_on = trained_on
        self._deviations: list[str] = []
        self._spool = tempfile.TemporaryFile(prefix="bdd-")  # noqa: SIM115 (closed by __exit__)

    def add(self, record: Record) -> None:
        """Add a record. A scored one without a thumbnail is left out."""
        if record.error is not None:
            self._unread.append((record.path, record.error))
        if record.fake_probability is None or record.thumbnail is None:
            return
        if record.deviation is not None:
            self._deviations.append(record.deviation.kind)
        start = self._spool.tell()
        self._spool.write(record.thumbnail)
        self._entries.append(
            _Entry(
                record.fake_probability,
                record.verdict or "",
                record.path,
                _note(record),
                start,
                len(record.thumbnail),
                record.size or (1, 1),
                record.box,
                record.evidence,
            )
        )

    def write(self) -> None:
        """Write the HTML file.

        Raises:
            BddError: If the file cannot be written.
        """
        self._entries.sort(key=lambda entry: (-entry.score, entry.path))
        fakes = sum(entry.verdict == LABELS[FAKE] for entry in self._entries)
        with complete_file(self._path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(_head(self._threshold, len(self._entries), fakes))
            if self._trained_on is not None:
                note = summary(self._deviations, len(self._entries), self._trained_on)
                file.write(f'<p class="note">{_escape(note)}</p>\n' if note else "")
            file.write("<main>\n")
            for entry in self._entries:
                self._spool.seek(entry.start)
                file.write(_card(entry, self._spool.read(entry.length), self._path.parent))
            file.write("</main>\n")
            if self._unread:
                file.write(f"<section><h2>{len(self._unread)} with errors</h2>\n<ul>\n")
                for path, error in self._unread:
                    file.write(f"<li>{_escape(visible(path))}: {_escape(visible(error))}</li>\n")
                file.write("</ul></section>\n")
            file.write(f"<script>{_SCRIPT}</script>\n</body></html>\n")

    def __enter__(self) -> ContactSheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(threshold: float, images: int, fakes: int) -> str:
    # Inline styles position the boxes; only the script with this hash may run.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_hash(_SCRIPT)}'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bdd detect: {images} images</title>
<style>{_STYLE}</style></head><body>
<header><h1>bdd detect</h1>
<label>Threshold <input id="threshold" type="range" min="0" max="1" step="any" value="{threshold!r}">
<input id="number" type="number" min="0" max="1" step="any" aria-label="Threshold" value="{threshold:.4f}"></label>
<label>Show <select id="only"><option value="all">all</option><option value="fake">fakes</option>
<option value="real">reals</option></select></label>
<span id="counts">{fakes} fake, {images - fakes} real</span></header>
"""


def _card(entry: _Entry, jpeg: bytes, folder: Path) -> str:
    width, height = entry.size
    box = ""
    if entry.box is not None and entry.box[2:] != entry.size:
        left, top, w, h = entry.box
        box = (
            f'<span class="box" style="left:{left / width:.2%};top:{top / height:.2%};'
            f'width:{w / width:.2%};height:{h / height:.2%}"></span>'
        )
    # Small images are enlarged without interpolation, so that single pixels are visible.
    small = max(width, height) < 168
    shape = f' class="small" style="{"width:168px" if width >= height else "height:160px"}"' if small else ""
    image = base64.b64encode(jpeg).decode()
    note = f'<div class="more">{_escape(entry.note)}</div>' if entry.note else ""
    evidence = "".join(
        f"<li><b>{_escape(item.strength)}</b>: {_escape(visible(item.says))} ({_escape(visible(item.where))})</li>"
        for item in entry.evidence
    )
    if evidence:
        note += f'<details class="more"><summary>evidence: {len(entry.evidence)}</summary><ul>{evidence}</ul></details>'
    return (
        f'<figure class="{"fake" if entry.verdict == LABELS[FAKE] else "real"}" data-score="{entry.score!r}">'
        f'<div class="picture"><span class="frame">'
        f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{image}"{shape}>{box}</span></div>'
        f'<figcaption><span class="score">{entry.score:.4f}</span><span class="verdict">{_escape(entry.verdict)}</span>'
        f'<div class="path"><a href="{_link(entry.path, folder)}">{_escape(visible(entry.path))}</a></div>{note}'
        "</figcaption></figure>\n"
    )


def _note(record: Record) -> str:
    return "; ".join(text for text in (_parts(record), record.note) if text)


def _parts(record: Record) -> str:
    if record.video is not None:
        share, peak, at = (record.video[key] for key in ("fake_share", "peak", "peak_seconds"))
        return f"video: {share:.0%} of frames fake, peak {peak:.3f} at {at:.2f} s (shown)"
    if record.box_probability is not None and record.crops != 1:
        return f"worst of {record.crops}: {record.box_probability:.4f}"
    return ""


def _escape(text: str) -> str:
    # Bytes of a file name that are not valid UTF-8 cannot be written to the file.
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def _link(path: str, folder: Path) -> str:
    """Return the URL of a file relative to the sheet; the leading ``./`` prevents URL schemes such as ``javascript:``."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return Path(path).absolute().as_uri()
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))
