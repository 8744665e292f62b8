"""UNSURE, stability and the identity of the model in the service's answers."""

import hashlib
import json

import pytest

from bdd_tf.edge import Detector
from bdd_tf.edge.shipped_model import shipped_model
from converters.unsure_band import with_band
from tests.service.serving import Server


@pytest.fixture(scope="module")
def banded(photo, tmp_path_factory):
    """A server of a model whose band holds the score of the photo, and the model's file."""
    content = shipped_model("photos").read_bytes()
    with Detector("photos") as detector:
        score = float(detector.predict(photo)[0])
    path = tmp_path_factory.mktemp("model") / "banded.tflite"
    path.write_bytes(with_band(content, max(0.0, score - 0.01), min(1.0, score + 0.01)))
    with Server("--model", str(path)) as running:
        yield running, path


def posted(server, photo, query=""):
    status, answer = server.json(
        "POST", f"/api/detect{query}", photo.read_bytes(), {"Content-Type": "image/jpeg"}
    )
    assert status == 200, answer
    return answer


def test_a_score_in_the_band_is_unsure_and_a_threshold_decides(banded, photo):
    server, path = banded
    answer = posted(server, photo)
    assert answer["verdict"] == "UNSURE"
    low, high = answer["unsure"]
    assert low < answer["fake_probability"] < high
    for threshold, verdict in ((answer["fake_probability"], "FAKE"), (1, "REAL")):
        decided = posted(server, photo, f"?threshold={threshold}")
        assert (decided["verdict"], "unsure" in decided) == (verdict, False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = server.json("GET", "/api/model")[1]
    assert answer["model_sha256"] == about["model_sha256"] == digest
    assert about["unsure"] == [low, high]


def test_the_check_adds_the_copies(banded, photo):
    server, _ = banded
    assert "stability" not in posted(server, photo)
    found = posted(server, photo, "?check=1")["stability"]
    assert list(found["scores"]) == list(found["verdicts"]) == ["jpeg80", "scale075", "shift3"]
    assert found["spread"] >= 0
    assert json.dumps(found)
