"""`bdd evaluate`: thresholds come from validation, other data sets leave the run's own files alone."""

import hashlib
import json

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.errors import BddError
from bdd_tf.evaluation.evaluate import evaluate_run
from bdd_tf.metrics import classification, score_files
from bdd_tf.runs import Run, Validated, validated


def test_the_threshold_is_chosen_on_validation_and_used_on_test(trained):
    validation = json.loads(trained.metrics("validation").read_text())
    test = json.loads(trained.metrics("test").read_text())
    assert test["threshold"] == validation["threshold"] == validated(trained).threshold
    assert test["temperature"] == validation["temperature"] == validated(trained).temperature
    _, labels, scores = score_files.read_scores_csv(trained.scores("validation"))
    assert validation["threshold"] == pytest.approx(classification.best_threshold(labels, scores))


def test_without_validation_the_threshold_is_a_half_and_the_temperature_1(tmp_path):
    run = Run(tmp_path)
    assert validated(run) == Validated(0.5, 1.0, {})
    for text in (
        "",
        "[]",
        '{"threshold": null}',
        '{"threshold": "x"}',
        '{"threshold": NaN, "temperature": 2}',
    ):
        run.metrics("validation").write_text(text)
        assert validated(run) == Validated(0.5, 1.0, {})


def test_runs_validated_before_there_were_temperatures_keep_their_threshold(tmp_path):
    run = Run(tmp_path)
    run.metrics("validation").write_text('{"threshold": 0.4}')
    assert validated(run) == Validated(0.4, 1.0, {})


def test_a_run_on_photographs_takes_all_thresholds_from_unseen_cameras(tmp_path):
    run = Run(tmp_path)
    run.weights.write_bytes(b"weights")
    run.metrics("validation").write_text(
        '{"threshold": 0.4, "temperature": 2, "thresholds": {"0.05": {"threshold": 0.3}}}'
    )
    document = {
        "threshold": {"logit": 2.0, "logits": {"0.001": None, "0.05": 2.0}},
        "detector": {"sha256": hashlib.sha256(b"weights").hexdigest()},
    }
    run.metrics("photos").write_text(json.dumps(document))
    found = validated(run)
    assert found.threshold == pytest.approx(1 / (1 + np.exp(-1)))
    assert found.thresholds == {"0.001": None, "0.05": found.threshold}
    del document["threshold"]["logits"]  # by an earlier version
    run.metrics("photos").write_text(json.dumps(document))
    assert validated(run).thresholds == {"0.05": 0.3}


@pytest.mark.parametrize(
    "damage", ['"temperature": 0', '"temperature": null', '"thresholds": []', '"thresholds": {"x": {}}',
               '"thresholds": {"0.01": {"threshold": 2}}', '"thresholds": {"0.01": 0.5}'],
)  # fmt: skip
def test_thresholds_are_not_separated_from_a_damaged_temperature(tmp_path, damage):
    run = Run(tmp_path)
    run.metrics("validation").write_text(f'{{"threshold": 0.4, {damage}}}')
    with pytest.raises(BddError, match="--split validation"):
        validated(run)


def test_thresholds_for_false_alarms_hold_on_validation_and_are_measured_on_test(trained, capsys):
    validation, test = (json.loads(trained.metrics(s).read_text()) for s in ("validation", "test"))
    assert list(validation["thresholds"]) == ["0.001", "0.01", "0.05", "0.25"]
    quarter = validation["thresholds"]["0.25"]
    assert quarter["false_alarms"] <= 0.25
    assert validation["thresholds"]["0.01"] == {"threshold": None, "false_alarms": None, "detected": None}
    assert "0.001, 0.01" in validation["notes"][0]
    _, labels, scores = score_files.read_scores_csv(trained.scores("test"))
    assert test["thresholds"]["0.25"] == {
        "threshold": quarter["threshold"],
        "false_alarms": pytest.approx(np.mean(scores[labels == 0] >= quarter["threshold"])),
        "detected": pytest.approx(np.mean(scores[labels == 1] >= quarter["threshold"])),
    }
    assert main(["evaluate", "--run", str(trained.path), "--false-alarms", "0.25"]) == 0
    assert "at most 0.25 false alarms" in capsys.readouterr().out


