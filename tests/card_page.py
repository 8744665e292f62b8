"""What the page of `bdd serve` and the page without a service have in common (bdd_tf/service/page.cards.js), in Chromium."""

import time
from pathlib import Path

import pytest

from bdd_tf.edge import Detector
from tests.chromium import Browser
from tests.edge.evidence.containers import encoded, png, text_chunk

CARDS = "[...document.querySelectorAll('.card')]"


def wait(page: Browser, count: int) -> None:
    """Wait until so many images are done."""
    page.wait_for(f"document.body.dataset.done === '{count}'")


def texts(page: Browser, selector: str) -> list[str]:
    """The text of an element of each card."""
    return page.evaluate(f"{CARDS}.map((card) => card.querySelector({selector!r}).textContent)")


def drop_on_target(page: Browser, path: Path) -> None:
    """Drop a file on the middle of the area for files."""
    x, y, width, height = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('drop').getBoundingClientRect())"
    )
    page.drop([path], x + width / 2, y + height / 2)


def open_picker_by_enter(page: Browser) -> list[str]:
    """Press Enter; returns the modes of the file pickers that it opens."""
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.opened.clear()
    page.press("Enter")
    deadline = time.monotonic() + 10
    while not page.opened and time.monotonic() < deadline:
        page.evaluate("1")
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    return page.opened


def assert_verdict(page: Browser, name: str, score: float, detector: Detector, tolerance: float) -> None:
    """The only card is that of the file, with this score and the detector's verdict and threshold."""
    verdict = detector.verdicts([score])[0]
    assert texts(page, "h3") == [name]
    assert texts(page, ".badge") == [verdict]
    assert texts(page, ".score") == [f"fake probability {score:.4f}"]
    assert texts(page, ".threshold") == [f"threshold {detector.threshold:.3f}"]
    shown = float(page.evaluate("document.querySelector('.meter').ariaValueNow"))
    assert shown == pytest.approx(score, abs=tolerance)
    assert f"{name}: {verdict}" in page.evaluate("document.getElementById('status').textContent")


def assert_evidence_is_listed(page: Browser, folder: Path) -> None:
    """A file whose metadata names a generator, in letters that a page must not take for elements; and a plain one."""
    made, plain = folder / "made.png", folder / "plain.png"
    made.write_bytes(png(text_chunk("parameters", "<b>a cat</b>")))
    plain.write_bytes(encoded("PNG"))
    page.choose("#files", [made, plain])
    wait(page, 2)
    hidden = page.evaluate(f"{CARDS}.map((card) => card.querySelector('.evidence').hidden)")
    shown = dict(zip(texts(page, "h3"), zip(hidden, texts(page, ".evidence ul"), strict=True), strict=True))
    assert shown["plain.png"] == (True, "")
    said = 'text as Stable Diffusion programs write it: "<b>a cat</b>"'
    assert shown["made.png"] == (False, f'unverified: {said} (PNG tEXt "parameters")')
    page.evaluate(f"{CARDS}.forEach((card) => card.querySelector('.evidence summary').click())")
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert page.evaluate(wide) is False
