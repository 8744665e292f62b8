"""The page without a service in Chromium: make test-web. Chromium comes from the system (apt-get install chromium)."""

import base64
import io
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector
from bdd_tf.edge.shipped_model import shipped_model
from tests.card_page import (
    assert_evidence_is_listed,
    assert_verdict,
    drop_on_target,
    open_picker_by_enter,
    texts,
    wait,
)
from tests.chromium import Browser, needs_chromium
from tools.web.build import ROOT, build_package, build_page, write_service_worker
from tools.web.reference import Reference
from tools.web.serve import serve

pytestmark = needs_chromium

#: Largest difference of a score to the native library's.
TOLERANCE = 1e-5
AXE = "4.10.2"


class Site:
    """A folder on this machine, as a static host would serve it."""

    def __init__(self, folder):
        self.server = serve(folder)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def folder():
    output = ROOT / "build" / "web"
    return build_page(output, build_package(output))


@pytest.fixture(scope="module")
def site(folder):
    site = Site(folder)
    yield site
    site.stop()


@pytest.fixture
def page(browser, site):
    """The page, ready; afterwards: no address but its own was asked for, and the policy was never violated."""
    browser.reset()
    visit(browser, site)
    yield browser
    assert not [a for a in browser.requests if not a.startswith((site.address, f"blob:{site.address}"))]
    assert not browser.console


