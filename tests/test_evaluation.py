"""`bdd evaluate`: thresholds come from validation, other data sets leave the run's own files alone."""

import json

import numpy as np
import pytest

from bdd_tf import metrics
from bdd_tf.cli import main
from bdd_tf.evaluation import evaluate_run, validated_threshold
from bdd_tf.runs import Run


def test_the_threshold_is_chosen_on_validation_and_used_on_test(trained):
    validation = json.loads(trained.metrics("validation").read_text())
    test = json.loads(trained.metrics("test").read_text())
    assert test["threshold"] == validation["threshold"] == validated_threshold(trained)
    _, labels, scores = metrics.read_scores_csv(trained.scores("validation"))
    assert validation["threshold"] == pytest.approx(metrics.best_threshold(labels, scores))


def test_without_validation_the_threshold_is_a_half(tmp_path):
    run = Run(tmp_path)
    assert validated_threshold(run) == 0.5
    for text in ("", "[]", '{"threshold": null}', '{"threshold": "x"}'):
        run.metrics("validation").write_text(text)
        assert validated_threshold(run) == 0.5


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
    assert document["threshold"] == validated_threshold(trained)
    assert document["dataset"] == "manifest"
    assert trained.metrics("manifest-test").is_file()
    assert trained.scores("manifest-test").is_file()
    assert trained.metrics("test").read_bytes() == before


def test_scores_are_the_models_own_in_the_order_of_the_paths(trained, tree):
    from bdd_tf.edge import load_image
    from bdd_tf.edge.images import ResizeRule
    from bdd_tf.training import load_trained

    paths, labels, scores = metrics.read_scores_csv(trained.scores("test"))
    assert [("FAKE" in p) == bool(y) for p, y in zip(paths, labels, strict=True)] == [True] * 24
    images = np.stack([load_image(tree / p, ResizeRule.native(16)) for p in paths])
    np.testing.assert_allclose(scores, load_trained(trained)(images).numpy()[:, 0], atol=1e-4)


def test_the_summary_shows_intervals(trained, capsys):
    evaluate_run(trained, "test", bootstrap=50)
    assert main(["evaluate", "--run", trained.name, "--runs-dir", str(trained.path.parent)]) == 0
    out = capsys.readouterr().out
    for words in ("images", "accuracy on FAKE", "threshold (from validation)", "[0."):
        assert words in out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--split", "tset"], "Did you mean 'test'"),
        (["--dataset", "dffd"], "--dataset dffd needs --data-dir"),
        (["--dataset", "nonesuch", "--data-dir", "."], "unknown data set"),
        (["--data-dir", "/nonesuch"], "/nonesuch"),
    ],
)
def test_wrong_usage_is_a_sentence(trained, options, named, capsys):
    assert main(["evaluate", "--run", str(trained.path), *options]) == 2
    assert named in capsys.readouterr().err
