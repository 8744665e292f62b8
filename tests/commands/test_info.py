"""`bdd info` counts the same in a run and in its file, accounts for every byte, and knows the paper's figures."""

import json

import pytest

from bdd_tf.cli import main
from bdd_tf.commands.info import inform
from bdd_tf.edge.shipped_model import shipped_models
from bdd_tf.edge.tflite.statistics import model_statistics
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.operation_counts import Operations
from bdd_tf.presets import experiment
from tests.tiny_bnext import NAME, UNITS


def test_run_and_file_cost_the_same(trained, converted):
    run, file = inform(str(trained.path)), inform(str(converted[0]))
    assert (run["kind"], file["kind"]) == ("run", "tflite")
    for key in ("backbone", "channels", "resolution", "binary_macs"):
        assert run[key] == file[key], key
    operations: Operations = converted[2]
    assert run["binary_macs"] == operations.binary_macs
    # The file's float operations include the channels', whose symmetric parts the converter may fold.
    assert run["float_macs"] <= file["float_macs"] <= run["float_macs"] + 2 * operations.channel_macs
    assert run["operations"] == run["binary_macs"] / 64 + run["float_macs"]


def test_every_byte_and_every_binary_weight_is_counted_once(converted):
    path, parsed, operations, _ = converted
    found = model_statistics(parsed)
    assert sum(found.bytes_by_kind.values()) == path.stat().st_size
    assert found.binary_weights == operations.binary_weights
    # At 32 px the narrow layers pad their words: 16 channels take a word of 32.
    assert (
        operations.binary_weights / 8 <= found.bytes_by_kind["binary weights"] < operations.binary_weights / 4
    )
    assert all(count > 0 for count in found.bytes_by_kind.values())


def test_the_papers_column_and_the_published_counts(tmp_path):
    for size, parameters, printed, own in (("t", 29.8, 0.89, 0.0876), ("s", 67.1, 1.91, 0.1889)):
        experiment(backbone=f"bnext-{size}", resolution=224, channels=("rgb",)).save(
            tmp_path / "r" / "config.yaml"
        )
        found = inform(str(tmp_path / "r"))
        assert found["paper_operations"] == printed
        assert abs(found["operations"] / 1e9 - own) < 0.0001
        assert abs(found["parameters"] / 1e6 - parameters) < 0.1
        assert float(f"{found['torch_parameters'] / 1e6:.3g}") == found["paper_parameters"] == parameters
        assert found["bytes"] is None


def test_text_and_json_from_the_command(converted, capsys):
    assert main(["info", str(converted[0])]) == 0
    text = capsys.readouterr().out
    for words in (f"{NAME} 32 px rgb,fft,lbp", f"{UNITS} LceBconv2d", "binary weights", "binary MACs"):
        assert words in text
    assert main(["info", str(converted[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operators"]["LceBconv2d"] == UNITS


def test_missing_and_broken_files_are_named(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"no \.tflite file, checkpoint or run"):
        inform("nonesuch", tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["info", str(tmp_path / "empty")]) == 2
    broken = tmp_path / "m.tflite"
    broken.write_bytes(b"\x10\0\0\0TFL3" + b"\xff" * 40)
    with pytest.raises(BddError, match=r"m\.tflite: .*damaged"):
        inform(str(broken))
    assert "Traceback" not in capsys.readouterr().err


def test_a_shipped_model_is_known_by_its_name(capsys):
    for name, path in shipped_models().items():
        assert main(["info", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == str(path)
    assert main(["info", "photo"]) == 2
    error = capsys.readouterr().err
    assert "no shipped model (photos, cifake)" in error
    assert "bdd runs" in error


def test_a_file_of_another_kind_is_named_as_such(trained, tmp_path, capsys):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    assert main(["info", str(image)]) == 2
    assert "no .tflite file, PyTorch checkpoint or run; `bdd detect` scores images" in capsys.readouterr().err
    assert main(["info", str(trained.weights)]) == 2
    assert f"give the run's folder, {trained.path}." in capsys.readouterr().err
