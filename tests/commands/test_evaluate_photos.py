"""`bdd evaluate --protocol photos` on a run of random weights and a made-up archive."""

import json

import pytest

from bdd_tf.cli import main
from bdd_tf.config import Experiment
from tests.datasets import photo_archive

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(folder, per_source=45, side=64, shared_content=False)
    return folder


def make_run(runs, folder, **changes):
    from bdd_tf.runs import Run
    from bdd_tf.training.weights import build, save_weights

    config = Experiment(
        dataset="photos", data_dir=str(folder), resize="views", augment=(), channels=("rgb",), resolution=SIZE,
        hold_out="gan,camera-a,camera-b", **changes,
    )  # fmt: skip
    run = Run(runs / "trial")
    run.path.mkdir(parents=True)
    config.save(run.config)
    save_weights(build(config), run.weights)
    return run


def evaluate(runs, *options):
    return main(["evaluate", "--protocol", "photos", "--runs-dir", str(runs), "--run", "trial", *options])


def test_a_run_gets_its_files_and_a_table(folder, tmp_path, capsys):
    run = make_run(tmp_path, folder)
    assert evaluate(tmp_path, "--quick", "--condition", "half") == 0
    text = capsys.readouterr().out
    assert "held out: gan, camera-a, camera-b" in text
    document = json.loads(run.metrics("photos").read_text())
    assert list(document["crops"]) == ["clean", "half"]
    assert document["detector"]["engine"] == "keras"
    assert len(document["detector"]["sha256"]) == 64
    assert set(json.loads(run.photo_protocol.read_text())) == {"clean", "half", "summary"}
    assert (run.figures / "protocol-photos.png").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--condition", "sepia"), "condition"),
        (("--data-dir", "nowhere"), "holds no manifest.csv"),
        (("--file",), "`bdd convert` writes it"),
        (("--robustness",), "--robustness cannot be combined with --protocol"),
    ],
)
def test_wrong_usage(folder, tmp_path, capsys, options, said):
    make_run(tmp_path, folder)
    assert evaluate(tmp_path, *options) == 2
    assert said in capsys.readouterr().err


def test_a_run_of_another_data_set_is_refused(tmp_path, capsys):
    (tmp_path / "trial").mkdir()
    Experiment().save(tmp_path / "trial" / "config.yaml")
    assert evaluate(tmp_path) == 2
    assert "was trained on cifake" in capsys.readouterr().err
    assert main(["evaluate", "--runs-dir", str(tmp_path), "--run", "trial", "--quick"]) == 2
    assert "--quick requires --protocol photos" in capsys.readouterr().err
