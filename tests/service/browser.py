"""The page in a real browser: make test-browser. Chromium comes from the system (apt-get install chromium)."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector
from bdd_tf.edge.images.decode import KNOWN
from tests.card_page import (
    CARDS,
    assert_evidence_is_listed,
    assert_verdict,
    drop_on_target,
    open_picker_by_enter,
    texts,
    wait,
)
from tests.chromium import needs_chromium
from tests.service.serving import MODEL, Server

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server():
    with Server("--max-upload", "1") as running:
        yield running


@pytest.fixture
def page(browser, server):
    """The page, fresh; afterwards: nothing but its own server was asked, and the policy was never violated."""
    browser.reset()
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.wait_for("document.getElementById('model').textContent")
    yield browser
    own = (f"http://127.0.0.1:{server.port}/", f"blob:http://127.0.0.1:{server.port}/", "data:image/")
    assert not [address for address in browser.requests if not address.startswith(own)]
    refused = "the server responded with a status of 4"
    assert not [line for line in browser.console if refused not in line]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images whose scores differ: noise, a gradient, a TIFF that browsers do not show; and two files that fail."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:120, 0:160]
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "noise.png")
    Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8)).save(folder / "gradient.jpg")
    Image.fromarray(np.stack([y, x, y], -1).astype(np.uint8)).save(folder / "scan.tif")
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(b"no image")
    (folder / "large.bmp").write_bytes(b"BM" + bytes(2 << 20))
    return folder


def test_an_image_dropped_on_the_page_gets_the_detectors_verdict(page, files):
    path = files / "gradient.jpg"
    drop_on_target(page, path)
    wait(page, 1)
    with Detector(MODEL) as detector:
        score = float(detector.predict(path)[0])
        assert_verdict(page, "gradient.jpg", score, detector, 1e-6)
    time.sleep(0.5)  # the bar grows
    bar, track = page.evaluate("['.fill', '.track'].map((s) => document.querySelector(s).offsetWidth)")
    assert bar / track == pytest.approx(score, abs=0.02)
    assert "160×120 px" in texts(page, ".facts")[0]
    assert " ms" in texts(page, ".facts")[0]
    assert "larger than the training images: 160x120 px" in texts(page, ".note")[0]
    views = page.evaluate("[...document.querySelectorAll('.views img')].map((i) => [i.naturalWidth, i.alt])")
    assert [width for width, _ in views] == [32, 32, 32]
    assert [alt.split()[0] for _, alt in views] == ["Network", "FFT", "LBP"]


def test_the_statements_of_the_metadata_are_listed(page, tmp_path):
    assert_evidence_is_listed(page, tmp_path)


def test_the_page_can_be_used_by_keyboard(page, files):
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    assert open_picker_by_enter(page) == ["selectMultiple"]
    page.choose("#files", [files / "noise.png"])
    wait(page, 1)
    for button in ("csv", "json", "clear"):
        page.press("Tab")
        assert page.evaluate("document.activeElement.id") == button
    page.press("Enter")
    assert page.evaluate("document.querySelectorAll('.card').length") == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_several_files_go_one_after_another_and_errors_are_sentences(page, files):
    names = ["noise.png", "<img src=x onerror=alert(1)>.png", "scan.tif", "large.bmp"]
    page.choose("#files", [files / name for name in names])
    wait(page, 4)
    assert texts(page, "h3") == names
    assert texts(page, ".error") == [
        "", f"Not an image in a known format ({KNOWN}).", "",
        "The file has 2 MiB; the limit is 1 MiB.",
    ]  # fmt: skip
    assert page.evaluate("document.querySelectorAll('h3 img').length") == 0
    assert page.evaluate("document.getElementById('count').textContent") == "4 images"
    # What the browser cannot show is shown as the network sees it.
    assert page.evaluate(f"{CARDS}[2].querySelector('.preview img').src.startsWith('data:image/png')")
    page.choose("#files", [files / "gradient.jpg"])
    wait(page, 5)
    assert texts(page, "h3") == ["gradient.jpg", *names]  # the newest on top


def test_a_folder_and_a_service_that_has_gone_are_sentences(browser, files, tmp_path):
    with Server() as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("document.getElementById('model').textContent")
        browser.drop([tmp_path], 400, 250)
        wait(browser, 1)
        assert texts(browser, ".error") == ["This is a folder, or a file that cannot be read."]
    browser.choose("#files", [files / "noise.png"])
    wait(browser, 2)
    assert texts(browser, ".error")[0] == "The service does not respond; is bdd serve still running?"


def test_a_busy_service_is_asked_again(page, files):
    page.evaluate(
        "(() => { const real = window.fetch; let busy = 2; window.fetch = (...a) => busy-- > 0 ? Promise.resolve("
        "new Response('{}', {status: 503, headers: {'Retry-After': '0.1'}})) : real(...a); })()"
    )
    page.choose("#files", [files / "noise.png"])
    wait(page, 1)
    assert texts(page, ".badge")[0] in ("REAL", "FAKE")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (768, "light"), (1280, "dark")])
def test_it_fits_every_screen_and_both_schemes(page, files, width, scheme):
    page.prefer(scheme)
    page.resize(width, 800)
    page.choose("#files", [files / "noise.png", files / "large.bmp"])
    wait(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "[...document.querySelectorAll('body *')].filter((element) => element.offsetWidth"
        f" && element.getBoundingClientRect().right > {width} + 1).length"
    )
    assert page.evaluate(outside) == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = np.mean([int(part) for part in ground[4:-1].split(",")]) > 128
    assert light == (scheme == "light")


def test_contrast_of_text_is_enough(page, files):
    """WCAG's ratio for small text, 4.5, for every text in both schemes."""
    page.choose("#files", [files / "noise.png", files / "gradient.jpg", files / "large.bmp"])
    wait(page, 3)
    code = """(() => {
      const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const luminance = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour.endsWith(', 0)') ? ground(element.parentElement) : colour;
      };
      const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      return [...document.querySelectorAll('body *')]
        .filter((element) => element.offsetWidth && !element.closest('.unseen') && hasText(element))
        .map((element) => {
          const pair = [getComputedStyle(element).color, ground(element)].map(luminance).sort((a, b) => b - a);
          return [element.className || element.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)];
        });
    })()"""
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        time.sleep(0.4)  # colours fade
        measured = page.evaluate(code)
        assert len(measured) > 20
        assert not [(name, ratio) for name, ratio in measured if ratio < 4.5]


