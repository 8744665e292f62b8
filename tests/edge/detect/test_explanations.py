import json
import os
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from bdd_tf.commands import detect
from bdd_tf.edge.detect.explain_options import EXPLAIN_LIMIT, ExplainOptions
from bdd_tf.edge.images.find import EXPLANATION_SUFFIX, find_images
from bdd_tf.errors import UsageError
from tests.edge.detect_command import parse, run_detect, write_noise
from tests.edge.small_models import SIZE


@pytest.fixture
def run(capsys, float_file):
    return partial(run_detect, capsys, "--model", float_file)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    write_noise(root, [f"{index % 2}/{index // 2}.png" for index in range(4)], 20, 30)
    (root / "0" / "bad.png").write_bytes(b"")
    return root


def pictures(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob(f"*{EXPLANATION_SUFFIX}"))


def test_every_readable_image_gets_an_explanation_next_to_it_and_one_line(run, folder):
    code, out, err = run(folder, "--explain")
    assert code == 1  # the bad one, as ever
    assert len(out.splitlines()) == 4
    assert pictures(folder) == [f"{i}/{j}.png{EXPLANATION_SUFFIX}" for i in "01" for j in "01"]
    for path in folder.rglob(f"*{EXPLANATION_SUFFIX}"):
        assert Image.open(path).size[0] > 600
    assert "4 explained by occlusion" in err
    assert not list(folder.rglob("*.tmp"))


def test_pictures_are_not_taken_for_images(run, folder):
    first = run(folder, "--explain")[1]
    _, out, err = run(folder)
    assert out == first
    assert "4 entries were left out: 4 a heat map of --explain" in err
    one = next(folder.rglob(f"*{EXPLANATION_SUFFIX}"))
    assert str(one) in run(one)[1]  # unless named
    assert list(find_images([folder / "1"])) == [folder / "1" / "0.png", folder / "1" / "1.png"]


def test_json_holds_picture_box_and_channels(run, folder):
    _, out, _ = run(folder / "1", "--explain", "--json")
    for line in out.splitlines():
        record = json.loads(line)
        found = record["explanation"]
        assert list(record)[:4] == ["path", "fake_probability", "verdict", "error"]
        assert found["picture"] == record["path"] + EXPLANATION_SUFFIX
        left, top, width, height = found["box"]
        assert left >= 0
        assert left + width <= 30
        assert top >= 0
        assert top + height <= 20
        assert found["channels"] == {}
        assert "RGB" in found["channels_left_out"]
    assert "explanation" not in json.loads(run(folder / "1", "--json")[1].splitlines()[0])


def test_names_that_collide_in_one_folder_are_numbered(run, folder, tmp_path):
    target = tmp_path / "made" / "here"
    _, out, _ = run(folder, "--explain", target, "--json")
    assert pictures(target) == [f"{j}.png{n}{EXPLANATION_SUFFIX}" for j in "01" for n in ("-2", "")]
    named = [json.loads(line)["explanation"] for line in out.splitlines()]
    assert len({f["picture"] for f in named if f}) == 4
    assert pictures(folder) == []
    run(folder, "--explain", target)
    assert len(pictures(target)) == 4  # the same names again


def test_the_same_image_twice_is_one_picture(run, folder):
    image = folder / "1" / "0.png"
    _, out, _ = run(image, image, "--explain", "--json")
    assert len({json.loads(line)["explanation"]["picture"] for line in out.splitlines()}) == 1


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".png", "ü" * 120 + ".png", "-rf.png", "new\nline.png", os.fsdecode(b"\xff\xfe.png")]
)
def test_hostile_names(run, folder, tmp_path, name):
    path = tmp_path / name
    path.write_bytes((folder / "1" / "0.png").read_bytes())
    code, out, _ = run("--explain", "--json", "--", path)
    found = json.loads(out)["explanation"]
    assert code == 0
    assert Path(found["picture"]).is_file()
    assert Path(found["picture"]).parent == tmp_path
    found = list(find_images([tmp_path]))
    assert path in found
    assert not any(str(image).endswith(EXPLANATION_SUFFIX) for image in found)


