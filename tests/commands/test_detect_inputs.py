"""Whatever is given to `bdd detect`: standard input, lists, globs, archives, URLs; where the results go."""

import io
import json
import os
import sys
import tempfile
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.commands import detect
from bdd_tf.edge.detect.fetch import Fetcher
from tests.edge.detect.loopback_internet import Loopback, serving


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c [1].png"):
        (tmp_path / "d").mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "d" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "d"


@pytest.fixture
def bdd_detect(capsys, monkeypatch):
    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(stdin)))
        code = main(["detect", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def scores(records):
    return {record["path"]: record["fake_probability"] for record in records}


def test_every_way_to_name_the_same_images(folder, bdd_detect):
    code, records, _ = bdd_detect("d")
    expected = scores(records)
    assert (code, len(expected)) == (0, 3)
    assert scores(bdd_detect("d/*.png")[1]) == expected
    assert scores(bdd_detect("d/c [1].png")[1]) == {"d/c [1].png": expected["d/c [1].png"]}
    assert scores(bdd_detect("**/[ab].png")[1]) == {k: v for k, v in expected.items() if "c" not in k}
    names = "".join(f"{name}\n" for name in expected).encode()
    assert scores(bdd_detect("-", stdin=names)[1]) == expected
    assert scores(bdd_detect("-", stdin=names.replace(b"\n", b"\0"))[1]) == expected
    (folder.parent / "list.txt").write_bytes(names.replace(b"\n", b"\r\n"))
    assert scores(bdd_detect("--from-file", "list.txt")[1]) == expected
    assert scores(bdd_detect("--from-file", "-", stdin=names)[1]) == expected
    text = names.decode()
    for listed in (text.encode("utf-8-sig"), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        assert scores(bdd_detect("-", stdin=listed)[1]) == expected
    with zipfile.ZipFile("e.zip", "w") as archive:
        for name in expected:
            archive.write(name)
    assert scores(bdd_detect("e.zip")[1]) == {f"e.zip/{name}": score for name, score in expected.items()}
    content = (folder / "a.png").read_bytes()
    assert scores(bdd_detect("-", stdin=content)[1]) == {"-": expected["d/a.png"]}


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (
            ["d", "https://u:p@example.org/a.jpg"],
            b"",
            "https://...@example.org/a.jpg is a URL, and URLs are not fetched unless --fetch is given.",
        ),
        (["-"], b"d/a.png\nhttp://example.org/a.jpg\n", "URLs are not fetched unless --fetch is given"),
        (["--fetch", "s3://bucket/a.jpg"], b"", "a URL of another scheme than http and https"),
        (
            ["--fetch", "--explain", "http://example.org/a.jpg"],
            b"",
            "--explain needs a FOLDER for archives, URLs",
        ),
        (["list.csv", "--output", "d/../list.csv"], b"", "which is one of the inputs"),
        (["--from-file", "list.csv", "--output", "list.csv"], b"", "which is one of the inputs"),
        (["d", "--output", "d/a.png"], b"", "which is an image; it would be lost"),
        (["-"], b"", "standard input is empty"),
        (["-"], b"\x01\x02\x7f", "neither an image, nor a video, nor a list"),
        (["-"], b"\x7fELF\x02\x01\x01\0\0\0\0", "neither an image, nor a video, nor a list"),
        (["-"], b"# nothing\n", "standard input lists no paths; write one per line"),
        (
            ["--from-file", "d/a.png"],
            b"",
            "--from-file d/a.png is an image or a video, not a list of paths; to score it",
        ),
        (["d", "--html", "o.html", "--output", "d/../o.html"], b"", "--output and --html are the same file"),
        (
            ["d/a.png", "--explain", "o.html", "--html", "o.html"],
            b"",
            "--html and --explain are the same file",
        ),
        (["list.csv", "--html", "old.html", "--from-file", "old.html"], b"", "which is one of the inputs"),
        (["d", "--model", "m.csv", "--output", "m.csv"], b"", "which is one of the inputs"),
        (["--from-file", "nowhere"], b"", "--from-file nowhere: no such file"),
        (["--explain", "-"], b"GIF89a", "--explain needs a FOLDER for archives, URLs and standard input"),
        (["d", "--output", "nowhere/a.csv"], b"", "a file in a folder that exists"),
        (
            ["d", "--output", "new/"],
            b"",
            "--output is 'new/', which ends like a folder; give the path of a file",
        ),
        (["d", "--html", "new.html/"], b"", "--html is 'new.html/', which ends like a folder"),
        (["d", "--output", "."], b"", "--output is '.', which is a folder; give the path of a file"),
        (
            ["d", "--output", "pipe"],
            b"",
            "--output: pipe is a pipe, not a regular file; give the path of a file",
        ),
        (["d", "--html", "pipe.html"], b"", "--html: pipe.html is a pipe, not a regular file"),
        ([], b"", "give images"),
        ([""], b"", "an input is the empty path ''; give an image, a video or a folder"),
        (["d/a.png", ""], b"", "an input is the empty path ''"),
        (["-"], b"\0d/a.png\0", "standard input: path 1 of the list is empty"),
        (["-"], b"d/a.png\0\0d/b.png\0", "standard input: path 2 of the list is empty"),
        (
            ["d", "--model", ""],
            b"",
            "the model is the empty path ''; give the path of a .tflite file or the name",
        ),
        (
            ["d", "--explain", "--explain-reference", ""],
            b"",
            "--explain-reference is '', which does not exist",
        ),
        (["d", "--run", ""], b"", "no such run"),
        (["--from-file", "-", "-"], b"d\n", "standard input is given twice, as - and as --from-file -;"),
        (["-", "-"], b"d\n", "standard input is given twice, as - and as -;"),
        (["d", "--threshold", "-1"], b"", "--threshold is -1; it must lie in [0, 1]."),
        (["d", "--threshold", "-0.5"], b"", "--threshold is -0.5; it must lie in [0, 1]."),
        (["d", "--threshold", "-inf"], b"", "--threshold is -inf; it must lie in [0, 1]."),
        (["d", "--smooth", "-1"], b"", "--smooth is -1; it must be a number of seconds, at least 0."),
        (["d", "--smooth", "-1e-3"], b"", "--smooth is -0.001; it must be a number of seconds, at least 0."),
        (
            ["d", "--explain", "--explain-limit", "-1"],
            b"",
            "--explain-limit is -1; it must be at least 0 (0: all).",
        ),
        (["d", "--false-alarms", "-1"], b"", "--false-alarms is -1; it must be from 0 to 1."),
        (["d", "--false-alarms", "nan"], b"", "--false-alarms is nan; it must be from 0 to 1."),
        (["d", "--threads", "0"], b"", "--threads is 0; it must be between 1 and 64."),
        (["d", "-0"], b"", "--null requires --list-fakes."),
        (["d", "--max-tiles", "4"], b"", "--max-tiles requires --crop tiles."),
        (["d", "--max-tiles", "4", "--crop", "faces"], b"", "--max-tiles requires --crop tiles."),
        (["d/a.png", "--frames"], b"", "--frames takes videos, but d/a.png is not a video."),
        (["d/a.png", "d/b.png", "--frames"], b"", "--frames takes videos, but none of the 2 inputs is one."),
    ],
)
def test_inputs_that_cannot_be_used_are_one_sentence(folder, bdd_detect, arguments, stdin, message):
    for name in ("list.csv", "old.html", "m.csv"):
        (folder.parent / name).write_text("d/a.png\n")
    for name in ("pipe", "pipe.html"):
        os.mkfifo(folder.parent / name)
    before = [path.read_bytes() for path in sorted(folder.parent.rglob("*.*")) if path.is_file()]
    code, records, err = bdd_detect(*arguments, stdin=stdin)
    assert code in (1, 2)
    assert message in err
    assert records == []
    assert before == [path.read_bytes() for path in sorted(folder.parent.rglob("*.*")) if path.is_file()]


def test_a_pattern_without_a_match_says_so(folder, bdd_detect):
    code, records, err = bdd_detect("d/*.jpeg", "d/a.png")
    assert code == 1
    assert [record["error"] for record in records] == ["no file matches this pattern", None]
    assert "bdd: d/*.jpeg: no file matches this pattern" in err


def test_without_a_score_there_is_no_rate(folder, bdd_detect):
    assert bdd_detect("nowhere.png")[2].endswith("bdd: 1 image: 0 fake, 0 real, 1 unreadable\n")
    assert " images/s" in bdd_detect("d")[2]


def test_a_name_that_no_file_can_have_is_an_error_of_its_own(folder, bdd_detect):
    long = "x" * 256 + ".png"
    names = (long, f"d/{long}/", long.replace(".png", ".zip"), "*" + long, "a\0b.png")
    code, records, err = bdd_detect(*names, "d/a.png")
    assert code == 1
    assert [record["error"] is None for record in records] == [False] * len(names) + [True]
    assert "File name too long" in records[0]["error"]
    assert "Traceback" not in err
    listed = "\n".join([long, "d/a.png"]).encode()
    code, records, _ = bdd_detect("--from-file", "-", stdin=listed)
    assert (code, [record["error"] is None for record in records]) == (1, [False, True])
    for option in ("--explain", "--explain-reference", "--output", "--timeline", "--model", "--from-file"):
        code, _, err = bdd_detect("d/a.png", option, long)
        assert code in (1, 2)
        assert "bdd: " in err


def test_lines_of_a_list_that_begin_with_a_number_sign_are_comments(folder, bdd_detect):
    (folder.parent / "#x.png").write_bytes((folder / "a.png").read_bytes())
    listed = b"# of today\n#x.png\n\nd/a.png\r\n./#x.png\n"
    assert [r["path"] for r in bdd_detect("-", stdin=listed)[1]] == ["d/a.png", "#x.png"]
    # Names that end in a zero byte are exact.
    assert [r["path"] for r in bdd_detect("-", stdin=b"#x.png\0d/a.png\0")[1]] == ["#x.png", "d/a.png"]


def test_a_list_may_hold_names_that_are_not_utf_8(folder, bdd_detect):
    (folder.parent / os.fsdecode(b"gr\xfcn.png")).write_bytes((folder / "a.png").read_bytes())
    code, records, _ = bdd_detect("-", stdin=b"gr\xfcn.png\n")
    assert (code, [record["error"] for record in records]) == (0, [None])


@pytest.fixture
def internet(monkeypatch):
    with serving() as server:
        fetcher = Fetcher(seconds=5, network=Loopback(server.server_port))
        monkeypatch.setattr(detect, "FETCHER", fetcher)
        yield server


def test_urls_are_fetched_on_request_and_fail_one_by_one(folder, bdd_detect, internet, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))
    content = (folder / "a.png").read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x/b.png", (folder / "b.png").read_bytes())
    internet.answers |= {
        "/a.png?size=1": (200, {}, content),
        "/moved": (302, {"Location": "http://example.test/a.png?size=1"}, b""),
        "/b.zip": (200, {}, packed.getvalue()),
        "/text": (200, {}, b"no image"),
    }
    expected = scores(bdd_detect("d")[1])
    site = "http://example.test"
    names = [f"{site}/a.png?size=1", "d/b.png", "http://inner.test/a", f"{site}/b.zip", f"{site}/text"]
    listed = "\n".join([*names[1:], f"{site}/moved"]).encode()
    code, records, err = bdd_detect("--fetch", names[0], "-", stdin=listed)
    assert code == 1
    found = scores(records)
    assert found == {
        names[0]: expected["d/a.png"],
        "d/b.png": expected["d/b.png"],
        names[2]: None,
        f"{names[3]}/x/b.png": expected["d/b.png"],
        names[4]: None,
        f"{site}/moved": expected["d/a.png"],
    }
    assert "10.1.2.3, the address of inner.test, is not public" in records[2]["error"]
    assert f"bdd: {names[2]}: 10.1.2.3" in err
    assert {path.name for path in folder.parent.iterdir()} == {"d"}  # no temporary folder remains
    code, records, _ = bdd_detect("--fetch", names[0], "--explain", "maps")
    assert code == 0
    assert records[0]["explanation"]["picture"].startswith("maps/a.png")