def visit(browser, site):
    browser.open(site.address)
    browser.wait_for("document.body.dataset.ready")


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def texture(width, height, seed):
    """RGB: waves with a little noise, or noise alone."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a, b, c = rng.uniform(0.02, 0.6, 3)
    waves = np.stack([np.sin(a * x), np.cos(b * y), np.sin(c * (x + y))], -1) * 90 + 128
    noise = rng.normal(0, 6, waves.shape) if seed % 5 else rng.uniform(-128, 128, waves.shape)
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images whose scores differ, and files that fail."""
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(texture(320, 240, 1)).save(folder / "waves.png")
    Image.fromarray(texture(640, 480, 5)).save(folder / "noise.jpg", quality=92)
    Image.fromarray(texture(60, 50, 2)).save(folder / "small.png")
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(b"no image" * 20)
    (folder / "cut.png").write_bytes((folder / "waves.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    header = bytearray(png(texture(32, 32, 1)))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "bomb.png").write_bytes(header)
    return folder


def native(path):
    pixels = np.asarray(Image.open(path).convert("RGBA"))
    with Reference(shipped_model("photos")) as reference:
        return reference.score_image(pixels)


def test_an_image_dropped_on_the_page_gets_the_native_verdict_crops_and_heat_map(page, files):
    path = files / "waves.png"
    drop_on_target(page, path)
    wait(page, 1)
    score, crops = native(path)
    with Detector(engine="native") as detector:
        assert_verdict(page, "waves.png", score, detector, TOLERANCE)
    assert "320×240 px" in texts(page, ".facts")[0]
    boxes = page.evaluate(
        "[...document.querySelectorAll('.heat rect')].map((r) => ['x', 'y', 'width', 'height'].map((k) => +r.getAttribute(k)))"
    )
    assert [tuple(box) for box in boxes] == [crop[:4] for crop in crops]
    rows = page.evaluate(
        "[...document.querySelectorAll('.crops tbody tr')].map((r) => r.lastElementChild.textContent)"
    )
    assert rows == [f"{crop[4]:.4f}" for crop in crops]
    assert page.evaluate("document.getElementById('warning').hidden")
    page.evaluate("document.getElementById('heat').click()")
    assert page.evaluate("getComputedStyle(document.querySelector('.heat')).display") == "none"


def test_a_pasted_image_is_scored(page, files):
    content = base64.b64encode((files / "small.png").read_bytes()).decode()
    page.evaluate(
        f"""(() => {{
          const bytes = Uint8Array.from(atob('{content}'), (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], 'image.png', {{ type: 'image/png' }}));
          document.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: data, bubbles: true }}));
        }})()"""
    )
    wait(page, 1)
    score, _ = native(files / "small.png")
    assert texts(page, ".score") == [f"fake probability {score:.4f}"]
    note = "Smaller than the network's crops of 96x96 px: padded by reflection. This verdict is unreliable."
    assert texts(page, ".note") == [note]


def test_broken_files_are_sentences_and_do_not_stop_the_others(page, files):
    names = ["<img src=x onerror=alert(1)>.png", "cut.png", "empty.jpg", "bomb.png", "noise.jpg"]
    page.choose("#files", [files / name for name in names])
    wait(page, 5)
    unknown = "This is not an image in a format that this browser knows, or it is damaged."
    assert texts(page, "h3") == names
    assert texts(page, ".error") == [
        unknown, unknown, "The file is empty.",
        "The image is too large (60000x60000 pixels); the limit is 100 million pixels.", "",
    ]  # fmt: skip
    assert texts(page, ".badge")[4] in ("REAL", "FAKE")
    assert page.evaluate("document.querySelectorAll('h3 img').length") == 0
    assert page.evaluate("document.getElementById('count').textContent") == "5 images"


def test_the_statements_of_the_metadata_are_listed(page, tmp_path):
    assert_evidence_is_listed(page, tmp_path)


def test_the_page_can_be_used_by_keyboard(page, files):
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    assert open_picker_by_enter(page) == ["selectMultiple"]
    page.choose("#files", [files / "small.png"])
    wait(page, 1)
    reached = []
    for _ in range(4):
        page.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert reached == ["heat", "clear", "preview", "SUMMARY"]
    page.press("Enter")
    assert page.evaluate("document.querySelector('.crops').open")
    page.evaluate("document.querySelector('.preview').focus()")
    page.press("Enter")
    assert page.evaluate("document.querySelector('.preview').getAttribute('aria-expanded')") == "true"
    page.evaluate("document.getElementById('clear').focus()")
    page.press("Enter")
    assert page.evaluate("document.querySelectorAll('.card').length") == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_200_files_get_the_native_scores(page, folder):
    """Through the browser's decoder: PNG files, some with colour profiles of their own."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    rng = np.random.default_rng(0)
    contents, expected = [], []
    with Reference(shipped_model("photos")) as reference:
        for i in range(200):
            width, height = (int(n) for n in rng.integers(50, 112, 2))  # one, two or four crops
            pixels = texture(width, height, i)
            contents.append(
                base64.b64encode(png(pixels, **({"icc_profile": profile} if i % 8 == 1 else {}))).decode()
            )
            opaque = np.full((height, width, 1), 255, np.uint8)
            expected.append(reference.score_image(np.concatenate([pixels, opaque], 2))[0])
    page.evaluate(
        f"""(async () => {{
          const {{ Detector }} = await import('./package/index.js');
          globalThis.detector = await Detector.load('./{shipped_model("photos").name}');
        }})()"""
    )
    found = []
    for first in range(0, 200, 25):
        part = json.dumps(contents[first : first + 25])
        found += page.evaluate(
            f"""(async () => {{
              const scores = [];
              for (const text of {part}) {{
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                scores.push((await detector.predict(new Blob([bytes]))).probability);
              }}
              return scores;
            }})()"""
        )
    apart = np.abs(np.array(found) - expected)
    print(f"200 files in Chromium: largest difference to native {apart.max():.2g}")
    assert apart.max() <= TOLERANCE


def test_rotation_is_applied_and_jpegs_are_decoded_as_pillow_does(page, files, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(texture(300, 200, 3)).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    page.choose("#files", [tmp_path / "turned.jpg"])
    wait(page, 1)
    assert "200×300 px" in texts(page, ".facts")[0]
    upright = np.asarray(
        Image.open(tmp_path / "turned.jpg").convert("RGBA").transpose(Image.Transpose.ROTATE_270)
    )
    with Reference(shipped_model("photos")) as reference:
        expected = reference.score_image(upright)[0]
    found = float(page.evaluate("document.querySelector('.meter').ariaValueNow"))
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_it_works_with_the_server_stopped(folder, files):
    """The browser has another profile, whose only copy of the page is the service worker's."""
    site = Site(folder)
    with Browser() as browser:
        visit(browser, site)
        browser.wait_for("document.body.dataset.offline")
        site.stop()
        browser.call("Network.clearBrowserCache")
        visit(browser, site)
        browser.choose("#files", [files / "waves.png"])
        wait(browser, 1)
        assert texts(browser, ".score") == [f"fake probability {native(files / 'waves.png')[0]:.4f}"]
        assert "works without a network" in browser.evaluate("document.getElementById('offline').textContent")


def test_a_new_version_replaces_the_stored_one(browser, folder, tmp_path):
    changed = Path(shutil.copytree(folder, tmp_path / "page"))
    site = Site(changed)
    registration = "navigator.serviceWorker.getRegistration()"
    stored = "caches.keys().then((names) => names.join())"
    visit(browser, site)
    browser.wait_for("document.body.dataset.offline")
    first = browser.evaluate(stored)
    for name, text in (("index.html", "Really real?"), ("icon.svg", "<svg/>")):
        path = changed / name
        path.write_text(path.read_text().replace("Real or AI-made?</h1>", f"{text}</h1>") + "\n")
    # A host in the middle of an upload: the worker is new, a file is not.
    (changed / "sw.js").unlink()
    write_service_worker(changed)
    (changed / "icon.svg").write_text("of another version")
    visit(browser, site)
    update = f"{registration}.then((r) => r.update()).catch(() => 0)"
    browser.evaluate(update)
    until(lambda: not browser.evaluate(f"{registration}.then((r) => Boolean(r.installing))"))
    assert browser.evaluate(stored) == first
    (changed / "sw.js").unlink()
    write_service_worker(changed)
    # The server's dates have whole seconds: a second upload within one would look unchanged to the browser's cache.
    later = time.time() + 5
    os.utime(changed / "sw.js", (later, later))
    browser.evaluate(update)
    until(lambda: browser.evaluate(stored) not in (first, "") and "," not in browser.evaluate(stored))
    visit(browser, site)
    assert browser.evaluate("document.querySelector('h1').textContent") == "Really real?"
    site.stop()


def test_a_touch_screen_has_a_button_for_the_camera(page):
    shown = "getComputedStyle(document.getElementById('photo')).display"
    assert page.evaluate(shown) == "none"
    assert page.evaluate("document.getElementById('camera').getAttribute('capture')") == "environment"
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        page.wait_for(f"{shown} === 'block'")
    finally:
        page.call("Emulation.setTouchEmulationEnabled", enabled=False)


def test_what_is_transferred_is_small(browser, folder):
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"the page with its model, uncompressed: {total:,} bytes")
    assert total <= 2_500_000
    tarballs = list((ROOT / "build" / "web").glob("bdd-tf-*.tgz"))
    assert all(path.stat().st_size <= 400_000 for path in tarballs)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("package/pixels.js", "image.set(context.getImageData(0, 0, width, count).data, first);",
         "const got = context.getImageData(0, 0, width, count).data; got[17] ^= 1; image.set(got, first);",
         "changes the pixels"),
        ("package/pixels.js", 'colorSpaceConversion: "none"', 'colorSpaceConversion: "default"', "changes the pixels"),
        ("selftest.json", '"probability": 0.', '"probability": 0.1', "computes other numbers"),
        ("photos-bnext-n.tflite", None, b"no model", "Not a .tflite file"),
        ("package/bdd.wasm", None, b"no module", "cannot compile the module"),
    ],
    ids=["noise", "colours", "numbers", "model", "module"],
)  # fmt: skip
def test_the_self_test_tells_what_is_wrong(browser, folder, tmp_path, file, old, new, said):
    broken = Path(shutil.copytree(folder, tmp_path / "page"))
    (broken / "sw.js").write_text("")  # it would refuse the changed file
    if old is None:
        (broken / file).write_bytes(new)
    else:
        text = (broken / file).read_text()
        assert old in text
        (broken / file).write_text(text.replace(old, new))
    site = Site(broken)
    visit(browser, site)
    assert said in browser.evaluate("document.getElementById('warning').textContent")
    assert not browser.evaluate("document.getElementById('warning').hidden")
    site.stop()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", f"axe-core@{AXE}"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"axe-core cannot be installed by npm: {done.stderr.strip()[:200]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


def test_axe_finds_no_fault(page, files, axe):
    page.choose("#files", [files / name for name in ("waves.png", "noise.jpg", "small.png", "cut.png")])
    wait(page, 4)
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        time.sleep(0.5)  # colours fade
        page.evaluate(f"(() => {{ {axe}; globalThis.axe = axe ?? window.axe; }})()")
        found = page.evaluate(
            "axe.run().then((r) => r.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)]))"
        )
        assert not found, (scheme, found)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "dark")])
def test_it_fits_every_screen_and_both_schemes(page, files, width, scheme):
    page.prefer(scheme)
    page.resize(width, 800)
    page.choose("#files", [files / "waves.png", files / "cut.png"])
    wait(page, 2)
    page.evaluate("document.querySelector('.crops').open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = np.mean([int(part) for part in ground[4:-1].split(",")]) > 128
    assert light == (scheme == "light")


@pytest.mark.skipif(
    "SCREENSHOTS" not in os.environ, reason="writes pictures: make test-web SCREENSHOTS=folder"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000])
def test_screenshots(page, files, scheme, width):
    page.prefer(scheme)
    page.resize(width, 900)
    page.choose("#files", [files / name for name in ("cut.png", "small.png", "noise.jpg", "waves.png")])
    wait(page, 4)
    page.evaluate(
        "(() => { document.querySelector('.crops:not([hidden])').open = true; document.activeElement.blur(); })()"
    )
    page.evaluate("document.querySelectorAll('.preview')[2].click()")
    time.sleep(0.8)  # bars grow, colours fade
    out = Path(os.environ["SCREENSHOTS"])
    out.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.documentElement.scrollHeight")
    (out / f"page-{scheme}-{width}.png").write_bytes(page.screenshot(height))
