"""The band is written into a file, and nothing else of it changes."""

import hashlib
import json

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.shipped_model import shipped_model
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import BddError, UsageError
from converters import unsure_band
from converters.unsure_band import band_in, with_band


@pytest.fixture(scope="module")
def content():
    return shipped_model("cifake").read_bytes()


def document(tmp_path, content, **changes):
    values = {
        "quick": False,
        "detector": {"sha256": hashlib.sha256(content).hexdigest()},
        "unsure": {"low": 0.25, "high": 0.75, "notes": ["no band is needed"]},
        **changes,
    }
    path = tmp_path / "metrics-photos-file.json"
    path.write_text(json.dumps(values))
    return path


def test_weights_scores_and_all_other_metadata_stay(content, tmp_path):
    made = with_band(content, 0.25, 0.75)
    assert made.endswith(content)
    before, after = read_metadata(content), read_metadata(made)
    assert after == {**before, "format": 2, "unsure": [0.25, 0.75]}
    assert parse_tflite(made).subgraphs == parse_tflite(content).subgraphs
    path = tmp_path / "m.tflite"
    path.write_bytes(made)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with Detector(path) as banded, Detector("cifake") as plain:
        np.testing.assert_array_equal(banded.predict_batch(images), plain.predict_batch(images))
        assert banded.unsure == (0.25, 0.75)
        assert banded.identity.sha256 != plain.identity.sha256


def test_a_band_can_be_replaced(content):
    again = with_band(with_band(content, 0.25, 0.75), 0.1, 0.9)
    assert read_metadata(again)["unsure"] == [0.1, 0.9]
    assert again.endswith(content)


@pytest.mark.parametrize("band", [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.5)])
def test_impossible_bands_are_refused(content, band):
    with pytest.raises(BddError, match="not two rising numbers"):
        with_band(content, *band)


def test_only_a_full_evaluation_of_this_file_counts(content, tmp_path):
    assert band_in(document(tmp_path, content), content) == (0.25, 0.75)
    for changes in ({"quick": True}, {"detector": {"sha256": "0" * 64}}):
        with pytest.raises(UsageError, match="another file, or of a quick"):
            band_in(document(tmp_path, content, **changes), content)
    none = {"low": None, "high": None, "notes": ["no band is needed"]}
    with pytest.raises(UsageError, match="no band is needed"):
        band_in(document(tmp_path, content, unsure=none), content)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BddError, match="no evaluation with a band"):
        band_in(tmp_path / "x.json", content)


def test_the_command_changes_the_file_in_place(content, tmp_path, monkeypatch, capsys):
    model = tmp_path / "m.tflite"
    model.write_bytes(content)
    path = document(tmp_path, content)
    monkeypatch.setattr("sys.argv", ["unsure_band", str(model), "--metrics", str(path)])
    assert unsure_band.main() == 0
    assert "weights are as they were" in capsys.readouterr().out
    assert model.read_bytes() == with_band(content, 0.25, 0.75)
    # The file is another one now.
    assert unsure_band.main() == 2
    assert "another file" in capsys.readouterr().err
