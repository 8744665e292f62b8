import json
import shutil

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.edge import Detector
from bdd_tf.edge.shipped import FOLDER, shipped_model
from bdd_tf.edge.tflite_file import METADATA_NAME, embed_metadata, read_metadata
from bdd_tf.errors import UsageError
from bdd_tf.runs import Run
from converters import shipping
from converters.shipping import FILE_METRICS, RESULTS, SIZE_LIMIT, card, ship


def test_the_package_holds_one_model_validated_measured_and_small_enough():
    model = shipped_model()
    assert model.stat().st_size <= SIZE_LIMIT
    with Detector() as detector:
        assert detector.trained_on.dataset == detector.metadata["dataset"]
        assert detector.metadata["metrics"]["split"] == "test"
        validated = json.loads((RESULTS / model.stem / "metrics-validation.json").read_text())
        assert detector.threshold == validated["threshold"]
    measured = json.loads((RESULTS / model.stem / FILE_METRICS).read_text())
    assert measured["bytes"] == model.stat().st_size
    # Issue 7: the file within 0.1 points of the network.
    assert abs(measured["accuracy"] - detector.metadata["metrics"]["accuracy"]) <= 1e-3
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{model.stem}.md", model.name]


def test_its_card_says_what_the_files_say():
    model = shipped_model()
    written = model.with_suffix(".md").read_text()
    assert card(model.stem, model.read_bytes(), RESULTS / model.stem) == written
    for number in (f"{model.stat().st_size:,} bytes", "threshold 0.", "Licence"):
        assert number in written
    assert "$" not in written


def test_results_hold_no_second_copy():
    assert not list(RESULTS.rglob("*.tflite"))


@pytest.fixture
def run(trained, converted, tmp_path):
    """A copy of the small trained, converted run."""
    folder = tmp_path / "runs" / "mine"
    shutil.copytree(
        trained.path, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "figures")
    )
    return Run(folder)


@pytest.fixture
def places(tmp_path):
    folder, results = tmp_path / "models", tmp_path / "results"
    folder.mkdir()
    (folder / "old.tflite").write_bytes(b"old")
    (folder / "old.md").touch()
    return {"folder": folder, "results": results}


def test_shipping_measures_the_file_and_replaces_what_was_there(run, places, cache):
    (run.path / "note.txt").write_text("Trained on a toaster.\n")
    place = ship(run, **places)
    assert place == places["folder"] / "folder-bnext-n.tflite"
    assert sorted(path.name for path in places["folder"].iterdir()) == ["folder-bnext-n.md", place.name]
    kept = places["results"] / "folder-bnext-n"
    measured = json.loads((kept / FILE_METRICS).read_text())
    test = json.loads(run.metrics("test").read_text())
    assert measured["images"] == test["images"] == 24
    with Detector(place) as detector:
        assert detector.trained_on.sides == (32, 32)
    assert (kept / "config.yaml").read_text().count("data_dir: null") == 1
    text = place.with_suffix(".md").read_text()
    assert "Trained on a toaster." in text
    assert f"{place.stat().st_size:,} bytes" in text
    assert run.tflite.is_file()  # the run keeps its own
    assert text == card(place.stem, place.read_bytes(), kept)


def test_a_model_that_lies_in_results_is_moved(run, places, cache):
    kept = places["results"] / "folder-bnext-n"
    shutil.copytree(run.path, kept)
    place = ship(Run(kept), **places)
    assert place.is_file()
    assert not (kept / "model.tflite").exists()


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (lambda run: run.tflite.unlink(), "bdd convert"),
        (lambda run: run.metrics("validation").unlink(), "not the one chosen on validation"),
        (lambda run: _change(run.metrics("validation"), threshold=0.123), "0.123"),
        (lambda run: run.metrics("test").unlink(), "metrics of the test split"),
        (lambda run: _metadata(run, metrics=None), "metrics of the test split"),
        (
            lambda run: _metadata(run, metrics={"split": "validation", "accuracy": 1.0}),
            "metrics of the test split",
        ),
        (
            lambda run: run.tflite.write_bytes(run.tflite.read_bytes() + bytes(SIZE_LIMIT)),
            "3,000,000 at most",
        ),
    ],
)
def test_what_is_not_fit_to_be_shipped_is_refused_and_nothing_changes(run, places, break_, said):
    break_(run)
    with pytest.raises(UsageError, match=said):
        ship(run, **places)
    assert sorted(path.name for path in places["folder"].iterdir()) == ["old.md", "old.tflite"]
    assert not places["results"].exists()


def _change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _metadata(run, **values):
    content = run.tflite.read_bytes()
    about = {**read_metadata(content), **values}
    run.tflite.write_bytes(embed_metadata(content, METADATA_NAME, json.dumps(about).encode()))


def test_the_command_refuses_what_does_not_go_together(capsys):
    assert main(["convert", "--untrained", "--output", "x.tflite", "--ship"]) == 2
    assert main(["convert", "--run", "x", "--data-dir", "y"]) == 2
    assert "--ship" in capsys.readouterr().err


def test_subjects_of_cifake():
    names = ("test/FAKE/12.jpg", "test/REAL/0003 (2).jpg", "test/FAKE/999 (10).jpg")
    assert [shipping._subject(name) for name in names] == ["airplane", "automobile", "truck"]


def test_files_tell_what_they_were_trained_on(converted, tree):
    parsed = converted[1]
    about = read_metadata(parsed)["trained_on"]
    assert about["dataset"] == "folder"
    assert about["sides"] == [32, 32]
    assert 0 < about["images"] < 200  # a part of the 200 was held out
    assert np.all(np.diff([about["contrast"], about["detail"]]) >= 0)
