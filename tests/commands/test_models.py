"""`bdd models` and `bdd report-mistake`: which model it was, and cases that stay on this machine."""

import hashlib
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from bdd_tf import cli
from bdd_tf.edge import model_digests
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.model_digests import bundled_models, record_digests, recorded_digests
from bdd_tf.edge.shipped_model import FOLDER, shipped_models


def bdd(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_bundled_model_is_listed_with_its_digest(capsys):
    code, out, _ = bdd(capsys, "models", "list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["name"] for row in rows] == list(shipped_models())
    for row in rows:
        content = (FOLDER / row["file"]).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert row["resolution"] > 0
        assert row["licence"] == "LICENSE-MODEL.md"
    text = bdd(capsys, "models")[1]
    assert all(row["sha256"] in text for row in rows)


def test_the_bundled_files_are_as_released(capsys):
    assert set(recorded_digests()) == {path.name for path in FOLDER.glob("*.tflite")}
    code, out, _ = bdd(capsys, "models", "verify")
    assert (code, out.count("as released")) == (0, len(shipped_models()))
    assert bdd(capsys, "models", "verify", "photos")[0] == 0


def test_one_changed_byte_is_found(tmp_path, capsys, monkeypatch):
    for path in FOLDER.glob("*.tflite"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record_digests(tmp_path)
    assert all(model.intact for model in bundled_models(tmp_path))
    victim = tmp_path / "cifake-bnext-n.tflite"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert [model.intact for model in bundled_models(tmp_path)] == [
        model.path != victim for model in bundled_models(tmp_path)
    ]
    with Detector(victim) as changed, Detector("cifake") as bundled:
        assert changed.identity.sha256 == hashlib.sha256(content).hexdigest() != bundled.identity.sha256
    code, out, _ = bdd(capsys, "models", "verify", victim)
    assert code == 1
    assert "CHANGED" in out
    copy = tmp_path / "copy.tflite"
    copy.write_bytes((FOLDER / victim.name).read_bytes())
    assert bdd(capsys, "models", "verify", copy)[0] == 0
    copy.write_bytes(content)
    code, out, _ = bdd(capsys, "models", "verify", copy, "--json")
    assert (code, json.loads(out)["recorded"], json.loads(out)["intact"]) == (1, None, False)
    assert model_digests.LICENCE in bdd(capsys, "models")[2]


def test_wrong_usage_of_models_is_one_sentence(capsys):
    for arguments in (("list", "x"), ("verify", "gone.tflite"), ("remove",)):
        code, _, err = bdd(capsys, "models", *arguments)
        assert (code, "Traceback" in err) == (2, False)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "grandma at home.png"
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("with_image", [False, True])
def test_a_mistake_is_kept_without_pixels_unless_they_are_wanted(image, tmp_path, capsys, with_image):
    output = tmp_path / "case.zip"
    options = ["--with-image"] if with_image else []
    code, out, err = bdd(
        capsys, "report-mistake", image, "--truth", "real", "--model", "cifake", "--output", output, *options
    )
    assert (code, out.strip()) == (0, str(output))
    assert "Nothing was sent" in err
    with zipfile.ZipFile(output) as bundle:
        assert bundle.namelist() == (["case.json", "image.png"] if with_image else ["case.json"])
        case = json.loads(bundle.read("case.json"))
        if with_image:
            assert bundle.read("image.png") == image.read_bytes()
    assert case["image"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert case["image"]["name"] == (image.name if with_image else None)
    assert ("grandma" in json.dumps(case)) == with_image
    assert case["truth"] == "REAL"
    assert case["wrong"] == (case["result"]["verdict"] != "REAL")
    with Detector("cifake") as detector:
        assert case["model"]["sha256"] == detector.identity.sha256
        assert case["result"]["fake_probability"] == pytest.approx(
            float(detector.predict(image)[0]), abs=1e-6
        )
    assert set(case["result"]["stability"]["scores"]) == {"jpeg80", "scale075", "shift3"}
    if not with_image:
        assert output.stat().st_size < 4000


def test_mistakes_that_cannot_be_kept_are_one_sentence(image, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    for arguments in (
        ("gone.png", "--truth", "real"),
        (tmp_path, "--truth", "real"),
        (image, "--truth", "maybe"),
        (image,),
        (image, "--truth", "fake", "--output", tmp_path / "x.txt"),
        (tmp_path / "bad.png", "--truth", "fake", "--output", tmp_path / "x.zip"),
    ):
        code, _, err = bdd(capsys, "report-mistake", *arguments)
        assert code in (1, 2)
        assert err.startswith("bdd: error: ")
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.zip"))


def test_info_names_the_digest(capsys):
    about = json.loads(bdd(capsys, "info", "cifake", "--json")[1])
    assert about["sha256"] == recorded_digests()["cifake-bnext-n.tflite"]
    assert about["sha256"] in bdd(capsys, "info", "cifake")[1]
