"""`bdd evaluate --robustness`: rows that can be recomputed by hand, kept when it is killed."""

import json
import os
import shutil

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.edge import Detector
from bdd_tf.edge.images.decode import read_image
from bdd_tf.errors import BddError
from bdd_tf.evaluation import perturbations, robustness
from bdd_tf.evaluation.perturbations import PERTURBATIONS, Perturbation
from bdd_tf.metrics import classification
from bdd_tf.runs import Run, validated

FEW = (PERTURBATIONS["jpeg"], PERTURBATIONS["noise"])


@pytest.fixture
def run(trained, converted, tmp_path):
    """A copy of the converted run, its file newer than its weights."""
    copy = Run(tmp_path / "copy")
    shutil.copytree(trained.path, copy.path)
    os.utime(copy.tflite)
    return copy


def test_the_command_writes_rows_that_follow_from_the_images(run, tree, capsys):
    assert main(["evaluate", "--run", str(run.path), "--robustness", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(run.robustness("test").read_text())
    wanted = [(p.name, s) for p in PERTURBATIONS.values() for s in p.severities]
    assert [(row["perturbation"], row["severity"]) for row in document["rows"]] == wanted
    assert document["engine"] == "native"
    assert document["threshold"] == validated(run).threshold
    assert (run.figures / "robustness-test.png").stat().st_size > 10_000

    files = sorted((tree / "test").glob("*/*.png"))
    labels = np.array([f.parent.name == "FAKE" for f in files], int)
    with Detector(run.tflite) as detector:
        clean = detector.predict(files)
        strong = detector.predict([perturbations.jpeg(read_image(f), 30) for f in files])
    assert document["clean"]["accuracy"] == classification.accuracy(labels, clean, detector.threshold)
    row = next(r for r in document["rows"] if (r["perturbation"], r["severity"]) == ("jpeg", 30))
    assert row["images"] == 24
    assert row["accuracy"] == classification.accuracy(labels, strong, detector.threshold)
    assert row["auc"] == classification.auc(labels, strong)
    assert row["mean_score_shift"] == pytest.approx(np.mean(strong.astype(float) - clean), abs=1e-6)
    assert row["flipped"] == np.mean((strong >= detector.threshold) != (clean >= detector.threshold))

    assert main(["evaluate", "--run", str(run.path), "--robustness"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 3 + len(wanted)
    assert "jpeg 30" in out


def test_nothing_happens_where_nothing_is_changed(run):
    still = Perturbation("still", "times nothing", (0, 1), lambda image, severity: image)
    document = robustness.evaluate_robustness(run, perturbations=(still,))
    for row in document["rows"]:
        assert row["flipped"] == row["mean_score_shift"] == 0
        assert {k: row[k] for k in document["clean"]} == document["clean"]


def test_a_stopped_call_goes_on_where_it_stood_and_ends_with_the_same_file(run, monkeypatch):
    def strikes(perturbation, image, severity, seed):
        if perturbation.name == "noise" and severity == 10:
            raise KeyboardInterrupt
        return perturbation.function(image, severity, *([seed] if perturbation.seeded else []))

    robustness.evaluate_robustness(run, perturbations=FEW)
    whole = run.robustness("test").read_bytes()
    run.robustness("test").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Perturbation, "apply", strikes)
        with pytest.raises(KeyboardInterrupt):
            robustness.evaluate_robustness(run, perturbations=FEW)
    assert len(json.loads(run.robustness("test").read_text())["rows"]) == 7
    applied = []
    apply = Perturbation.apply

    def counted(perturbation, image, severity, seed):
        applied.append((perturbation.name, severity))
        return apply(perturbation, image, severity, seed)

    monkeypatch.setattr(Perturbation, "apply", counted)
    robustness.evaluate_robustness(run, perturbations=FEW)
    assert set(applied) == {("noise", 10), ("noise", 20)}
    assert run.robustness("test").read_bytes() == whole
    applied.clear()
    robustness.evaluate_robustness(run, perturbations=FEW)
    assert not applied
    # Other images are another experiment.
    limited = robustness.evaluate_robustness(run, perturbations=FEW, limit=5)
    assert limited["images"] == 5
    assert len(applied) == 9 * 5


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"rows": 3}', "null"])
def test_a_damaged_file_is_written_anew(run, damage):
    run.robustness("test").write_text(damage)
    document = robustness.evaluate_robustness(run, perturbations=FEW[:1], limit=4)
    assert len(document["rows"]) == 5


def test_the_file_scores_if_it_is_of_these_weights_and_this_validation(run):
    chosen = validated(run)
    assert robustness.why_not_file(run, chosen) is None
    document = json.loads(run.metrics("validation").read_text())
    document["temperature"] *= 2
    run.metrics("validation").write_text(json.dumps(document))
    assert "another threshold or temperature" in robustness.why_not_file(run, validated(run))
    os.utime(run.tflite, (1, 1))
    assert "older than the weights" in robustness.why_not_file(run, chosen)
    run.tflite.unlink()
    assert "no model.tflite" in robustness.why_not_file(run, chosen)


def test_keras_scores_as_the_file(run, capsys):
    by_file = robustness.scorer(run, validated(run))
    run.tflite.unlink()
    by_keras = robustness.scorer(run, validated(run))
    assert (by_file.engine, by_keras.engine) == ("native", "keras")
    assert "bdd convert --run copy" in capsys.readouterr().err
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    assert np.median(np.abs(by_keras.score(images) - by_file.score(images))) < 0.02


def test_a_run_folder_with_nothing_but_its_file_is_enough(run):
    shutil.rmtree(run.checkpoints)
    run.weights.unlink()
    assert robustness.scorer(run, validated(run)).engine == "native"
    run.metrics("validation").unlink()
    with pytest.raises(BddError, match="no weights to convert"):
        robustness.scorer(run, validated(run))
    run.tflite.unlink()
    with pytest.raises(BddError, match="no trained weights yet"):
        robustness.scorer(run, validated(run))