def test_documentation_page(browser, server):
    browser.console.clear()
    browser.open(f"http://127.0.0.1:{server.port}/docs")
    assert "POST /api/detect" in browser.evaluate("document.body.textContent")
    assert not browser.console


@pytest.mark.skipif(
    "SCREENSHOT" not in os.environ,
    reason="writes docs/serve.png: make test-browser SCREENSHOT=folder-of-images",
)
def test_screenshot_for_the_readme(browser, files):
    """The files of a folder on the page, as docs/serve.png."""
    chosen = sorted(Path(os.environ["SCREENSHOT"]).iterdir())
    with Server() as server:
        browser.prefer("light")
        browser.resize(940, 800, 1.5)
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("document.getElementById('model').textContent")
        browser.choose("#files", [files / "noise.png"])  # warms the runtime up
        wait(browser, 1)
        browser.evaluate("document.getElementById('clear').click()")
        browser.choose("#files", chosen)
        wait(browser, 1 + len(chosen))
        time.sleep(0.6)
        browser.evaluate("document.activeElement.blur()")
        time.sleep(0.4)  # colours fade
        height = browser.evaluate("document.documentElement.scrollHeight")
        shot = Image.open(io.BytesIO(browser.screenshot(height)))
    out = Path(__file__).resolve().parents[2] / "docs" / "serve.png"
    palette = shot.convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE)
    palette.save(out, optimize=True)
    assert out.stat().st_size < 150_000
