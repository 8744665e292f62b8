import json
import warnings

import numpy as np
import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.datasets.training_ranges import trained_on_crops
from bdd_tf.edge import Detector, OutOfDistributionWarning
from bdd_tf.edge.images import out_of_distribution
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, measure, ranges, summary
from bdd_tf.edge.images.views import ViewRule, native_views
from tests.edge.small_models import TRAINED_ON, with_metadata

KNOWN = TrainingStatistics.from_metadata({"trained_on": TRAINED_ON})


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
    found = KNOWN.check(width, height)
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
def test_contrast_and_detail_outside_the_training_range_are_named(seen, kind):
    found = KNOWN.check(32, 32, seen)
    assert (found and found.kind) == kind


def test_ranges_leave_one_image_in_a_thousand_outside():
    images = np.stack([picture(8, 8, seed) for seed in range(4000)])
    found = ranges(images)
    for name, values in zip(("contrast", "detail"), measure(images), strict=True):
        low, high = found[name]
        assert (values < low).sum() == (values > high).sum() == 2


def test_metadata_come_back_as_they_were():
    assert TrainingStatistics.from_metadata(json.loads(json.dumps({"trained_on": KNOWN.to_dict()}))) == KNOWN
    assert TrainingStatistics.from_metadata({}) is None
    assert KNOWN.describe() == "small, 16 to 32 px"


def test_the_detector_warns_with_the_same_words_each_time_and_tells_which_image_it_was(file):
    large, usual = picture(100, 80), picture(32, 32)
    with Detector(file) as detector:
        texts = []
        for images in ([usual, large], large):
            with pytest.warns(OutOfDistributionWarning, match=r"small, 16 to 32 px") as caught:
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
            warnings.simplefilter("ignore", OutOfDistributionWarning)
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
        "bdd: note: 2 of 3 images are out of distribution for this model (trained on small, 16 to 32 px): 2 much larger. "
        "Their verdicts are unreliable."
    ]


def test_nothing_is_said_where_all_is_usual(file, save, capsys):
    assert main(["detect", str(save(picture(32, 32), "b.png")), "--model", str(file)]) == 0
    assert "note" not in capsys.readouterr().err


def test_summary_counts_kinds():
    assert summary([], 5, KNOWN) is None
    text = summary(["larger", "detail", "larger"], 7, KNOWN)
    assert text.startswith("3 of 7 images are out of distribution")
    assert "2 much larger, 1 of unusual detail" in text


def photograph(seed):
    """Smooth shapes of random contrast, with noise: like a photograph's, its crops differ much from each other."""
    rng = np.random.default_rng(seed)
    grid = rng.normal(128, rng.uniform(20, 60), (6, 8)).clip(0, 255).astype(np.uint8)
    smooth = Image.fromarray(grid).resize((160, 120), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth)[..., None] + rng.normal(0, rng.uniform(2, 8), (120, 160, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def test_crops_are_judged_by_themselves_and_few_of_the_same_kind_are_flagged():
    rule = ViewRule(32)
    crops = np.stack([native_views(photograph(seed), rule).images[seed % 3] for seed in range(200)])
    known = trained_on_crops("photos", 5000, crops)
    assert (known.images, known.sides, known.describe()) == (5000, (32, 32), "photos, 32 px")
    assert TrainingStatistics.from_metadata({"trained_on": known.to_dict()}) is not None
    held_out = [native_views(photograph(seed), rule).images for seed in range(1000, 1100)]
    assert sum(known.check_crops(views) is not None for views in held_out) <= 0.02 * 100
    # Whatever the file's size, and whatever a minority of crops looks like.
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    assert known.check_crops(np.concatenate([held_out[0][:8], noise])) is None
    found = known.check_crops(noise)
    assert found.kind in ("contrast", "detail")
    assert "training range" in found.note


def test_ranges_do_not_depend_on_the_parts_that_they_are_measured_in(monkeypatch):
    images = np.stack([picture(16, 16, seed) for seed in range(25)])
    whole = ranges(images)
    monkeypatch.setattr(out_of_distribution, "_PART", 7)
    assert ranges(images) == whole


@pytest.mark.parametrize("count", [1, 2, 3, 12, 13])
def test_the_median_over_crops_is_numpys(count):
    rows = np.random.default_rng(count).normal(size=(2, count))
    np.testing.assert_array_equal(out_of_distribution._medians(rows), np.median(rows, axis=1))