def test_calibration_is_in_the_metrics_and_drawn(trained):
    for split in ("validation", "test"):
        document = json.loads(trained.metrics(split).read_text())
        for key in ("ece", "ece_adaptive", "nll", "brier"):
            assert document[key] >= 0
            assert document[f"{key}_calibrated"] >= 0
        assert (trained.figures / f"reliability-{split}.png").is_file()


def test_another_data_set_keeps_the_threshold_and_the_runs_own_files(trained, make_tree, tmp_path, capsys):
    before = trained.metrics("test").read_bytes()
    table = tmp_path / "table.csv"
    make_tree(tmp_path, {"more": 6}, seed=9)
    rows = [
        f"more/{label}/{i}.png,{label},test,{label.lower()}-{i % 2}"
        for label in ("REAL", "FAKE")
        for i in range(6)
    ]
    table.write_text("path,label,split,source\n" + "\n".join(rows) + "\n")
    argv = [
        "evaluate",
        "--run",
        str(trained.path),
        "--dataset",
        "manifest",
        "--data-dir",
        str(table),
        "--json",
    ]
    assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 12
    assert document["threshold"] == validated(trained).threshold
    assert document["dataset"] == "manifest"
    assert trained.metrics("manifest-test").is_file()
    assert trained.scores("manifest-test").is_file()
    assert trained.metrics("test").read_bytes() == before


def test_scores_are_the_models_own_in_the_order_of_the_paths(trained, tree):
    from bdd_tf.edge import load_image
    from bdd_tf.edge.images.resize import ResizeRule
    from bdd_tf.legacy_keras import tf
    from bdd_tf.models.detector import fold_temperature
    from bdd_tf.training.weights import load_trained

    paths, labels, scores = score_files.read_scores_csv(trained.scores("test"))
    assert [("FAKE" in p) == bool(y) for p, y in zip(paths, labels, strict=True)] == [True] * 24
    images = np.stack([load_image(tree / p, ResizeRule.native(32)) for p in paths])
    model = load_trained(trained)
    fold_temperature(model, validated(trained).temperature)
    # Compiled, as evaluation runs it: layer by layer TensorFlow rounds otherwise, which may turn a sign at zero.
    compiled = tf.function(lambda x: model(x, training=False), autograph=False)
    np.testing.assert_allclose(scores, compiled(images).numpy()[:, 0], atol=1e-4)


def test_the_summary_shows_intervals(trained, capsys):
    evaluate_run(trained, "test", bootstrap=50)
    assert main(["evaluate", "--run", trained.name, "--runs-dir", str(trained.path.parent)]) == 0
    out = capsys.readouterr().out
    for words in ("images", "accuracy on FAKE", "threshold  ", "[0."):
        assert words in out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--split", "tset"], "Did you mean 'test'"),
        (["--dataset", "dffd"], "--dataset dffd needs --data-dir"),
        (["--dataset", "nonesuch", "--data-dir", "."], "unknown data set"),
        (["--data-dir", "/nonesuch"], "/nonesuch"),
        (["--false-alarms", "1.5"], "between 0 and 1"),
        (["--false-alarms", "nan"], "between 0 and 1"),
        (["--false-alarms", "0.01"], "(there: 0.05, 0.25)"),
        (["--limit", "3"], "--robustness"),
        (["--robustness", "--limit", "0"], "at least 1"),
        (["--robustness", "--false-alarms", "0.25"], "validated threshold"),
    ],
)
def test_wrong_usage_is_a_sentence(trained, options, named, capsys):
    assert main(["evaluate", "--run", str(trained.path), *options]) == 2
    assert named in capsys.readouterr().err
