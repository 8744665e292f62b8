"""The report on one image: what it says, and that it asks for nothing and runs nothing."""

import base64
import hashlib
import html
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.labels import UNSURE, DecisionRule
from bdd_tf.edge.report.words import LIMITS, estimate, likelihood, percent, reasons
from bdd_tf.edge.text import policy_hash
from bdd_tf.edge.tflite.metadata import VIEWS_FORMAT
from bdd_tf.errors import UsageError
from tests.edge.detect_command import run_detect
from tests.edge.report.reports import NAME, write_hostile
from tests.edge.small_models import with_metadata


class Elements(HTMLParser):
    """Names, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def banded_file(float_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "banded.tflite"
    path.write_bytes(with_metadata(float_model.content, format=VIEWS_FORMAT, unsure=[1e-6, 1 - 1e-6]))
    return path


@pytest.fixture
def report(banded_file, tmp_path, capsys):
    image = write_hostile(tmp_path)
    code, _, err = run_detect(capsys, image, "--model", banded_file, "--report", tmp_path / "out.html")
    assert (code, "Traceback" in err) == (0, False)
    return (tmp_path / "out.html").read_text(encoding="utf-8")


def test_nothing_outside_is_asked_for_and_no_script_runs(report):
    elements = Elements(report).found
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "form", "a", "base"}
    sources = [attrs["src"] for _, attrs in elements if "src" in attrs]
    assert len(sources) == 2
    assert all(source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for source in sources)
    assert not [
        attrs for _, attrs in elements if any(name.startswith("on") or name == "style" for name in attrs)
    ]
    style = re.search(r"<style>(.*?)</style>", report, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(attrs["content"] for tag, attrs in elements if attrs.get("http-equiv"))
    assert "default-src 'none'; img-src data:" in policy
    assert f"'{policy_hash(style)}'" in policy
    assert "unsafe" not in policy


def test_names_and_metadata_are_text(report):
    words = "".join(Elements(report).text)
    assert NAME in words
    assert "<b>paint</b>" in words
    assert "onerror=alert(2)" in words
    assert "<script" not in report
    assert "<b>" not in report
    assert html.escape(NAME) in report


def test_it_says_what_was_found_and_with_which_files(report, banded_file, tmp_path):
    words = " ".join("".join(Elements(report).text).split())
    image = next(tmp_path.glob("*.png"))
    assert hashlib.sha256(image.read_bytes()).hexdigest() in words
    assert hashlib.sha256(banded_file.read_bytes()).hexdigest() in words
    with Detector(banded_file) as detector:
        score = float(detector.predict(image)[0])
    assert UNSURE in words
    assert estimate(score, DecisionRule(0.25, (1e-6, 1 - 1e-6))) in words
    assert "saved again as JPEG" in words
    assert "Steps: 20" in words  # evidence
    for sentence in LIMITS:
        assert sentence in words
    pictures = [base64.b64decode(text) for text in re.findall(r'src="data:image/\w+;base64,([^"]+)"', report)]
    assert [Image.open(io.BytesIO(picture)).format for picture in pictures] == ["JPEG", "PNG"]
    assert not Image.open(io.BytesIO(pictures[0])).getexif()


def test_without_a_check_it_says_so(float_file, tmp_path, capsys):
    image = write_hostile(tmp_path)
    options = ("--no-check", "--no-evidence", "--report", tmp_path / "out.html")
    run_detect(capsys, image, "--model", float_file, *options)
    text = (tmp_path / "out.html").read_text()
    assert "Not checked" in text
    assert "Not looked for" in text
    assert "Steps: 20" not in text


def test_a_bundled_models_limits_are_there(tmp_path, capsys):
    image = write_hostile(tmp_path)
    run_detect(capsys, image, "--model", "cifake", "--report", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    assert "The model is valid for images like these only." in " ".join(text.split())
    assert "**" not in text


def test_only_a_single_image_has_a_report(float_file, tmp_path, capsys):
    image = write_hostile(tmp_path)
    for inputs in ((image, image), (tmp_path,)):
        with pytest.raises(UsageError, match="single image"):
            run_detect(capsys, *inputs, "--model", float_file, "--report", tmp_path / "out.html")
    with pytest.raises(UsageError, match=r"must end in \.html"):
        run_detect(capsys, image, "--model", float_file, "--report", tmp_path / "out.txt")
    page = tmp_path / "image.html"
    page.write_bytes(image.read_bytes())
    with pytest.raises(UsageError, match="one of the inputs"):
        run_detect(capsys, page, "--model", float_file, "--report", page)
    (tmp_path / "bad.png").write_bytes(b"no image")
    code, _, err = run_detect(
        capsys, tmp_path / "bad.png", "--model", float_file, "--report", tmp_path / "out.html"
    )
    assert code == 1
    assert "bad.png" in err
    assert not (tmp_path / "out.html").exists()


def test_likelihoods_rise_with_the_probability():
    names = [likelihood(i / 1000) for i in range(1001)]
    order = list(dict.fromkeys(names))
    assert order == [
        "extremely unlikely", "very unlikely", "unlikely", "about as likely as not", "likely", "very likely",
        "extremely likely",
    ]  # fmt: skip
    assert names == sorted(names, key=order.index)
    assert "100" not in percent(1.0)
    assert percent(0.0) == "less than 0.1 %"


def test_the_reasons_name_what_decided():
    plain, band = DecisionRule(0.6), DecisionRule(0.6, (0.3, 0.9))
    assert "at or above" in reasons(0.6, plain, note=None, deviates=False, flips=False)[0]
    assert "below" in reasons(0.59, plain, note=None, deviates=False, flips=False)[0]
    assert "not between them, where" in reasons(0.6, band, note=None, deviates=False, flips=False)[0]
    assert len(reasons(0.95, band, note="padded", deviates=True, flips=True)) == 4
