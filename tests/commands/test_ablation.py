"""Laws of `make ablation`: eight rows times seeds, the telling ones first, nothing run twice, a stop costs nothing."""

import json

import pytest

from bdd_tf.commands import ablation
from bdd_tf.config import Experiment
from bdd_tf.errors import BddError
from bdd_tf.reports import store
from bdd_tf.runs import Run
from tests.made_up_runs import make_run


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs", tmp_path / "results"


@pytest.fixture
def commands(places, monkeypatch):
    """Replaces the processes: `train` makes a run folder, `evaluate` its metrics, `report` stores it."""
    runs, results = places
    seen = []

    def run(*words):
        words = [str(w) for w in words]
        seen.append(words)
        if words[0] == "train":
            config = Experiment.load(words[words.index("--config") + 1])
            made, _ = make_run(
                runs, words[words.index("--run") + 1], bootstrap=0, weights=True, **config.to_dict()
            )
            made.metrics("test").rename(made.path / "later")
        elif words[0] == "evaluate":
            folder = Run(runs / words[words.index("--run") + 1])
            (folder.path / "later").rename(folder.metrics("test"))
        else:
            store.store(Run(runs / words[words.index("--store") + 1]), results)

    monkeypatch.setattr(ablation, "_bdd", run)
    return seen


def test_the_telling_rows_come_first_and_balanced():
    order = ablation.order([5, 6, 7])
    assert len(order) == len(set(order)) == 24
    assert {row for row, _ in order[:12]} == {(), ("fft",), ("lbp",), ("fft", "lbp")}
    for stop in (4, 8, 12):
        counts = [sum(row == kind for row, _ in order[:stop]) for kind in ablation.FIRST]
        assert len(set(counts)) == 1


def test_all_runs_share_everything_but_channels_and_seed(places):
    base = Experiment(epochs=3, learning_rate=1e-3)
    steps = ablation.plan(base, [5, 6], *places)
    assert len({s.name for s in steps}) == 16
    others = {
        json.dumps({k: v for k, v in s.config.to_dict().items() if k not in ("channels", "seed")})
        for s in steps
    }
    assert len(others) == 1
    assert {s.state for s in steps} == {"to do"}


def test_it_trains_evaluates_stores_and_then_has_nothing_to_do(places, commands):
    runs, results = places
    assert ablation.main(["--seeds", "5", "--epochs", "1"]) == 0
    assert [c[0] for c in commands] == ["train", "evaluate", "report"] * 8
    assert len(list(results.iterdir())) == 8
    assert not list(runs.glob("*/checkpoints"))
    assert len(list(runs.glob("*/model.weights.h5"))) == 8
    del commands[:]
    assert ablation.main(["--seeds", "5", "--epochs", "1"]) == 0
    assert commands == []


def test_a_stopped_ablation_resumes(places, commands, monkeypatch):
    real, calls = ablation._bdd, []

    def stopping(*words):
        calls.append(words)
        if len(calls) == 5:  # while the second run is evaluated
            raise KeyboardInterrupt
        real(*words)

    monkeypatch.setattr(ablation, "_bdd", stopping)
    assert ablation.main(["--seeds", "5", "--epochs", "1"]) == 130
    monkeypatch.setattr(ablation, "_bdd", lambda *words: calls.append(words))
    del calls[:]
    assert ablation.main(["--seeds", "5", "--epochs", "1"]) == 0
    trained = [c[c.index("--run") + 1] for c in calls if c[0] == "train"]
    assert len(trained) == 7  # `bdd train` itself knows that the second is trained already
    assert trained[0].endswith("fft-seed5")


def test_runs_under_another_name_count(places, commands):
    runs, results = places
    make_run(runs, "mine", bootstrap=0, channels=["rgb"], epochs=1, seed=5, data_dir="/elsewhere")
    args = ["--seeds", "5", "--like", "mine"]
    assert ablation.main(args) == 0
    assert commands[0][:3] == ["report", "--store", "mine"]
    assert sum(c[0] == "train" for c in commands) == 7
    assert (results / "mine").is_dir()


def test_a_dry_run_does_nothing(places, commands, capsys):
    assert ablation.main(["--dry-run"]) == 0
    assert commands == []
    assert capsys.readouterr().err.count("to do") == 24


def test_a_failing_command_ends_it_with_its_message(places, monkeypatch, capsys):
    def fail(*words):
        raise BddError("`bdd train` ended with code 2")

    monkeypatch.setattr(ablation, "_bdd", fail)
    assert ablation.main([]) == 1
    assert "ended with code 2" in capsys.readouterr().err


def test_a_real_command_that_fails_is_named():
    with pytest.raises(BddError, match=r"`bdd nonsense` ended with code 2"):
        ablation._bdd("nonsense")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "5,5"], "different whole numbers"),
        (["--seeds", ""], "different whole numbers"),
        (["--seeds", "-1"], "different whole numbers"),
        (["--like", "nobody"], "no run 'nobody'"),
        (["--like", "nobody", "--preset", "scratch"], "give one of them"),
        (["--preset", "nobody"], "unknown preset"),
        (["--epochs", "0"], "at least 1"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(places, commands, capsys, words, message):
    assert ablation.main(words) == 2
    assert message in capsys.readouterr().err
    assert commands == []


def test_a_name_in_use_is_found_before_anything_is_trained(places, commands, capsys):
    runs, _ = places
    make_run(runs, "ablation-cifake-bnext-n-1ep-lbp-seed5", epochs=9)
    assert ablation.main(["--epochs", "1"]) == 2
    assert "--prefix" in capsys.readouterr().err
    assert commands == []
