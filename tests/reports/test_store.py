"""Laws of stored results: small, whole, without weights, and saying the same as the run."""

import json
import lzma

import numpy as np
import pytest
import yaml

from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics import classification, score_files
from bdd_tf.reports import store
from bdd_tf.reports.parsing import read_yaml
from bdd_tf.reports.run_summary import describe
from tests.made_up_runs import make_run


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_small_files_are_kept_and_weights_are_not(runs, results):
    run, _ = make_run(runs, "good", weights=True)
    (run.path / "robustness-test.json").write_text("{}")
    (run.path / "benchmark.json").write_text("{}")
    folder = store.store(run, results)
    assert names(folder) == [
        "benchmark.json", "config.yaml", "history.csv", "metrics-test.json", "metrics-validation.json",
        "robustness-test.json", "scores-test.csv.xz", "tflite.json",
    ]  # fmt: skip
    assert [p.name for p in results.iterdir()] == ["good"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_stored_result_describes_itself_as_its_run(runs, results):
    run, _ = make_run(runs, "good", weights=True)
    before = describe(run)
    after = describe(store.Run(store.store(run, results)))
    own = ("folder", "stored", "figures", "missing")
    assert {k: v for k, v in after.items() if k not in own} == {
        k: v for k, v in before.items() if k not in own
    }
    assert after["missing"] == []
    assert after["stored"] is True
    assert before["stored"] is False


def test_where_the_data_lay_is_not_published(runs, results):
    run, _ = make_run(runs, "good", data_dir="/home/someone/images")
    config = store.store(run, results) / "config.yaml"
    assert "someone" not in config.read_text()
    assert yaml.safe_load(config.read_text())["channels"] == ["rgb", "fft"]


def test_a_gallery_is_kept_on_request_and_stays_up_to_date_and_no_model_is(runs, results):
    run, _ = make_run(runs, "good")
    (run.figures / "gallery-test.png").write_bytes(b"gallery")
    folder = store.store(run, results, gallery=True)
    (folder / "README.md").write_text("a model card")
    (run.figures / "gallery-test.png").write_bytes(b"newer")
    store.store(run, results)
    assert not (folder / "model.tflite").exists()
    assert (folder / "figures" / "gallery-test.png").read_bytes() == b"newer"
    assert (folder / "README.md").read_text() == "a model card"


def test_a_name_taken_by_another_experiment_is_refused(runs, results):
    run, _ = make_run(runs, "good")
    folder = store.store(run, results)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    other, _ = make_run(runs, "other", epochs=3)
    with pytest.raises(UsageError, match=r"epochs: 2 there, 3 now"):
        store.store(other, results, name="good")
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "a b", "/tmp/x"])
def test_a_name_is_a_plain_name(runs, results, name):
    run, _ = make_run(runs, "good")
    with pytest.raises(UsageError, match="name"):
        store.store(run, results, name=name)
    assert not results.exists()


def test_a_failure_leaves_the_old_result(runs, results, monkeypatch):
    run, _ = make_run(runs, "good")
    folder = store.store(run, results)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    run.history.write_text("changed")
    real, calls = store.os.replace, []

    def fail(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(store.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.store(run, results)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert [p.name for p in results.iterdir()] == ["good"]


def test_files_that_are_too_large_are_not_kept(runs, results):
    run, _ = make_run(runs, "good")
    run.history.write_bytes(b" " * (store.LIMIT + 1))
    with pytest.raises(BddError, match=r"history\.csv has"):
        store.store(run, results)
    assert not results.exists()


def test_twenty_thousand_scores_fit_and_keep_every_verdict(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 20000)
    logits = random.normal(5 * (2 * labels - 1), 4)
    scores = 1 / (1 + np.exp(-logits))
    threshold = float(np.sort(scores)[9000])  # equal to a score: the hardest case
    paths = [f"test/{'FAKE' if y else 'REAL'}/{i % 1000} ({i // 1000}).jpg" for i, y in enumerate(labels)]
    score_files.write_scores_csv(tmp_path / "s.csv", paths, labels, scores)
    content = store.compact(tmp_path / "s.csv", threshold)
    assert len(content) < 150_000
    (tmp_path / "s.csv.xz").write_bytes(content)
    found, truth, rounded = score_files.read_scores_csv(tmp_path / "s.csv.xz")
    order = np.argsort(paths)
    assert found == [paths[i] for i in order]
    assert (truth == labels[order]).all()
    assert ((rounded >= threshold) == (scores[order] >= threshold)).all()
    assert np.abs(rounded - scores[order]).max() <= 0.5e-5 + 1e-12
    assert classification.auc(truth, rounded) == pytest.approx(classification.auc(labels, scores), abs=1e-5)
    assert store.compact(tmp_path / "s.csv", threshold) == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no xz",
        lzma.compress(b"path,label,fake_probability\na,1,0.5\n")[:-8],
        lzma.compress(b"path,label\n"),
        lzma.compress(b"path,label,fake_probability\na,2,0.5\n"),
        lzma.compress(bytes(score_files.SCORES_LIMIT + 1)),
    ],
)
def test_damaged_compact_scores_are_an_error_for_people(tmp_path, content):
    path = tmp_path / "scores-test.csv.xz"
    path.write_bytes(content)
    with pytest.raises(BddError, match=r"scores-test\.csv\.xz"):
        score_files.read_scores_csv(path)


def test_a_run_and_its_stored_result_come_once(runs, results):
    run, _ = make_run(runs, "good")
    store.store(run, results)
    assert [r.path for r in store.collect(results, runs)] == [run.path]
    assert [r.path.parent for r in store.collect(results, None)] == [results]
    # A run that was not evaluated yet does not hide what was stored of it.
    run.metrics("test").unlink()
    assert [r.path.parent for r in store.collect(results, runs)] == [results]


def test_two_experiments_of_one_name_come_both(runs, results):
    run, _ = make_run(runs, "good")
    store.store(run, results)
    run.config.write_text(run.config.read_text().replace("epochs: 2", "epochs: 9"))
    assert len(store.collect(results, runs)) == 2


def test_settings_are_equal_where_experiments_are():
    older = {"backbone": "bnext-n", "epochs": 2}
    newer = {"epochs": 2, "backbone": "bnext-n", "learning_rate": "2e-3", "data_dir": "/elsewhere", "seed": 5}
    assert store.settings(older) == store.settings(newer)
    assert store.settings({**older, "from_the_future": 1}) != store.settings(older)


@pytest.mark.parametrize(
    "content",
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)),
        "epochs: &e [*e]\n",
        "channels: &c {c: *c}\nseed: .nan\n1: x\n",
        "epochs: 2020-01-01\nchannels: !!set {rgb}\n",
    ],
)  # fmt: skip
def test_hostile_settings_stay_small(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    found = store.settings(read_yaml(path))
    assert len(json.dumps(found)) < 100_000
