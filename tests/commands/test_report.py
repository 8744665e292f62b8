"""Laws of `bdd report`: complete runs in one table, incomplete or damaged ones described, no traceback."""

import argparse
import json
import os
import sys

import pytest

from bdd_tf.commands import report as command
from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics import classification, score_files
from bdd_tf.reports import figures, markdown, store
from bdd_tf.reports.comparison import compare_runs
from tests.made_up_runs import make_run


def options(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(w) for w in words])


def report(capsys, *words):
    assert command.main(options(*words)) == 0
    return capsys.readouterr()


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Neither this clone's results nor TensorFlow, which the picture of channels would load."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "image_channels", lambda path, image, title="": path.write_bytes(b"png"))


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def cells(text, name):
    (line,) = [li for li in text.splitlines() if li.startswith(f"| {name} ")]
    return [c.strip() for c in line.strip("|").split("|")]


def test_a_complete_run_is_one_line_of_the_table(runs, capsys):
    _, document = make_run(runs, "good")
    out = report(capsys, "--runs-dir", runs)
    row = cells(out.out, "good")
    assert row[:7] == ["good", "cifake", "bnext-n", "rgb,fft", "32", "7.65 M", "1,900"]
    low, high = document["intervals"]["auc"]
    auc = f"{100 * document['auc']:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    assert row[8] == row[10] == auc
    assert row[9].startswith(f"{100 * document['accuracy']:.2f} [")
    assert row[11] == f"{100 * document['deduplicated']['accuracy']:.2f}"
    assert row[12] == "12,345"
    assert "Incomplete" not in out.out
    assert "report.md" in out.err
    written = (runs.parent / "build" / "report" / "report.md").read_text()
    assert out.out.strip() in written
    assert "(../../runs/good/figures/roc-test.png)" in written


def test_every_row_has_every_column_and_the_columns_are_aligned(runs, capsys):
    make_run(runs, "good")
    (runs / "bare").mkdir()
    (runs / "bare" / "config.yaml").write_text("{}")
    lines = [li for li in report(capsys, "--runs-dir", runs).out.splitlines() if li.startswith("|")]
    assert len(lines) == 4
    assert len({len(li) for li in lines}) == 1
    assert {li.count("|") for li in lines} == {14}


def test_an_incomplete_run_names_missing_files_and_the_commands_that_write_them(runs, capsys):
    run, _ = make_run(runs, "half")
    run.tflite.unlink()
    run.metrics("test").unlink()
    run.history.write_text("epoch,images\n1,950\n")
    out = report(capsys, "--runs-dir", runs).out
    assert cells(out, "half")[9:] == [markdown.ABSENT] * 4
    (line,) = [li for li in out.splitlines() if li.startswith("- half: ")]
    for words in ("metrics-test.json", "bdd evaluate --run half", "bdd convert --run half", "1 of 2 epochs"):
        assert words in line


