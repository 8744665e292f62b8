import json
import warnings

import numpy as np
import pytest
from edge_models import TRAINED_ON, with_metadata

from bdd_tf.cli import main
from bdd_tf.edge import Detector, UnfamiliarImageWarning
from bdd_tf.edge.familiarity import TrainedOn, measure, ranges, summary
from bdd_tf.edge.shipped import shipped_model
from bdd_tf.errors import UsageError

KNOWN = TrainedOn.from_metadata({"trained_on": TRAINED_ON})


def picture(height, width, seed=0):
    """Contrast of about 20, detail of about 11."""
    rng = np.random.default_rng(seed)
    wave = 128 + 25 * np.sin(np.arange(width) / 2) * np.cos(np.arange(height) / 2)[:, None]
    return rng.normal(wave[..., None], 7, (height, width, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def file(float_model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(with_metadata(float_model.content, trained_on=TRAINED_ON))
    return path


@pytest.mark.parametrize(
    ("width", "height", "kind"),
    [
        (16, 16, None), (32, 32, None), (64, 64, None), (8, 8, None), (4000, 64, None),
        (65, 65, "larger"), (65, 4000, "larger"), (7, 7, "smaller"), (7, 32, "smaller"), (4000, 3000, "larger"),
    ],
)  # fmt: skip
def test_size_is_that_of_the_shorter_side_within_a_factor_of_two(width, height, kind):
    found = KNOWN.strangeness(width, height)
    assert (found and found.kind) == kind
    if found:
        assert f"{width}x{height} px" in found.note


def test_contrast_and_detail_are_those_of_the_definition():
    image = picture(9, 12)
    green = image[..., 1].astype(float)
    contrast, detail = measure(image[None])[:, 0]
    assert contrast == pytest.approx(np.sqrt(((green - green.mean()) ** 2).mean()))
    across = np.mean([abs(row[i + 1] - row[i]) for row in green for i in range(11)])
    down = np.mean([abs(row[i + 1] - row[i]) for row in green.T for i in range(8)])
    assert detail == pytest.approx((across + down) / 2)
    extremes = np.array([[[[0, 255, 0], [0, 0, 0]], [[0, 0, 0], [0, 255, 0]]]], np.uint8)  # no overflow
    np.testing.assert_allclose(measure(extremes)[:, 0], [127.5, 255])


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (picture(32, 32), None),
        (np.full((32, 32, 3), 90, np.uint8), "contrast"),
        (np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), "contrast"),
        (
            (128 + 30 * (-1) ** np.indices((32, 32)).sum(0))[..., None].repeat(3, -1).astype(np.uint8),
            "detail",
        ),
    ],
)
def test_what_no_training_image_looks_like_is_named(seen, kind):
    found = KNOWN.strangeness(32, 32, seen)
    assert (found and found.kind) == kind


def test_ranges_leave_one_image_in_a_thousand_outside():
    images = np.stack([picture(8, 8, seed) for seed in range(4000)])
    found = ranges(images)
    for name, values in zip(("contrast", "detail"), measure(images), strict=True):
        low, high = found[name]
        assert (values < low).sum() == (values > high).sum() == 2


def test_metadata_come_back_as_they_were():
    assert TrainedOn.from_metadata(json.loads(json.dumps({"trained_on": KNOWN.to_dict()}))) == KNOWN
    assert TrainedOn.from_metadata({}) is None
    assert KNOWN.describe() == "small, 16 to 32 px"


def test_the_detector_warns_with_the_same_words_each_time_and_tells_which_image_it_was(file):
    large, usual = picture(100, 80), picture(32, 32)
    with Detector(file) as detector:
        texts = []
        for images in ([usual, large], large):
            with pytest.warns(UnfamiliarImageWarning, match=r"small, 16 to 32 px") as caught:
                detector.predict(images)
            texts += [str(warning.message) for warning in caught]
            assert caught[0].filename == __file__  # the caller's line
        assert len(texts) == 2
        assert texts[0] == texts[1]
        assert detector.note(large) == "much larger than the training images: 80x100 px"
        assert detector.note(usual) is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            detector.predict(usual)
            warnings.simplefilter("ignore", UnfamiliarImageWarning)
            detector.predict(large)


def test_files_that_do_not_tell_give_no_notes(float_file):
    with warnings.catch_warnings(), Detector(float_file) as detector:
        warnings.simplefilter("error")
        detector.predict(picture(500, 500))
        assert detector.trained_on is detector.note(picture(500, 500)) is None


@pytest.mark.parametrize("crop", [(), ("--crop", "center"), ("--crop", "tiles"), ("--html", "sheet.html")])
def test_detect_says_it_once_and_marks_each_record(file, save, tmp_path, capsys, monkeypatch, crop):
    monkeypatch.chdir(tmp_path)
    paths = [
        save(picture(*side), f"{name}.png")
        for name, side in (("a", (90, 90)), ("b", (32, 32)), ("c", (99, 70)))
    ]
    (tmp_path / "d.png").write_bytes(b"")
    arguments = ["detect", *map(str, paths), "d.png", "--model", str(file), "--json", *crop]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    notes = [json.loads(line)["note"] for line in out.splitlines()]
    assert [note and note[:11] for note in notes] == ["much larger", None, "much larger", None]
    said = [line for line in err.splitlines() if line.startswith("bdd: note: ")]
    assert said == [
        "bdd: note: 2 of 3 images are unlike what this model was trained on (small, 16 to 32 px): 2 much larger. "
        "Their verdicts say little."
    ]


def test_nothing_is_said_where_all_is_usual(file, save, capsys):
    assert main(["detect", str(save(picture(32, 32), "b.png")), "--model", str(file)]) == 0
    assert "note" not in capsys.readouterr().err


def test_summary_counts_kinds():
    assert summary([], 5, KNOWN) is None
    text = summary(["larger", "detail", "larger"], 7, KNOWN)
    assert text.startswith("3 of 7 images are unlike")
    assert "2 much larger, 1 of unusual detail" in text


def test_a_folder_holds_one_model(tmp_path):
    with pytest.raises(UsageError, match="no model is shipped"):
        shipped_model(tmp_path)
    (tmp_path / "a.tflite").touch()
    assert shipped_model(tmp_path) == tmp_path / "a.tflite"
    (tmp_path / "b.tflite").touch()
    with pytest.raises(UsageError, match="more than one"):
        shipped_model(tmp_path)