def test_a_link_in_the_pictures_place_is_replaced_not_followed(run, folder, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    image = folder / "1" / "0.png"
    (folder / "1" / f"0.png{EXPLANATION_SUFFIX}").symlink_to(precious)
    assert run(image, "--explain")[0] == 0
    assert precious.read_text() == "kept"
    assert not (folder / "1" / f"0.png{EXPLANATION_SUFFIX}").is_symlink()


def test_a_picture_that_cannot_be_written_leaves_the_verdict(run, folder):
    (folder / "1" / f"0.png{EXPLANATION_SUFFIX}").mkdir()
    code, out, err = run(folder / "1", "--explain", "--json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert first["verdict"] in ("REAL", "FAKE")
    assert "no heat map was written: " in first["error"]
    assert "is a folder, not a regular file" in first["error"]
    assert first["explanation"]["picture"] is None
    assert second["error"] is None
    assert "1 incomplete" in err


def test_the_limit_is_told(run, folder):
    _, out, err = run(folder, "--explain", "--json", "--explain-limit", 1)
    explained = [json.loads(line)["explanation"] is not None for line in out.splitlines()]
    assert sum(explained) == 1
    assert "3 more were not" in err
    assert len(pictures(folder)) == 1


def test_of_tiles_the_worst_is_explained(run, folder):
    _, out, _ = run(folder / "1" / "0.png", "--explain", "--crop", "tiles", "--json")
    record = json.loads(out)
    outer, inner = record["box"], record["explanation"]["box"]
    assert outer[2:] == [SIZE, SIZE]
    for axis in (0, 1):
        assert outer[axis] <= inner[axis]
        assert inner[axis] + inner[axis + 2] <= outer[axis] + outer[axis + 2]


def parsed(*arguments):
    args = parse(*arguments)
    detect._restore_first_path(args)
    return args


def test_a_path_behind_the_option_is_a_path(tmp_path):
    image, photos = tmp_path / "a.jpg", tmp_path / "photos"
    image.touch()
    photos.mkdir()
    for arguments, paths, folder in (
        (["--explain", image], [image], ""),
        (["--explain", photos], [photos], ""),
        (["--explain", image, "b.jpg"], [image, "b.jpg"], ""),
        (["--explain", "missing.png", image], ["missing.png", image], ""),
        ([image, "--explain", photos], [image], str(photos)),
        ([image, "--explain", "new-folder"], [image], "new-folder"),
        ([image, "--explain"], [image], ""),
        ([image], [image], None),
    ):
        args = parsed(*arguments)
        assert (args.paths, args.explain) == ([str(p) for p in paths], folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--explain-limit", 3], "requires --explain"),
        (["a.png", "--explain-by", "occlusion"], "requires --explain"),
        (["a.png", "--explain", "--explain-limit=-1"], "at least 0"),
        (["a.png", "--explain", "--explain-reference", "nowhere"], "does not exist"),
        (["a.png", "--explain", "--explain-by", "grad-cam"], "--run"),
        (["--camera", "0", "--explain"], "camera"),
        (["--explain"], "give images"),
    ],
)
def test_wrong_usage(arguments, message):
    with pytest.raises(UsageError, match=message):
        ExplainOptions.from_args(parsed(*arguments))


def test_a_folder_that_cannot_be_made_is_wrong_usage(run, folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be created"):
        run(folder, "--explain", tmp_path / "file" / "below")


def test_the_default_limit_is_a_limit():
    assert ExplainOptions.from_args(parsed("a.png", "--explain")).limit == EXPLAIN_LIMIT
    assert ExplainOptions.from_args(parsed("a.png", "--explain", "--explain-limit", "0")).limit is None
