import csv
import json
import time
import types

import pytest
from PIL import Image

from bdd_tf.benchmark import worker
from bdd_tf.benchmark.contenders import Contender, Result
from bdd_tf.benchmark.output import machine, table
from bdd_tf.benchmark.worker import measure
from bdd_tf.cli import main
from bdd_tf.edge.runtime import available_kernels

KEYS = {"name", "engine", "kernels", "threads", "median_ms", "p90_ms", "ratio", "bytes", "peak_mib"}


@pytest.fixture(scope="module")
def file(converted):
    return converted[0]


def test_one_json_object_per_contender_with_the_promised_keys(file, capsys):
    code = main(["benchmark", "--model", str(file), "--against", "none", "--rounds", "2", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert all(set(line) == KEYS for line in lines)
    sets = [k for k in available_kernels() if k != "scalar"] or ["scalar"]
    assert [(x["kernels"], x["threads"]) for x in lines] == [(k, t) for t in (1, 2) for k in sets]
    assert lines[0]["ratio"] == 1.0
    for line in lines:
        assert 0 < line["median_ms"] <= line["p90_ms"]
        assert line["ratio"] == pytest.approx(line["median_ms"] / lines[0]["median_ms"], rel=0.01)
        assert line["bytes"] == file.stat().st_size
        assert 10 < line["peak_mib"] < 500  # the process's own, not that of pytest with TensorFlow in it


def test_lces_interpreter_is_compared_and_everything_is_written(file, tmp_path, capsys):
    folder = tmp_path / "out"
    args = ["benchmark", "--model", str(file), "--threads", "1", "--kernels", "scalar", "--against", "lce"]
    assert main([*args, "--rounds", "2", "--output", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert machine() in printed
    assert "indirect" in printed
    saved = json.loads((folder / "benchmark.json").read_text())
    assert [r["kernels"] for r in saved["results"]] == ["scalar", "default", "indirect"]
    with (folder / "benchmark.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3
    assert Image.open(folder / "benchmark.png").size[0] > 500


def test_a_contender_that_fails_is_a_line_and_the_others_run(file, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"none")
    contenders = [
        Contender("good", "litert", "auto", 1, str(file)),
        Contender("broken", "litert", None, 1, str(broken)),
        Contender("odd", "litert", "mmx", 1, str(file)),
    ]
    good, bad, odd = measure(contenders, rounds=1)
    assert good.error is None
    assert bad.error
    assert "unknown kernel set 'mmx'" in odd.error
    assert bad.median_ms is None
    assert "mmx" in table([good, bad, odd])


@pytest.mark.parametrize(("silence", "rounds"), [(10, [1, 6]), (0, [1, 2, 3, 4, 5, 6])])
def test_rounds_are_announced_more_often_if_they_are_slow(monkeypatch, capsys, silence, rounds):
    monkeypatch.setattr(worker, "_SILENCE", silence)
    taker = types.SimpleNamespace(turn=1, run=lambda runs, *, count=True: time.sleep(0.001))
    worker.take_turns([taker], 6)
    assert capsys.readouterr().err.splitlines() == [f"bdd: round {i} of 6" for i in rounds]


def test_a_table_is_aligned():
    rows = table(
        [
            Result("a", "litert", "avx2", 1, 1.5, 2.0, 1.0, 2_000_000, 50.0),
            Result("longer", "lce", None, 2, error="no"),
        ]
    ).splitlines()
    assert len(rows) == 3
    assert rows[0].index("ratio") + 5 == rows[1].index("1.00") + 4
    assert rows[2].endswith("no")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model", "none.tflite"], "no such model"),
        (["--model", "cifak"], "Did you mean 'cifake'?"),
        (["--threads", "0"], "positive"),
        (["--threads", "two"], "positive"),
        (["--rounds", "0"], "positive"),
        (["--kernels", "mmx"], "unknown kernel set"),
        (["--against", "vgg"], "mobilenetv2"),
        (["--device", "phone"], "possible: local"),
    ],
)
def test_wrong_usage(args, said, capsys):
    assert main(["benchmark", *args]) == 2
    assert said in capsys.readouterr().err
