import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf import cli
from bdd_tf.edge.detector import Detector
from tests.edge.video.video_files import plain, write_video

CLI = [sys.executable, "-m", "bdd_tf.cli", "detect"]


@pytest.fixture
def run(capfd, float_file):
    def run(*arguments):
        code = cli.main(["detect", *map(str, arguments), "--model", str(float_file)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder: an image, a video, a broken video, another image (in this order)."""
    root = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (40, 24, 32, 3), dtype=np.uint8)
    Image.fromarray(frames[0]).save(root / "a.png")
    write_video(root / "b.avi", frames)
    (root / "c.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    Image.fromarray(frames[39]).save(root / "d.png")
    return root


def test_images_and_videos_come_in_one_stream(run, clips, float_file):
    code, out, err = run(clips, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [Path(record["path"]).name for record in records] == ["a.png", "b.avi", "c.mp4", "d.png"]
    assert [list(record) for record in records] == [
        ["path", "fake_probability", "verdict", "error", "note", *extra, "model"]
        for extra in ([], ["video"], [], [])
    ]
    assert records[2]["fake_probability"] is None
    assert "damaged" in records[2]["error"]
    assert f"bdd: {clips / 'c.mp4'}: " in err
    assert "4 files" in err
    # The frames of a lossless video score as the same images do.
    with Detector(float_file) as detector:
        expected = detector.predict([clips / "a.png", clips / "d.png"])
    _, out, _ = run(clips / "b.avi", "--frames")
    *frames, video = (json.loads(line) for line in out.splitlines())
    assert [frame["frame"] for frame in frames] == list(range(40))
    assert list(frames[0]) == ["path", "frame", "seconds", "fake_probability", "smoothed", "verdict"]
    ends = [frames[0]["fake_probability"], frames[-1]["fake_probability"]]
    np.testing.assert_allclose(ends, expected, atol=0.02)
    assert video["fake_probability"] == records[1]["fake_probability"]
    assert video["video"]["frames"] == 40
    assert {**video, "video": None} == {**records[1], "video": None}


def test_csv_and_text_keep_their_columns_for_videos(run, clips):
    _, out, _ = run(clips, "--csv")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["path", "fake_probability", "verdict", "error", "note"]
    assert [len(row) for row in rows] == [5] * 5
    _, out, err = run(clips)
    assert [line.split()[0] in ("FAKE", "REAL") for line in out.splitlines()] == [True] * 3
    assert "x real time" in err


def test_crops_add_their_box(run, clips):
    _, out, _ = run(clips / "a.png", clips / "c.mp4", "--csv", "--crop", "tiles")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0])[5:] == ["left", "top", "width", "height", "box_probability", "crops"]
    assert (rows[0]["width"], rows[0]["height"]) == ("8", "8")
    assert float(rows[0]["box_probability"]) >= float(rows[0]["fake_probability"])
    assert int(rows[0]["crops"]) == 20
    assert rows[1]["left"] == ""
    _, out, _ = run(clips / "a.png", "--json", "--crop", "center")
    record = json.loads(out)
    assert list(record)[4:] == ["note", "box", "box_probability", "crops", "model"]
    _, plain_out, _ = run(clips / "a.png", "--json")
    assert record["fake_probability"] == json.loads(plain_out)["fake_probability"]
    _, out, _ = run(clips / "a.png", "--crop", "tiles", "--max-tiles", "4")
    assert " of 4  " in out
    assert run(clips / "a.png", "--crop", "tiles", "--max-tiles", "0")[0] == 2
    code, out, err = run(clips / "a.png", clips / "b.avi", "--crop", "faces", "--json")
    assert code == 1
    assert [json.loads(line)["fake_probability"] for line in out.splitlines()] == [None, None]
    assert err.count("no face was found") == 2


def test_a_truncated_video_has_both_a_score_and_an_error(run, clips, tmp_path):
    content = (clips / "b.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: int(0.6 * len(content))])
    code, out, err = run(tmp_path, "--json")
    record = json.loads(out)
    assert code == 1
    assert record["verdict"]
    assert "truncated" in record["error"]
    assert "0 unreadable, 1 incomplete" in err


def test_outputs_are_written_and_nothing_else(run, clips, tmp_path):
    code, _, _ = run(clips / "b.avi", "--save-video", tmp_path / "o.mp4", "--timeline", tmp_path / "t.png")
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "t.png"]
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == (1200, 360)
    _, out, _ = run(tmp_path / "o.mp4", "--json")
    assert json.loads(out)["video"]["frames"] == 40


WRONG = [
    ["{b}", "--every", "0"],
    ["{b}", "--seconds", "nan"],
    ["{b}", "--seconds", "0"],
    ["{b}", "--smooth", "-1"],
    ["{b}", "--smooth", "inf"],
    ["{b}", "--frames", "--csv"],
    ["{b}", "--frames", "--list-fakes"],
    ["{b}", "--null"],
    ["{b}", "--save-video", "{out}/o.webm"],
    ["{b}", "--save-video", "{out}/nowhere/o.mp4"],
    ["{b}", "--timeline", "{out}/t.jpg"],
    ["{b}", "--html", "{out}/x"],
    ["{b}", "--save-video", "{b}"],
    ["{b}", "{b}", "--timeline", "{out}/t.png"],
    ["{root}", "--save-video", "{out}/o.mp4"],
    ["{a}", "--timeline", "{out}/t.png"],
    ["{b}", "--camera", "0"],
    ["--camera", "rtsp://host/"],
    ["--camera", ""],
    ["--camera", "0", "--csv"],
    ["--camera", "0", "--html", "{out}/x.html"],
    ["--camera", "0", "--every", "2"],
    ["{b}", "--window", "--headless"],
    ["{b}", "--crop", "center-left"],
    [],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_usage_is_two(run, clips, tmp_path, arguments):
    before = (clips / "b.avi").read_bytes()
    names = {"a": clips / "a.png", "b": clips / "b.avi", "root": clips, "out": tmp_path}
    code, out, err = run(*(argument.format(**names) for argument in arguments))
    assert code == 2
    assert out == ""
    assert "error: " in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert (clips / "b.avi").read_bytes() == before


def test_a_camera_that_is_not_there_is_one(run):
    code, out, err = run("--camera", "977")
    assert (code, out) == (1, "")
    assert "there is no camera /dev/video977" in err


def test_a_camera_prints_json_lines_and_its_summary(run, monkeypatch):
    from bdd_tf.edge.video import camera
    from tests.edge.video.video_files import StandInCamera

    monkeypatch.setattr(camera, "_open_camera", lambda device: StandInCamera(interval=0.01))
    code, out, err = run("--camera", "0", "--seconds", "0.4")
    *frames, record = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert len(frames) > 3
    assert all(frame["path"] == "camera 0" and frame["seconds"] < 0.4 for frame in frames)
    assert record["video"]["frames"] == len(frames)
    assert "Ctrl-C ends" in err
    monkeypatch.setattr(
        camera, "_open_camera", lambda device: StandInCamera(interval=0.01, frames=3, then="raise")
    )
    code, out, err = run("--camera", "0")
    assert code == 1
    assert "was it unplugged?" in json.loads(out.splitlines()[-1])["error"]
    assert "was it unplugged?" in err


def start(*arguments, **options):
    # As at a terminal: where tests run in the background, SIGINT is ignored, and children inherit that.
    return subprocess.Popen(
        [*CLI, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def test_control_c_ends_with_the_summary(clips, float_file, tmp_path):
    long = write_video(tmp_path / "long.avi", (plain(i % 256) for i in range(6000)))
    process = start(long, clips / "a.png", "--frames", "--model", float_file)
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    record = json.loads(out.splitlines()[-1])
    assert record["path"] == str(long)
    assert record["video"]["interrupted"] is True
    assert 20 <= record["video"]["frames"] < 6000
    assert "mean of" in err
    assert "Traceback" not in err


def test_a_reader_that_leaves_ends_it_quietly_and_leaves_no_file(clips, float_file, tmp_path):
    long = write_video(tmp_path / "long.avi", (plain(i % 256) for i in range(6000)))
    process = start(long, "--frames", "--model", float_file, "--save-video", tmp_path / "o.mp4")
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 141
    process.stderr.close()
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["long.avi"]


def test_without_opencv_images_are_scored_and_the_extra_is_named(clips, float_file):
    code = "import sys; sys.modules['cv2'] = None; from bdd_tf.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*arguments):
        command = [sys.executable, "-c", code, "detect", *map(str, arguments), "--model", str(float_file)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = run(clips, "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert [record["error"] is None for record in records] == [True, False, False, True]
    assert "pip install 'bdd_tf[video]'" in records[1]["error"]
    assert run(clips / "a.png", "--crop", "tiles").returncode == 0
    for arguments in (["--camera", "0"], [clips / "a.png", "--crop", "faces"]):
        result = run(*arguments)
        assert result.returncode == 1
        assert "pip install 'bdd_tf[video]'" in result.stderr
        assert "Traceback" not in result.stderr


def test_fakes_alone_are_listed_byte_by_byte(clips, float_file, tmp_path):
    names = [b"new\nline.png", b"\xff\xfe.png", b" space .png", b"plain.png", b"-0.png"]
    for name in names:
        shutil.copy(clips / "a.png", tmp_path / os.fsdecode(name))
    shutil.copy(clips / "b.avi", tmp_path / "b.avi")
    (tmp_path / "bad.png").touch()

    def listed(*arguments):
        command = [*CLI, ".", "--list-fakes", "--model", str(float_file), *arguments]
        # From another folder, where the package may not be installed.
        root = str(Path(cli.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": root}
        return subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=environment)

    result = listed("--threshold", "0", "-0")
    assert result.returncode == 1
    assert set(result.stdout.split(b"\0")) == {*names, b"b.avi", b""}
    assert b"bad.png" in result.stderr
    assert listed("--threshold", "0").stdout.count(b"\n") == len(names) + 1 + 1
    assert listed("--threshold", "1").stdout == b""
