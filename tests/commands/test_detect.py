import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from bdd_tf.edge.detect.score import score_paths
from bdd_tf.edge.detector import BATCH, Detector
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import DecisionRule, verdict
from bdd_tf.errors import BddError, UsageError
from tests.edge.detect_command import parse, run_detect, write_noise
from tests.edge.small_models import with_metadata

PROGRAM = """
import argparse, sys
from bdd_tf.commands import detect
parser = argparse.ArgumentParser()
detect.add_arguments(parser)
sys.exit(detect.main(parser.parse_args()))
"""


@pytest.fixture
def run(capsys):
    return partial(run_detect, capsys)


@pytest.fixture
def folder(tmp_path):
    """Thirty good images in two folders, and three bad ones among them."""
    root = tmp_path / "images"
    write_noise(root, [f"{index % 2}/{index:02}.png" for index in range(30)], 10, 12)
    (root / "0" / "05bad.png").write_bytes(b"")
    (root / "1" / "00bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    (root / "1" / "99bad.gif").write_bytes((root / "1" / "01.png").read_bytes()[:60])
    return root


def good(folder):
    return sorted(str(path) for path in folder.rglob("*.png") if "bad" not in path.name)


def bad(folder):
    return sorted(str(path) for path in folder.rglob("*bad*"))


def test_plain_form(run, folder, float_file):
    code, out, err = run(folder, "--model", float_file)
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert code == 1
    assert [path for _, _, path in lines] == good(folder)
    expected = Detector(float_file).predict(good(folder))
    for (said, probability, _), score in zip(lines, expected, strict=True):
        assert float(probability) == pytest.approx(score, abs=6e-5)
        assert said == verdict(float(score), 0.25)
    for path in bad(folder):
        assert sum(line.startswith(f"bdd: {path}: ") for line in err.splitlines()) == 1
    assert "33 images" in err
    assert "3 unreadable" in err


def records_of(form, out):
    if form == "--json":
        return [json.loads(line) for line in out.splitlines()]
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert list(rows[0]) == ["path", "fake_probability", "verdict", "error", "note"]
    return [{key: value or None for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_forms_for_programs_hold_one_record_per_image(run, folder, float_file, form):
    code, out, err = run(folder, "--model", float_file, form)
    records = records_of(form, out)
    assert code == 1
    assert [record["path"] for record in records] == sorted(good(folder) + bad(folder))
    scores = dict(zip(good(folder), Detector(float_file).predict(good(folder)), strict=True))
    for record in records:
        assert list(record)[:5] == ["path", "fake_probability", "verdict", "error", "note"]
        assert list(record)[5:] == (["model"] if form == "--json" else [])
        if "bad" in record["path"]:
            assert record["fake_probability"] is record["verdict"] is None
            assert f"bdd: {record['path']}: {record['error']}" in err
        else:
            assert record["error"] is None
            assert float(record["fake_probability"]) == pytest.approx(scores[record["path"]], abs=1e-6)
            assert record["verdict"] == verdict(float(record["fake_probability"]), 0.25)


def test_all_read_is_zero(run, folder, float_file):
    code, out, err = run(*good(folder), "--model", float_file)
    assert code == 0
    assert len(out.splitlines()) == 30
    assert "0 unreadable" in err


def test_the_threshold_can_be_given(run, folder, float_file):
    for threshold, word in ((0, "FAKE"), (1, "REAL")):
        _, out, _ = run(folder, "--model", float_file, "--threshold", threshold)
        assert {line.split()[0] for line in out.splitlines()} == {word}


@pytest.mark.parametrize("threshold", ["-0.1", "1.01", "nan", "inf"])
def test_thresholds_outside_of_0_to_1_are_wrong_usage(run, folder, float_file, threshold):
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        run(folder, "--model", float_file, f"--threshold={threshold}")


def test_a_false_alarm_rate_selects_a_threshold(run, folder, float_model, float_file, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(with_metadata(float_model.content, thresholds={"0.010": 1.0, "0.05": 0.0}))
    for rate, word in ((0.01, "REAL"), (0.05, "FAKE")):
        _, out, _ = run(folder, "--model", model, "--false-alarms", rate)
        assert {line.split()[0] for line in out.splitlines()} == {word}
    with pytest.raises(UsageError, match=r"false positive rate of 0\.02; possible: 0\.01, 0\.05"):
        run(folder, "--model", model, "--false-alarms", 0.02)
    with pytest.raises(UsageError, match="none at all, so give --threshold"):
        run(folder, "--model", float_file, "--false-alarms", 0.01)
    with pytest.raises(SystemExit):
        run(folder, "--model", model, "--false-alarms", 0.01, "--threshold", 0.5)


def test_a_missing_path_is_an_unreadable_image(run, folder, float_file):
    code, out, err = run(folder / "nowhere.png", good(folder)[0], "--model", float_file, "--json")
    records = records_of("--json", out)
    assert code == 1
    assert [record["error"] for record in records] == ["no such file", None]
    assert "nowhere.png: no such file" in err


def test_folders_without_images_are_wrong_usage(run, tmp_path, float_file):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UsageError, match="no images found"):
        run(tmp_path / "empty", "--model", float_file)


def test_models_and_engines_that_do_not_exist_are_wrong_usage(run, folder, float_file):
    with pytest.raises(UsageError, match="no such model"):
        run(folder, "--model", "nowhere.tflite")
    with pytest.raises(UsageError, match="unknown engine"):
        run(folder, "--model", float_file, "--engine", "warp")
    with pytest.raises(UsageError, match="--threads is 0"):
        run(folder, "--model", float_file, "--threads", 0)


def test_a_damaged_model_is_an_error_but_not_wrong_usage(run, folder, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"nonsense")
    with pytest.raises(BddError, match=r"m\.tflite") as caught:
        run(folder, "--model", tmp_path / "m.tflite")
    assert caught.value.exit_code == 1


def test_a_run_can_replace_its_model(run, folder, tmp_path, float_file):
    runs = tmp_path / "runs"
    with pytest.raises(UsageError, match="no such run"):
        run(folder, "--run", "first", "--runs-dir", runs)
    (runs / "first").mkdir(parents=True)
    with pytest.raises(UsageError, match="bdd convert --run first"):
        run(folder, "--run", "first", "--runs-dir", runs)
    with pytest.raises(UsageError, match="possible: first"):
        run(folder, "--run", "frist", "--runs-dir", runs)
    (runs / "first" / "model.tflite").write_bytes(float_file.read_bytes())
    assert run(folder, "--run", "first", "--runs-dir", runs)[1] == run(folder, "--model", float_file)[1]


@pytest.mark.parametrize("arguments", [["a", "--json", "--csv"], ["a", "--run", "x", "--model", "y"]])
def test_contradictions_are_refused_by_the_parser(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    capsys.readouterr()


def test_nothing_to_score_is_wrong_usage(run):
    with pytest.raises(UsageError, match="give images"):
        run()


NAMES = [
    b"new\nline.png",
    b'a,"b".png',
    b" space .png",
    b"r\r.png",
    b"\xff\xfe.png",
    "grüße😀.png".encode(),
    b"\x1b[2J.png",
]


@pytest.fixture
def odd_folder(tmp_path, photo):
    root = tmp_path / "odd"
    root.mkdir()
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "png")
    for name in NAMES:
        (root / os.fsdecode(name)).write_bytes(buffer.getvalue())
    (root / os.fsdecode(b"bad\n\xff.png")).touch()
    return root


def program(*arguments, **environment):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_odd_file_names_give_valid_output(odd_folder, float_file, encoding):
    results = {
        form: program(odd_folder, "--model", float_file, *form, PYTHONIOENCODING=encoding)
        for form in ((), ("--json",), ("--csv",))
    }
    for result in results.values():
        assert result.returncode == 1, result.stderr
        assert b"Traceback" not in result.stderr
    plain = results[()].stdout.decode(encoding)
    assert len(plain.split("\n")) == len(NAMES) + 1
    assert all(line.isprintable() for line in plain.split("\n"))
    records = [json.loads(line) for line in results["--json",].stdout.decode("ascii").splitlines()]
    found = {os.fsencode(Path(record["path"]).name) for record in records}
    assert found == {*NAMES, b"bad\n\xff.png"}
    rows = list(csv.reader(io.StringIO(results["--csv",].stdout.decode(encoding), newline="")))
    assert [len(row) for row in rows] == [5] * (len(NAMES) + 2)
    names = {Path(row[0]).name for row in rows}
    assert {"new\nline.png", 'a,"b".png', " space .png", "r\r.png"} <= names


def complaints(err):
    """What is on standard error apart from the runtime's greeting."""
    return [line for line in err.decode().splitlines() if not line.startswith("INFO: ")]


def test_a_reader_that_leaves_ends_it_quietly(folder, float_file):
    many = [good(folder)[0]] * 3000
    command = [sys.executable, "-c", PROGRAM, *many, "--model", str(float_file), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 141
    process.stderr.close()
    assert complaints(err) == []


def test_control_c_ends_it_quietly(folder, float_file):
    many = [good(folder)[0]] * 20000
    command = [sys.executable, "-c", PROGRAM, *many, "--model", str(float_file)]
    # As at a terminal: where tests run in the background, the shell has SIGINT ignored, and children inherit that.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    said = complaints(err)
    assert len(said) == 1
    assert said[0].startswith("bdd: stopped after ")


class SlowDetector:
    """Scores like a detector, by brightness, and notes how far reading was ahead of it."""

    def __init__(self, resize):
        self.resize = self.rule = resize
        self.batches = []

    def prepare(self):
        pass

    def predict_batch(self, images):
        self.batches.append(len(images))
        time.sleep(0.01)
        return images.mean((1, 2, 3)) / 255


def test_reading_stays_a_bounded_way_ahead_and_order_is_kept(save, photo):
    path = save(photo, "a.png")
    asked = 0

    def paths():
        nonlocal asked
        for _ in range(200):
            asked += 1
            yield path

    detector = SlowDetector(ResizeRule.native(8))
    records = score_paths(detector, paths(), DecisionRule(0.5))
    for count, record in enumerate(records, 1):
        assert record.path == str(path)
        assert asked <= count + 4 * BATCH
    assert count == 200
    assert sum(detector.batches) == 200
    assert max(detector.batches) == BATCH


def test_leaving_early_stops_the_reader(save, photo):
    path = save(photo, "a.png")
    asked = 0

    def paths():
        nonlocal asked
        while True:
            asked += 1
            yield path

    records = score_paths(SlowDetector(ResizeRule.native(8)), paths(), DecisionRule(0.5))
    next(records)
    records.close()
    time.sleep(0.3)
    before = asked
    time.sleep(0.1)
    assert asked == before


def test_an_error_in_the_reader_is_not_swallowed():
    def paths():
        yield Path("missing.png")
        raise OSError("the disk is gone")

    records = score_paths(SlowDetector(ResizeRule.native(8)), paths(), DecisionRule(0.5))
    with pytest.raises(OSError, match="the disk is gone"):
        list(records)
