"""Every output says that an image is unlike those that the model was trained on."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.edge.explain.explanation import Explanation
from bdd_tf.edge.video.overlay import Caption, draw

NOTE = "much larger than the training images: 300x200 px"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(path)
    return path


def test_text_names_each_image_concerned(photo, tmp_path, capsys):
    small = tmp_path / "small.png"
    Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))).save(small)
    assert main(["detect", str(tmp_path), "--model", "cifake"]) == 0
    large, other = capsys.readouterr().out.splitlines()
    assert large.endswith(f"{photo}  (note: {NOTE})")
    assert other.endswith(str(small))
    assert main(["detect", str(tmp_path), "--model", "cifake", "--quiet"]) == 0
    assert "note" not in capsys.readouterr().out


def test_csv_has_a_column(photo, capsys):
    assert main(["detect", str(photo), "--model", "cifake", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["note"] for row in rows] == [NOTE]


def test_lists_of_fakes_say_it_on_standard_error(photo, capsys):
    assert main(["detect", str(photo), "--model", "cifake", "--list-fakes", "--threshold", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(photo)]
    assert "Its verdict is unreliable. 1 of the 1 called FAKE are among them." in err


def test_the_contact_sheet_says_it_above_and_below_the_image(photo, tmp_path, capsys):
    assert main(["detect", str(photo), "--model", "cifake", "--html", str(tmp_path / "sheet.html")]) == 0
    page = (tmp_path / "sheet.html").read_text()
    assert page.count(NOTE) == 1
    assert '<p class="note">1 of 1 image is out of distribution' in page
    small = tmp_path / "small.png"
    Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))).save(small)
    capsys.readouterr()
    assert main(["detect", str(small), "--model", "cifake", "--html", str(tmp_path / "sheet.html")]) == 0
    assert "out of distribution" not in (tmp_path / "sheet.html").read_text() + capsys.readouterr().err


def test_explanations_and_frames_show_it(photo):
    from bdd_tf.edge.explain import heat_map
    from bdd_tf.edge.images.box import Box

    image = np.zeros((32, 32, 3), np.uint8)
    values = np.zeros((32, 32), np.float32)
    found = Explanation(
        "occlusion", "evidence", 0.0, values, Box(0, 0, 4, 4), 0.0, {}, "it sees RGB alone", ""
    )
    plain, noted = (np.asarray(heat_map.draw(image, found, "FAKE", "a", 0.5, note)) for note in (None, NOTE))
    assert (plain != noted)[:50].any()
    assert not (plain != noted)[50:].any()
    frame = np.full((240, 320, 3), 200, np.uint8)
    plain, noted = (draw(frame, Caption("FAKE", 0.7, 0.7, 0.5, 0, 30, note=note)) for note in (None, NOTE))
    assert not (plain != noted)[:200].any()
    assert (plain != noted)[200:].mean() > 0.1
