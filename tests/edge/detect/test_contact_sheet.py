import base64
import hashlib
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.detect.contact_sheet import ContactSheet
from bdd_tf.edge.detect.loader import THUMBNAIL, ImageLoader, thumbnail
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detect.score import score_paths
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.errors import BddError
from tests.edge.video.video_files import Brightness, plain, write_video

JPEG = thumbnail(np.zeros((20, 30, 3), np.uint8))


def sheet(tmp_path, records, threshold=0.5) -> str:
    with ContactSheet(tmp_path / "sheet.html", DecisionRule(threshold)) as page:
        for record in records:
            page.add(record)
        page.write()
    return (tmp_path / "sheet.html").read_text(encoding="utf-8")


def scored(path, score, **more):
    word = "FAKE" if score >= 0.5 else "REAL"
    return Record(path, score, word, thumbnail=JPEG, size=(30, 20), **more)


def test_the_most_fake_come_first_and_all_are_there(tmp_path):
    scores = np.random.default_rng(0).random(300).tolist()
    text = sheet(tmp_path, [scored(f"{i}.png", score) for i, score in enumerate(scores)])
    found = [float(value) for value in re.findall(r'data-score="([^"]+)"', text)]
    assert found == sorted(scores, reverse=True)
    paths = re.findall(r'<a href="./([^"]+)"', text)
    assert [scores[int(Path(path).stem)] for path in paths] == found
    fakes = sum(score >= 0.5 for score in scores)
    assert f"{fakes} fake, {300 - fakes} real" in text
    assert text.count('figure class="fake"') == fakes
    images = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert {base64.b64decode(image) for image in images} == {JPEG}
    assert len(images) == 300


HOSTILE = [
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "javascript:alert(1).png",
    "a&amp;b'.png",
    "new\nline\x1b[2J.png",
    "\udcff\udcfe.png",
    "//host/x.png",
    "%00#?.png",
    "</script>.png",
]


def test_names_of_files_stay_names(tmp_path):
    records = [scored(name, 0.9) for name in HOSTILE] + [Record(name, error="<b>bad</b>") for name in HOSTILE]
    text = sheet(tmp_path, records)
    body = text[text.index("<main>") : text.index("<script>")]
    tags = {tag.split()[0] for tag in re.findall(r"<(/?[a-z][^>]*)", body)}
    known = {"main", "figure", "div", "span", "img", "figcaption", "a", "section", "h2", "ul", "li"}
    assert {tag.lstrip("/") for tag in tags} <= known
    assert not re.search(r"<[^>]* on[a-z]+=", body)
    for link in re.findall(r'href="([^"]*)"', body):
        assert re.fullmatch(r"(\./)[A-Za-z0-9_.\-~/%]*", link), link
    assert html.unescape(body).count("new\\nline\\x1b[2J.png") == 2
    assert f"{len(HOSTILE)} with errors" in text


def test_nothing_from_elsewhere_is_loaded_and_only_our_script_runs(tmp_path):
    text = sheet(tmp_path, [scored("a.png", 0.9)])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text).group(1)
    assert "default-src 'none'" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)


def test_a_sheet_is_complete_or_not_there(tmp_path):
    with ContactSheet(tmp_path / "sheet.html", DecisionRule(0.5)) as page:
        page.add(scored("a.png", 0.9))
    assert list(tmp_path.iterdir()) == []
    with (
        ContactSheet(tmp_path / "gone" / "sheet.html", DecisionRule(0.5)) as page,
        pytest.raises(BddError, match="written"),
    ):
        page.write()


def test_thumbnails_are_small_and_keep_their_shape():
    for shape in ((3000, 2000), (20, 30), (1, 4000), (5, 5)):
        image = Image.open(io.BytesIO(thumbnail(np.zeros((*shape, 3), np.uint8))))
        assert max(image.size) == min(THUMBNAIL, max(shape))
        assert image.format == "JPEG"