def test_a_damaged_archive_is_an_error_of_its_own(folder, bdd_detect):
    with zipfile.ZipFile("e.zip", "w") as archive:
        archive.write("d/a.png")
    (folder.parent / "bad.zip").write_bytes(b"x")
    code, records, err = bdd_detect("bad.zip", "*e.zip", "-", stdin=b"e.zip\nd/b.png\n")
    assert code == 1
    assert [record["path"] for record in records] == ["bad.zip", "e.zip/d/a.png", "e.zip/d/a.png", "d/b.png"]
    assert [record["error"] is None for record in records] == [False, True, True, True]
    assert "cannot be unpacked" in records[0]["error"]
    assert "unpacking" not in err


def test_results_go_to_a_file_sorted_and_quietly(folder, bdd_detect):
    code, records, err = bdd_detect("d", "--sort", "--quiet", "--output", "out.json")
    assert (code, records, err) == (0, [], "")
    found = [json.loads(line)["fake_probability"] for line in open("out.json")]  # noqa: PTH123, SIM115
    assert found == sorted(found, reverse=True)
    assert len(found) == 3


def test_names_of_blanks_are_exact_in_a_list_that_zero_bytes_end(folder, bdd_detect):
    (folder.parent / " ").write_bytes((folder / "a.png").read_bytes())
    assert [r["path"] for r in bdd_detect("-", stdin=b" \0d/a.png\0")[1]] == [" ", "d/a.png"]


def test_a_link_given_as_output_stays_a_link(folder, bdd_detect):
    (folder.parent / "link.json").symlink_to("out.json")
    assert bdd_detect("d", "--output", "link.json")[0] == 0
    assert (folder.parent / "link.json").is_symlink()
    assert len((folder.parent / "out.json").read_text().splitlines()) == 3


def test_ctrl_c_ends_with_what_was_scored(folder, bdd_detect, monkeypatch):
    score = detect.score_paths

    def interrupted(*arguments, **options):
        records = score(*arguments, **options)
        yield next(records)
        records.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(detect, "score_paths", interrupted)
    code, records, err = bdd_detect("d", "--html", "sheet.html")
    assert code == 130
    assert [record["path"] for record in records] == ["d/a.png"]
    assert "bdd: stopped after 1 image:" in err
    assert (folder.parent / "sheet.html").read_text().count("<figure") == 1
    assert bdd_detect("d", "--output", "out.json")[0] == 130
    assert len((folder.parent / "out.json").read_text().splitlines()) == 1