@pytest.mark.parametrize("name", ["config.yaml", "metrics-test.json", "history.csv"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b'{"a": ',
        b"!!python/object/apply:os.system [exit]",
        b"[" * 3000,
        b"epoch,images\nx,y\n",
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(runs, capsys, name, content):
    run, _ = make_run(runs, "bad")
    make_run(runs, "good")
    (run.path / name).write_bytes(content)
    out = report(capsys, "--runs-dir", runs).out
    assert cells(out, "good")[0] == "good"
    assert cells(out, "bad")[12] == "12,345"
    (line,) = [li for li in out.splitlines() if li.startswith("- bad: ")]
    assert name in line


def test_values_of_the_wrong_kind_are_unknown_not_fatal(runs, capsys):
    run, _ = make_run(runs, "odd")
    run.config.write_text(
        "dataset: {a: 1}\nbackbone: 'x | y\n  z'\nchannels: rgb\nresolution: [3]\nepochs: many\n"
    )
    run.metrics("test").write_text(
        '{"accuracy": "high", "auc": NaN, "intervals": [1], "deduplicated": 3, "parameters": true}'
    )
    run.metrics("validation").write_text('{"accuracy": 0.5, "intervals": {"accuracy": [0.4, null]}}')
    row = cells(report(capsys, "--runs-dir", runs).out.replace("\\|", "/"), "odd")
    assert row[2:6] == ["x / y z", "rgb", markdown.ABSENT, markdown.ABSENT]
    assert row[7] == "50.00"
    assert row[9:12] == [markdown.ABSENT] * 3


def test_other_folders_and_files_are_no_runs(runs, capsys):
    make_run(runs, "good")
    (runs / "notes").mkdir()
    (runs / "notes" / "a.txt").write_text("x")
    (runs / ".hidden").mkdir()
    (runs / "file").write_text("x")
    found = json.loads(report(capsys, "--runs-dir", runs, "--json").out)
    assert [r["run"] for r in found] == ["good"]
    # The report itself must not disturb the next one.
    assert json.loads(report(capsys, "--runs-dir", runs, "--json").out) == found


def test_json_has_the_same_numbers(runs, capsys):
    _, document = make_run(runs, "good")
    (row,) = json.loads(report(capsys, "--runs-dir", runs, "--json").out)
    assert row["test"]["accuracy"] == document["accuracy"]
    assert row["test"]["auc_interval"] == document["intervals"]["auc"]
    assert row["deduplicated"]["auc"] == document["deduplicated"]["auc"]
    assert (row["epochs"], row["images_seen"], row["tflite_bytes"]) == (2, 1900, 12345)
    assert row["missing"] == []


def test_an_imported_run_needs_no_history(runs, capsys):
    run, _ = make_run(runs, "imported")
    run.history.unlink()
    run.weights.write_bytes(b"x")
    out = report(capsys, "--runs-dir", runs).out
    assert "Incomplete" not in out
    assert cells(out, "imported")[6] == markdown.ABSENT


def test_figure_links_survive_odd_names(runs, capsys):
    run, _ = make_run(runs, "a b")
    (run.figures / "x) (y#.png").write_bytes(b"")
    report(capsys, "--runs-dir", runs, "--output", runs.parent)
    assert "(runs/a%20b/figures/x%29%20%28y%23.png)" in (runs.parent / "report.md").read_text()


@pytest.mark.parametrize("make", [True, False])
def test_no_runs_is_a_usage_error_with_a_remedy(tmp_path, make):
    folder = tmp_path / "runs"
    if make:
        folder.mkdir()
    with pytest.raises(UsageError, match="bdd train"):
        command.main(options("--runs-dir", folder))
    assert not (tmp_path / "build").exists()


def test_comparison_agrees_with_the_scores(runs, capsys):
    one, _ = make_run(runs, "one")
    two, _ = make_run(runs, "two", shift=0.2, noise=1)
    found = json.loads(report(capsys, "--runs-dir", runs, "--json", "--compare", "one", "two").out)
    _, labels, first = score_files.read_scores_csv(one.scores("test"))
    _, _, second = score_files.read_scores_csv(two.scores("test"))
    assert found["accuracy"]["first"] == classification.accuracy(labels, first)
    assert found["accuracy"]["second"] == classification.accuracy(labels, second)
    assert found["auc"]["difference"] == pytest.approx(
        classification.auc(labels, second) - classification.auc(labels, first)
    )
    assert found["notes"] == []
    assert not (runs.parent / "build").exists()
    out = report(capsys, "--runs-dir", runs, "--compare", "one", "two").out
    assert "McNemar" in out
    assert f"{100 * found['accuracy']['difference']:.2f} [" in out
    assert f"{found['mcnemar']['only_first_right']} images" in out


def test_comparison_matches_images_by_path_whatever_their_order(runs):
    one, _ = make_run(runs, "one")
    two, _ = make_run(runs, "two", shift=0.2, noise=1)
    before = compare_runs(one, two)
    paths, labels, scores = score_files.read_scores_csv(two.scores("test"))
    score_files.write_scores_csv(two.scores("test"), paths[::-1], labels[::-1], scores[::-1])
    assert compare_runs(one, two) == before


def test_comparison_uses_each_run_s_threshold_and_says_when_there_is_none(runs):
    one, document = make_run(runs, "one")
    two, _ = make_run(runs, "two")
    score_files.write_json(one.metrics("test"), {**document, "threshold": 0.9})
    two.metrics("test").unlink()
    found = compare_runs(one, two)
    assert found["thresholds"] == [0.9, 0.5]
    assert found["accuracy"]["first"] < found["accuracy"]["second"]
    assert len(found["notes"]) == 1
    assert "two" in found["notes"][0]


def test_comparison_of_partly_common_images_uses_those_and_says_so(runs):
    one, _ = make_run(runs, "one", images=200)
    two, _ = make_run(runs, "two", images=150)
    found = compare_runs(one, two)
    assert found["images"] == 150
    assert "50 images that only one has scored" in found["notes"][0]


def test_runs_that_cannot_be_compared_are_explained(runs):
    one, _ = make_run(runs, "one")
    two, _ = make_run(runs, "two", prefix="other/")
    with pytest.raises(BddError, match="no test image in common"):
        compare_runs(one, two)
    paths, labels, scores = score_files.read_scores_csv(one.scores("test"))
    score_files.write_scores_csv(two.scores("test"), paths, 1 - labels, scores)
    with pytest.raises(BddError, match="200 of 200"):
        compare_runs(one, two)
    score_files.write_scores_csv(two.scores("test"), ["same.png"] * len(labels), labels, scores)
    with pytest.raises(BddError, match="199 images twice"):
        compare_runs(one, two)
    two.scores("test").unlink()
    with pytest.raises(BddError, match="bdd evaluate --run two"):
        compare_runs(one, two)


def test_comparing_an_unknown_run_lists_those_that_exist(runs):
    make_run(runs, "one")
    make_run(runs, "two")
    with pytest.raises(UsageError, match="one, two"):
        command.main(options("--runs-dir", runs, "--compare", "one", "tow"))


def test_own_runs_stand_side_by_side_without_the_papers_tables(runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, document = make_run(runs, "a")
    make_run(runs, "b", noise=1, init="a", epochs=4)
    (runs / "c").mkdir()
    (runs / "c" / "config.yaml").write_text("{}")
    out = report(capsys, "--runs-dir", runs, "--runs", "b", "a", "b").out
    assert cells(out, "data set") == ["data set", "cifake", "cifake"]
    assert cells(out, "epochs") == ["epochs", "2 of 4", "2 of 2"]
    assert cells(out, "start") == ["start", "a", "scratch"]
    assert cells(out, "parameters")[1:] == ["7.65 M"] * 2
    assert cells(out, "binary MACs")[1:] == ["98.30 M"] * 2
    assert cells(out, "file, bytes")[1:] == ["12,345"] * 2
    low, high = document["intervals"]["auc"]
    expected = f"{100 * document['auc']:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    assert cells(out, "validation AUC %")[2] == cells(out, "test AUC %")[2] == expected
    assert "aper" not in out
    assert "photo protocol" not in out  # no run has it
    assert not (runs.parent / "build").exists()
    assert [row["run"] for row in json.loads(report(capsys, "--runs-dir", runs, "--runs", "--json").out)] == [
        "a",
        "b",
        "c",
    ]
    with pytest.raises(UsageError, match="existing: a, b, c"):
        command.main(options("--runs-dir", runs, "--runs", "nothing"))
    with pytest.raises(UsageError, match="there are no runs in nowhere"):
        command.main(options("--runs-dir", "nowhere", "--runs"))


@pytest.mark.parametrize("dataset", ["folder", "manifest", "photos", "cifake"])
def test_a_run_without_a_test_split_is_complete_if_its_data_need_not_have_one(runs, capsys, dataset):
    resize = "views" if dataset == "photos" else "native"
    run, _ = make_run(runs, "mine", dataset=dataset, resize=resize, augment=[])
    run.metrics("test").unlink()
    out = report(capsys, "--runs-dir", runs).out
    assert ("Incomplete" in out) == (dataset == "cifake")
    assert "bdd evaluate --run mine" in out
    assert ("Not evaluated on test images" in out) == (dataset != "cifake")
    run.photo_protocol.write_text('{"summary": {"clean": {"auc": 0.75, "balanced_accuracy": 0.6}}}')
    out = report(capsys, "--runs-dir", runs, "--runs", "mine").out
    assert ("bdd evaluate" in out) == (dataset != "photos")
    assert cells(out, "photo protocol, AUC %")[1] == "75.00"
    run.photo_protocol.write_text('{"summary": [')
    assert "protocol-photos.json" in report(capsys, "--runs-dir", runs, "--runs", "mine").out


def test_a_stored_result_without_a_test_split_misses_no_file(runs, tmp_path, capsys):
    run, _ = make_run(runs, "mine", dataset="photos", resize="views", augment=[])
    for path in (run.metrics("test"), run.scores("test")):
        path.unlink()
    report(capsys, "--runs-dir", runs, "--results-dir", tmp_path / "kept", "--store", "mine", "--unevaluated")
    out = report(capsys, "--runs-dir", "nowhere", "--results-dir", tmp_path / "kept").out
    assert "bdd convert" not in out
    assert "Incomplete" not in out


def test_a_stored_result_compares_like_the_run_it_came_from(runs, tmp_path, capsys):
    one, _ = make_run(runs, "one")
    two, _ = make_run(runs, "two", shift=0.2, noise=1)
    full = compare_runs(one, two)
    results = tmp_path / "results"
    for run in (one, two):
        store.store(run, results)
        run.scores("test").unlink()
    found = json.loads(report(capsys, "--runs-dir", runs, "--json", "--compare", "one", "two").out)
    assert found["accuracy"] == full["accuracy"]
    assert found["mcnemar"] == full["mcnemar"]
    assert found["auc"]["difference"] == pytest.approx(full["auc"]["difference"], abs=1e-4)


def test_store_from_the_command_line(runs, tmp_path, capsys):
    run, _ = make_run(runs, "good")
    assert report(capsys, "--runs-dir", runs, "--store", "good", "--as", "kept").out.strip() == "results/kept"
    assert (tmp_path / "results" / "kept" / "metrics-test.json").is_file()
    run.metrics("test").unlink()
    with pytest.raises(BddError, match="bdd evaluate --run good"):
        command.main(options("--runs-dir", runs, "--store", "good"))
    assert (
        report(capsys, "--runs-dir", runs, "--store", "good", "--unevaluated").out.strip() == "results/good"
    )


@pytest.mark.parametrize(
    "words", [("--as", "x"), ("--gallery",), ("--unevaluated",), ("--image", "nowhere.png")]
)
def test_options_that_do_nothing_are_refused(runs, words):
    make_run(runs, "good")
    with pytest.raises(UsageError, match=words[0]):
        command.main(options("--runs-dir", runs, *words))


def test_docs_are_made_from_stored_results_alone(runs, tmp_path, capsys):
    run, _ = make_run(runs, "good")
    make_run(runs, "not-stored")
    store.store(run, tmp_path / "results")
    out = report(capsys, "--runs-dir", runs, "--docs", "docs").out
    assert "not-stored" not in out
    written = (tmp_path / "docs" / "report.md").read_text()
    assert "../runs" not in written
    first = {p.name: p.read_bytes() for p in (tmp_path / "docs").iterdir()}
    report(capsys, "--runs-dir", runs, "--docs", "docs")
    # No time, no path, no chance: refreshing the docs changes nothing where nothing has changed.
    assert {p.name: p.read_bytes() for p in (tmp_path / "docs").iterdir()} == first
    assert os.fspath(tmp_path) not in written
