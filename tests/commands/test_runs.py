import json

from bdd_tf.cli import main
from bdd_tf.presets import experiment
from bdd_tf.runs import Run


def test_runs_are_listed_in_every_state(tmp_path, capsys):
    done, begun, damaged = (Run(tmp_path / name) for name in ("a", "b", "c"))
    for run in (done, begun, damaged):
        run.path.mkdir()
    experiment(epochs=3).save(done.config)
    experiment(dataset="folder", data_dir="mine", resolution=64).save(begun.config)
    damaged.config.write_text("epochs: many")
    done.tflite.write_bytes(bytes(1234))
    done.metrics("validation").write_text(json.dumps({"auc": 0.98765, "accuracy": 0.9}))
    done.metrics("test").write_text(json.dumps({"auc": None, "accuracy": 0.8}))
    begun.metrics("test").write_text("{")
    assert main(["runs", "--runs-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "data", "network"]
    assert lines[1].split() == [
        "a",
        "cifake",
        "bnext-n",
        "rgb,fft,lbp",
        "32",
        "0/3",
        "0.9877",
        "0.9000",
        "-",
        "0.8000",
        "1,234",
    ]
    assert lines[2].split()[:6] == ["b", "folder", "mine", "bnext-n", "rgb,fft,lbp", "64"]
    assert lines[2].split()[-5:] == ["-"] * 5
    assert "epochs must be of type int" in lines[3]
    assert main(["runs", "--runs-dir", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["validation_auc"] for row in rows] == [0.98765, None, None]


def test_no_runs_yet(tmp_path, capsys):
    assert main(["runs", "--runs-dir", str(tmp_path)]) == 0
    assert "bdd train creates one" in capsys.readouterr().out
    assert main(["runs", "--runs-dir", str(tmp_path / "gone")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_run_of_a_plugin_is_listed_without_the_plugin(tmp_path, capsys):
    run = Run(tmp_path / "mine")
    run.path.mkdir()
    experiment(epochs=3).save(run.config)
    run.config.write_text(
        run.config.read_text().replace("bnext-n", "of-a-plugin").replace("- flip", "- sepia")
    )
    assert main(["runs", "--runs-dir", str(tmp_path)]) == 0
    assert (
        capsys.readouterr().out.splitlines()[1].split()[:6]
        == "mine cifake of-a-plugin rgb,fft,lbp 32 0/3".split()
    )
    assert main(["evaluate", "--run", "mine", "--runs-dir", str(tmp_path)]) == 2
    assert "--plugin FILE.py" in capsys.readouterr().err
