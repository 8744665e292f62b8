"""Write a report as one HTML page that asks for nothing outside itself and runs no script."""

from __future__ import annotations

import base64
import re

from bdd_tf.edge.report.content import Report
from bdd_tf.edge.report.style import STYLE
from bdd_tf.edge.report.words import HEADLINES, LIMITS, estimate, percent, reasons
from bdd_tf.edge.stability import Stability
from bdd_tf.edge.text import escaped, policy_hash

_COPIES = {
    "jpeg80": "saved again as JPEG of quality 80",
    "scale075": "reduced to 75 % of its width and height",
    "shift3": "cropped by 3 px at the top and on the left",
}


def page(report: Report) -> str:
    """Return the HTML page of a report. Every text from outside is escaped."""
    sections = (
        _verdict(report),
        _explanation(report),
        _stability(report.record.stability, report.record.verdict or ""),
        _evidence(report),
        _model(report),
        _facts(report),
        _limits(),
    )
    policy = f"default-src 'none'; img-src data:; style-src '{policy_hash(STYLE)}'; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(report.record.verdict or "")}: {escaped(report.name)}</title>
<style>{STYLE}</style></head><body>
<header><h1>Real or AI-made?</h1><p>Report on {escaped(report.name)}</p></header>
<main>
{"".join(sections)}</main>
<footer><p>Made by bdd detect on this machine; the image was not sent anywhere.</p></footer>
</body></html>
"""


def _verdict(report: Report) -> str:
    record = report.record
    score, label = record.fake_probability or 0.0, record.verdict or ""
    flips = record.stability is not None and record.stability.flips
    sentences = reasons(
        score, report.rule, note=record.note, deviates=record.deviation is not None, flips=flips
    )
    edges = report.rule.unsure or (report.rule.threshold,)
    # A style attribute needs a looser policy; an SVG image has its positions as attributes.
    ticks = "".join(
        f'<rect class="tick" x="{1000 * edge - 2:.1f}" y="0" width="4" height="20"/>' for edge in edges
    )
    return f"""<section class="verdict {label}" aria-labelledby="verdict">
<img alt="The image" src="data:image/jpeg;base64,{_base64(report.picture)}">
<div><h2 id="verdict"><span class="badge">{label}</span>{escaped(HEADLINES[label])}</h2>
<p class="lead">{escaped(estimate(score, report.rule))}</p>
<svg class="meter" viewBox="0 0 1000 20" role="img" aria-label="{escaped(percent(score))} on a scale from photograph to AI-made">
<rect class="track" y="4" width="1000" height="12" rx="6"/>
<rect class="fill" y="4" width="{1000 * score:.1f}" height="12" rx="6"/>{ticks}</svg>
<div class="scale"><span>photograph</span><span>AI-made</span></div>
{"".join(f"<p>{escaped(sentence)}</p>" for sentence in sentences)}</div>
</section>
"""


def _explanation(report: Report) -> str:
    return f"""<section aria-labelledby="why"><h2 id="why">Where the score comes from</h2>
<p>The map shows the evidence of single regions: {escaped(report.explained)}. Regions and orders of magnitude count, not single
cells; the map explains the model, not the image.</p>
<img class="heat" alt="The image, the input of the model, and a heat map: orange for AI-made, blue for real"
src="data:image/png;base64,{_base64(report.heat_map)}">
</section>
"""


def _stability(found: Stability | None, label: str) -> str:
    head = '<section aria-labelledby="stability"><h2 id="stability">Stability</h2>\n'
    if found is None:
        return f"{head}<p>Not checked (--no-check).</p></section>\n"
    rows = [("as it is", found.score, found.verdict)]
    rows += [(_COPIES[name], score, found.verdicts[name]) for name, score in found.scores.items()]
    lines = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td class="number">{score:.4f}</td>'
        f'<td class="{word}-ink">{word}</td></tr>'
        for name, score, word in rows
    )
    said = (
        f"A copy has another verdict; the verdict of this report is {label}."
        if found.flips
        else "All copies have the same verdict."
    )
    return f"""{head}<p>{said} The scores differ by {found.spread:.4f} at most.</p>
<div class="wide" tabindex="0" role="group" aria-labelledby="stability"><table><thead><tr><th scope="col">The image</th>
<th scope="col">Score</th><th scope="col">Verdict</th></tr></thead><tbody>{lines}</tbody></table></div></section>
"""


def _evidence(report: Report) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escaped(item.kind)}</th><td class="text">{escaped(item.says)}</td>'
        f'<td class="text">{escaped(item.where)}</td><td>{escaped(item.strength)}</td></tr>'
        for item in report.evidence or ()
    )
    table = (
        '<div class="wide" tabindex="0" role="group" aria-labelledby="evidence"><table><thead><tr><th scope="col">Kind</th>'
        '<th scope="col">Says</th><th scope="col">Where</th><th scope="col">Strength</th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
        if lines
        else "<p>Not looked for.</p>"
        if report.evidence is None
        else "<p>Nothing was found. That proves nothing: most programs and platforms remove metadata.</p>"
    )
    return f"""<section aria-labelledby="evidence"><h2 id="evidence">What the file itself says</h2>
<p>Found in the file beside the picture. It has no influence on the score. Unsigned metadata can be forged.</p>
{table}</section>
"""


def _model(report: Report) -> str:
    limits = "".join(f"<p>{_emphasised(paragraph)}</p>" for paragraph in report.model.limits)
    return f"""<section aria-labelledby="model"><h2 id="model">The model</h2>
{_table(report.model.rows)}{limits}</section>
"""


def _facts(report: Report) -> str:
    return f"""<section aria-labelledby="facts"><h2 id="facts">Versions and digests</h2>
{_table(report.facts)}</section>
"""


def _limits() -> str:
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in LIMITS)
    return f"""<section aria-labelledby="limits"><h2 id="limits">What this does not prove</h2>
<ul>{items}</ul></section>
"""


def _table(rows: dict[str, str]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td class="{"digest" if "SHA" in name else "text"}">{escaped(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f"<table><tbody>{lines}</tbody></table>\n"


def _emphasised(text: str) -> str:
    """Escape text in which ``**`` marks emphasis."""
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped(text))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