def test_each_detection_has_box_thumbnail_and_video_note(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[32:, 96:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "bad.png").touch()
    detector = Brightness(32)
    cropper = Cropper(detector.resize, "tiles")
    records = list(
        score_paths(
            detector,
            [tmp_path / "a.png", tmp_path / "bad.png"],
            DecisionRule(0.5),
            cropper=cropper,
            loader=ImageLoader(cropper, thumbnails=True),
        )
    )
    assert records[0].box == (96, 32, 32, 32)
    assert records[0].size == (128, 64)
    text = sheet(tmp_path, records)
    assert "left:75.00%;top:50.00%;width:25.00%;height:50.00%" in text
    assert "bad.png: the file is empty" in text
    assert "worst of 15" in text


def test_a_video_shows_its_peak_and_its_timeline(tmp_path, float_file, capfd):
    from bdd_tf import cli

    frames = [plain(20)] * 10 + [plain(220)] * 3 + [plain(20)] * 10
    path = write_video(tmp_path / "v.avi", frames)
    assert (
        cli.main(["detect", str(path), "--model", str(float_file), "--html", str(tmp_path / "s.html")]) == 0
    )
    text = (tmp_path / "s.html").read_text()
    assert "of frames fake, peak" in text
    image = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", text).group(1))))
    assert image.size == (48, 32 + 12)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium (apt-get install chromium)")
@pytest.mark.parametrize(("threshold", "show"), [("0.25", "all"), ("0.75", "fake"), ("0.75", "real")])
def test_the_slider_works_in_a_browser(tmp_path, threshold, show):
    scores = [0.1, 0.2, 0.5, 0.7, 0.8, 0.9]
    text = sheet(tmp_path, [scored(f"{HOSTILE[i]}{i}", score) for i, score in enumerate(scores)])
    # The page as generated, except for the initial state of slider and selection.
    text = text.replace('step="any" value="0.5"', f'step="any" value="{threshold}"', 1)
    text = text.replace(f'<option value="{show}">', f'<option value="{show}" selected>')
    (tmp_path / "sheet.html").write_text(text, encoding="utf-8")
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
    ]
    result = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/sheet.html"], capture_output=True, text=True, timeout=60
    )
    page = result.stdout
    fakes = sum(score >= float(threshold) for score in scores)
    assert f"{fakes} fake, {6 - fakes} real</span>" in page
    cards = re.findall(r'<figure class="[^"]*" data-score="([^"]+)"( hidden="")?>', page)
    seen = {float(score) for score, hidden in cards if not hidden}
    wanted = {
        "all": scores,
        "fake": [s for s in scores if s >= 0.75],
        "real": [s for s in scores if s < 0.75],
    }[show]
    assert seen == set(wanted)
    words = re.findall(r'class="verdict">(\w+)<', page)
    assert words == ["FAKE"] * fakes + ["REAL"] * (6 - fakes)


def test_names_with_umlauts_and_joined_emoji_are_shown_as_they_are(tmp_path):
    names = ["Größe Zoë.png", "Zoe\u0308.png", "👩\u200d👩\u200d👧 🎉.png", "中文 Жанна.png"]
    text = sheet(tmp_path, [scored(name, 0.5) for name in names])
    shown = [html.unescape(name) for name in re.findall(r'<a href="[^"]+">([^<]+)</a>', text)]
    assert sorted(shown) == sorted(names)


def test_the_verdicts_of_a_band_are_shown_as_they_are(tmp_path):
    rule = DecisionRule(0.5, (0.3, 0.7))
    with ContactSheet(tmp_path / "s.html", rule, None, "Model <m>, SHA-256 00") as page:
        for i, score in enumerate((0.1, 0.5, 0.6, 0.9)):
            page.add(Record(f"{i}.png", score, rule(score), thumbnail=JPEG, size=(30, 20)))
        page.write()
    text = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "1 fake, 1 real, 2 unsure" in text
    assert re.findall(r'<figure class="(\w+)"[^>]*data-verdict="(\w+)"', text) == [
        ("fake", "FAKE"), ("unsure", "UNSURE"), ("unsure", "UNSURE"), ("real", "REAL"),
    ]  # fmt: skip
    assert "unsure from 0.3000 to 0.7000" in text
    assert "Model &lt;m&gt;, SHA-256 00" in text
    assert 'id="band"' not in sheet(tmp_path, [scored("a.png", 0.5)])
