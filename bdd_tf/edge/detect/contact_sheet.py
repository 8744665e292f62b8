"""Contact sheet: one HTML file with thumbnails of all images, sorted by score, highest first.

The file is self-contained: thumbnails, style and script are embedded, and its content security policy blocks
everything else, whatever the names of the scored files contain. Until all scores are known, thumbnails are kept in a
temporary file, so that memory use remains small with thousands of images.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.evidence.item import Evidence
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, summary
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.text import escaped, policy_hash
from bdd_tf.files import complete_file

_STYLE = """
:root { --real: #2a7f62; --fake: #c0392b; --unsure: #5f6368; --line: #dadce0; color-scheme: light; }
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
figure.unsure { border-top-color: var(--unsure); }
figure[hidden] { display: none; }
.picture { height: 176px; display: flex; align-items: center; justify-content: center; background: #eceef0; }
.frame { position: relative; display: block; line-height: 0; }
.frame img { max-width: 176px; max-height: 168px; }
.frame img.small { image-rendering: pixelated; }
.box { position: absolute; border: 2px solid #ffd400; outline: 1px solid #0008; }
figcaption { padding: 7px 10px 9px; }
.verdict { font-weight: 600; color: var(--real); }
.fake .verdict { color: var(--fake); }
.unsure .verdict { color: var(--unsure); }
.score { float: right; font-variant-numeric: tabular-nums; }
.note { margin: 0; padding: 8px 20px; background: #fff3cd; }
.path, .more { font-size: 12px; color: #5f6368; overflow-wrap: anywhere; }
.path a { color: inherit; }
.more ul { margin: 2px 0 0; padding-left: 16px; }
section { padding: 0 20px 24px; }
footer { padding: 0 20px 24px; }
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
// With a band: whether the verdicts are those of the file. The threshold decides between two verdicts only.
const band = document.getElementById("band");
function verdict(i) {
  if (band && band.checked) return cards[i].dataset.verdict.toLowerCase();
  return scores[i] >= Number(slider.value) ? "fake" : "real";
}
function update() {
  const found = { fake: 0, real: 0, unsure: 0 };
  cards.forEach((card, i) => {
    const label = verdict(i);
    found[label] += 1;
    card.className = label;
    card.querySelector(".verdict").textContent = label.toUpperCase();
    card.hidden = only.value !== "all" && only.value !== label;
  });
  counts.textContent = found.fake + " fake, " + found.real + " real" + (band ? ", " + found.unsure + " unsure" : "");
}
function decide() { if (band) band.checked = false; update(); }
slider.addEventListener("input", () => { number.value = Number(slider.value).toFixed(4); decide(); });
number.addEventListener("input", () => { slider.value = number.value; decide(); });
if (band) band.addEventListener("change", update);
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
        decide: Its threshold is the initial position of the slider; its band, if any, decides until the slider is moved.
        trained_on: Statistics that the images were compared with, for the note on those that differ.
        model: Name, version and digest of the model, in words; None to leave them out.
    """

    def __init__(
        self,
        path: Path,
        decide: DecisionRule,
        trained_on: TrainingStatistics | None = None,
        model: str | None = None,
    ) -> None:
        self._path = path
        self._decide = decide
        self._model = model
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
        with complete_file(self._path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(_head(self._decide, Counter(entry.verdict for entry in self._entries)))
            if self._trained_on is not None:
                note = summary(self._deviations, len(self._entries), self._trained_on)
                file.write(f'<p class="note">{escaped(note)}</p>\n' if note else "")
            file.write("<main>\n")
            for entry in self._entries:
                self._spool.seek(entry.start)
                given = "" if self._decide.unsure is None else f' data-verdict="{entry.verdict}"'
                file.write(_card(entry, self._spool.read(entry.length), self._path.parent, given))
            file.write("</main>\n")
            if self._unread:
                file.write(f"<section><h2>{len(self._unread)} with errors</h2>\n<ul>\n")
                for path, error in self._unread:
                    file.write(f"<li>{escaped(path)}: {escaped(error)}</li>\n")
                file.write("</ul></section>\n")
            if self._model is not None:
                file.write(f'<footer class="more">{escaped(self._model)}</footer>\n')
            file.write(f"<script>{_SCRIPT}</script>\n</body></html>\n")

    def __enter__(self) -> ContactSheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()


def _head(decide: DecisionRule, found: Counter[str]) -> str:
    threshold, images = decide.threshold, found.total()
    words = ("fake", "real") if decide.unsure is None else ("fake", "real", "unsure")
    counts = ", ".join(f"{found[word.upper()]} {word}" for word in words)
    band = unsure = ""
    if decide.unsure is not None:
        low, high = decide.unsure
        band = f"""
<label><input id="band" type="checkbox" checked> unsure from {low:.4f} to {high:.4f}, as the model says</label>"""
        unsure = '<option value="unsure">unsure</option>'
    # Inline styles position the boxes; only the script with this hash may run.
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{policy_hash(_SCRIPT)}'"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bdd detect: {images} images</title>
<style>{_STYLE}</style></head><body>
<header><h1>bdd detect</h1>
<label>Threshold <input id="threshold" type="range" min="0" max="1" step="any" value="{threshold!r}">
<input id="number" type="number" min="0" max="1" step="any" aria-label="Threshold" value="{threshold:.4f}"></label>{band}
<label>Show <select id="only"><option value="all">all</option><option value="fake">fakes</option>
<option value="real">reals</option>{unsure}</select></label>
<span id="counts">{counts}</span></header>
"""


def _card(entry: _Entry, jpeg: bytes, folder: Path, given: str) -> str:
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
    note = f'<div class="more">{escaped(entry.note)}</div>' if entry.note else ""
    evidence = "".join(
        f"<li><b>{escaped(item.strength)}</b>: {escaped(item.says)} ({escaped(item.where)})</li>"
        for item in entry.evidence
    )
    if evidence:
        note += f'<details class="more"><summary>evidence: {len(entry.evidence)}</summary><ul>{evidence}</ul></details>'
    return (
        f'<figure class="{entry.verdict.lower()}" data-score="{entry.score!r}"{given}>'
        f'<div class="picture"><span class="frame">'
        f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{image}"{shape}>{box}</span></div>'
        f'<figcaption><span class="score">{entry.score:.4f}</span><span class="verdict">{escaped(entry.verdict)}</span>'
        f'<div class="path"><a href="{_link(entry.path, folder)}">{escaped(entry.path)}</a></div>{note}'
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


def _link(path: str, folder: Path) -> str:
    """Return the URL of a file relative to the sheet; the leading ``./`` prevents URL schemes such as ``javascript:``."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return Path(path).absolute().as_uri()
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))
