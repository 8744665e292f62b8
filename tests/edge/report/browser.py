"""The report in a real browser: make test-browser. Its policy holds, both schemes are readable, and it prints."""

import base64
import os
from pathlib import Path

import pytest

from bdd_tf import cli
from tests.axe import axe_source, faults
from tests.chromium import needs_chromium
from tests.edge.report.reports import write_hostile

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    image = write_hostile(folder)
    assert cli.main(["detect", str(image), "--report", str(folder / "out.html"), "--quiet"]) == 0
    return (folder / "out.html").as_uri()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def page(browser, address):
    """The report; afterwards: it asked for nothing but itself, and its policy was never violated."""
    browser.reset()
    browser.open(address)
    yield browser
    assert not [a for a in browser.requests if a != address and not a.startswith("data:image/")]
    assert not browser.console


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(page, axe, scheme):
    page.prefer(scheme)
    assert not faults(page, axe)


@pytest.mark.parametrize("width", [320, 1000])
def test_it_fits_narrow_and_wide_screens(page, width):
    page.resize(width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("Array.from(document.images).every((image) => image.naturalWidth > 0)")


def test_dark_is_dark_and_paper_is_white(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.prefer("dark")
    assert ground() != light
    page.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert ground() == "rgb(255, 255, 255)"
    made = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert made.startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.skipif(
    "REPORT_SCREENSHOTS" not in os.environ,
    reason="writes pictures: make test-browser REPORT_SCREENSHOTS=folder",
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(page, scheme):
    page.prefer(scheme)
    folder = Path(os.environ["REPORT_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.documentElement.scrollHeight")
    (folder / f"report-{scheme}.png").write_bytes(page.screenshot(height))
