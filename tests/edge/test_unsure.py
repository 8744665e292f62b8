"""The band of scores that a file does not decide: one law in Python, on the command line, in C and in the browser's module."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.labels import UNSURE, VERDICTS, DecisionRule, band_of, verdict
from bdd_tf.edge.tflite.metadata import METADATA_FORMAT, VIEWS_FORMAT
from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics.classification import decided
from tests.edge.detect_command import run_detect
from tests.edge.runtime.image_api import Model, Refused
from tests.edge.small_models import CROP, SIZE, TRAINED_ON, with_metadata, with_views

GRID = np.linspace(0, 1, 101)
RANK = {"REAL": 0, UNSURE: 1, "FAKE": 2}
BANDS = [(0.2, 0.7), (0.0, 1.0), (0.0, 0.25), (0.25, 1.0), (0.5, 0.500001)]


@pytest.mark.parametrize("band", [None, *BANDS])
def test_a_higher_score_never_makes_the_verdict_more_real(band):
    ranks = [RANK[verdict(p, 0.4, band)] for p in GRID]
    assert ranks == sorted(ranks)
    assert {verdict(p, 0.4, band) for p in GRID} <= set(VERDICTS)


@pytest.mark.parametrize("band", BANDS)
def test_the_ends_of_the_band_are_decided_and_what_lies_between_is_not(band):
    low, high = band
    assert verdict(low, 0.4, band) == "REAL"
    assert verdict(high, 0.4, band) == "FAKE"
    for p in GRID[(low < GRID) & (high > GRID)]:
        assert verdict(p, 0.4, band) == UNSURE


@pytest.mark.parametrize("band", BANDS)
def test_an_image_unlike_training_is_never_decided_where_there_is_a_band(band):
    assert {verdict(p, 0.4, band, deviates=True) for p in GRID} == {UNSURE}
    assert {verdict(p, 0.4, deviates=True) for p in GRID} == {"REAL", "FAKE"}


@pytest.mark.parametrize(
    "given",
    [[0.5], [0.2, 0.2], [0.7, 0.2], [-0.1, 0.5], [0.5, 1.1], "0.2", [0.1, "0.5"], [True, 1], {}, 0.5, [0, 1, 1],
     [0.1, float("nan")]],
)  # fmt: skip
def test_damaged_bands_are_refused_by_python_and_by_the_library(float_model, tmp_path, given):
    content = with_metadata(float_model.content, format=VIEWS_FORMAT, unsure=given)
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(BddError, match="damaged: the band"):
        Detector(path)
    model = Model(content)
    with pytest.raises(Refused, match=r"band unsure|no JSON"):
        model.score(np.zeros((20, 20, 3), np.uint8))
    model.close()


def test_a_band_needs_format_2_and_none_is_no_band(float_model, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(with_metadata(float_model.content, format=METADATA_FORMAT, unsure=[0.2, 0.7]))
    with pytest.raises(BddError, match="key unsure and format 1"):
        Detector(path)
    path.write_bytes(with_metadata(float_model.content, unsure=None))
    assert Detector(path).unsure is None
    assert band_of({}) is None


@pytest.fixture
def banded(views_model, tmp_path):
    """Writes a file with a band around the scores of some images; returns the file, the images and their scores."""
    rng = np.random.default_rng(5)
    files = []
    for i in range(8):
        wave = 128 + (20 + 12 * i) * np.sin(np.arange(40) / (2 + i))[:, None, None]
        pixels = (wave + rng.normal(0, 4 + 4 * i, (40, 40, 3))).clip(0, 255).astype(np.uint8)
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(files[-1])
    path = tmp_path / "banded.tflite"
    rule = ViewRule(CROP, 5, (1.0, 1.5, 2.0))
    path.write_bytes(with_views(views_model.content, rule))
    with Detector(path) as detector:
        scores = detector.predict(files)
    low, high = (float(x) for x in np.quantile(scores, (0.3, 0.7)))
    path.write_bytes(with_views(views_model.content, rule, unsure=[low, high]))
    return path, files, scores


def test_python_the_command_line_and_the_c_interface_agree(banded, capsys):
    path, files, scores = banded
    with Detector(path) as detector:
        assert detector.decide == DecisionRule(detector.threshold, detector.unsure)
        expected = detector.verdicts(scores)
        assert set(expected) == {"REAL", "FAKE", UNSURE}
    code, out, err = run_detect(capsys, *files, "--model", path, "--json")
    assert code == 0
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == expected
    assert f"{expected.count(UNSURE)} unsure" in err
    rows = csv.DictReader(io.StringIO(run_detect(capsys, *files, "--model", path, "--csv")[1]))
    assert [row["verdict"] for row in rows] == expected
    text = run_detect(capsys, *files, "--model", path)[1]
    assert [line.split()[0] for line in text.splitlines()] == expected
    model = Model(path.read_bytes())
    found = [model.score(np.asarray(Image.open(file))) for file in files]
    assert [VERDICTS[verdict.label] for verdict in found] == expected
    assert [verdict.fake for verdict in found] == [label == "FAKE" for label in expected]
    model.close()


def test_a_threshold_on_the_command_line_leaves_two_verdicts(banded, capsys):
    path, files, scores = banded
    for options in (("--threshold", "0.5"), ("--threshold", float(scores[0]))):
        out = run_detect(capsys, *files, "--model", path, "--json", *options)[1]
        records = [json.loads(line) for line in out.splitlines()]
        cut = float(options[1])
        assert [r["verdict"] for r in records] == [
            "FAKE" if r["fake_probability"] >= cut else "REAL" for r in records
        ]


def test_an_image_unlike_training_is_unsure_everywhere(float_model, tmp_path, capsys):
    path = tmp_path / "m.tflite"
    content = with_metadata(
        float_model.content, format=VIEWS_FORMAT, unsure=[0.0, 1e-6], trained_on=TRAINED_ON
    )
    path.write_bytes(content)
    pixels = np.random.default_rng(0).integers(
        0, 256, (200, 200, 3), dtype=np.uint8
    )  # much larger than in training
    Image.fromarray(pixels).save(tmp_path / "large.png")
    out = run_detect(capsys, tmp_path / "large.png", "--model", path, "--json")[1]
    record = json.loads(out)
    assert record["fake_probability"] > 1e-6
    assert record["verdict"] == UNSURE
    assert "larger" in record["note"]
    model = Model(content)
    assert VERDICTS[model.score(pixels).label] == UNSURE
    model.close()
    with Detector(path) as detector:
        scores = detector.predict_batch(np.zeros((1, SIZE, SIZE, 3), np.uint8))
        assert detector.verdicts(scores, ["much larger"]) == [UNSURE]
        assert detector.verdicts(scores, [None]) == ["FAKE"]
        with pytest.raises(UsageError, match="2 notes for 1 scores"):
            detector.verdicts(scores, [None, None])


def test_coverage_counts_what_is_decided():
    labels, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.9, 0.2, 0.6, 0.95])
    found = decided(labels, scores, (0.2, 0.9))
    assert found["coverage"] == pytest.approx(4 / 6)
    assert found["accuracy"] == pytest.approx(2 / 4)
    assert found["real_called_fake"] == pytest.approx(1 / 3)
    assert found["fake_called_real"] == pytest.approx(1 / 3)
    assert decided(labels, scores, (0.0, 1.0))["accuracy"] is None
