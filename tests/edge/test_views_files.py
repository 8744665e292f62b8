"""Files with native views: one rule for Python, the command line, tiles, faces and explanations; hostile values."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from bdd_tf.cli import main
from bdd_tf.edge import Detector
from bdd_tf.edge.explain.places import unpadded
from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.rules import rule_entries, rule_of
from bdd_tf.edge.images.views import ViewRule, grid, native_tiles, native_views
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
from bdd_tf.errors import BddError
from tests.edge.small_models import CROP, metadata, with_views

RULE = ViewRule(CROP, 5, (1.0, 1.5, 2.0))


def textured(height, width, seed=0):
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    wave = 128 + 60 * np.sin(np.arange(width) / 9) * np.cos(np.arange(height) / 7)[:, None]
    return (wave[..., None] + noise).clip(5, 250).astype(np.uint8)


@pytest.fixture
def detector(views_file):
    with Detector(views_file) as opened:
        yield opened


def test_the_score_of_an_image_is_that_of_its_crops_combined(detector, views_model, save):
    assert detector.views == detector.rule == RULE
    assert detector.resize == ResizeRule.native(CROP)
    several = [textured(50, 70), textured(16, 16, 1), textured(7, 90, 2), textured(200, 31, 3)]
    cut = [native_views(image, RULE) for image in several]
    expected = [RULE.combine(detector.predict_batch(views.images)) for views in cut]
    files = [save(image, f"{i}.png") for i, image in enumerate(several)]
    for given in (several, files, [Image.fromarray(image) for image in several]):
        np.testing.assert_array_equal(detector.predict(given), np.float32(expected))
    np.testing.assert_array_equal(detector.predict(several[0]), np.float32(expected[:1]))
    # Against Keras, by hand.
    crops = views_model.keras_scores(cut[0].images).astype(np.float64)
    logit = 2.0 * np.mean(np.log(crops / (1 - crops)))
    assert len(crops) == 5
    assert detector.predict(several[0])[0] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_a_single_image_of_a_crops_size_scores_as_itself(detector):
    image = textured(CROP, CROP)
    np.testing.assert_allclose(detector.predict(image), detector.predict_batch(image[None]), atol=1e-6)


def test_only_the_crops_of_a_large_photograph_become_arrays(detector):
    photo = Image.fromarray(textured(1500, 2000))
    detector.predict(photo)
    tracemalloc.start()
    detector.predict(photo)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # the photograph has 9 MB


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (textured(40, 40), None),
        (textured(10, 40), "smaller than the network's crops of 16x16 px"),
        (np.full((40, 40, 3), 90, np.uint8), "no texture"),
        (np.full((4, 40, 3), 255, np.uint8), "no texture"),
    ],
)
def test_padding_and_missing_texture_are_noted(detector, views_file, image, found, save, capsys):
    note = detector.note(image)
    assert note is found is None or found in note
    assert main(["detect", str(save(image, "x.png")), "--model", str(views_file), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["note"] == note
    views = native_views(image, RULE)
    assert record["views"] == {
        "crops": len(views.images),
        "padded": min(image.shape[:2]) < CROP,
        "featureless": found == "no texture",
    }
    assert "box" not in record


@pytest.mark.parametrize("how", [None, "center", "tiles"])
def test_every_way_to_crop_reports_native_pixels(detector, how):
    image = textured(61, 90)
    cropper = detector.cropper(how, 12)
    for given in (image, Image.fromarray(image)):
        views = cropper(given)
        assert 1 <= len(views.images) <= (12 if how == "tiles" else 5)
        for box, crop in zip(views.boxes, views.images, strict=True):
            np.testing.assert_array_equal(crop, image[box.top : box.top + CROP, box.left : box.left + CROP])
    scores = detector.predict_batch(views.images)
    score = cropper.combine(scores, views)
    assert score.probability == RULE.combine(scores)
    assert score.view == int(np.argmax(scores))
    assert score.box == (None if how is None else views.boxes[score.view])


def test_faces_are_scored_by_the_rule_and_the_highest_counts(monkeypatch):
    image = textured(100, 160)
    places = [Box(80, 20, 60, 60), Box(10, 70, 12, 12)]
    cropper = Cropper(RULE)
    cropper.how, cropper._faces = "faces", lambda pixels: places
    views = cropper(Image.fromarray(image))
    assert views.parts == (5, 1)
    assert views.padded
    assert views.boxes[-1] == places[1]
    assert all(80 <= b.left <= 140 - CROP and 20 <= b.top <= 80 - CROP for b in views.boxes[:-1])
    box = views.boxes[2]
    np.testing.assert_array_equal(
        views.images[2], image[box.top : box.top + CROP, box.left : box.left + CROP]
    )
    scores = np.float32([0.1, 0.2, 0.9, 0.1, 0.3, 0.6])
    score = cropper.combine(scores, views)
    assert score.probability == max(RULE.combine(scores[:5]), RULE.combine(scores[5:]))
    assert (score.box, score.view) == (box, 2)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 400), (100, 64), (4000, 3000), (16, 100_000)])
@pytest.mark.parametrize("most", [1, 3, 64, 1024])
def test_tiles_cover_the_image_unless_there_are_too_many(width, height, most):
    lefts, tops = grid(width, height, 16, most)
    assert 1 <= len(lefts) * len(tops) <= most
    for starts, length in ((lefts, width), (tops, height)):
        assert starts == sorted(set(starts))
        assert 0 <= starts[0] <= starts[-1] <= length - 16
        if len(starts) > 1:
            assert (starts[0], starts[-1]) == (0, length - 16)
    if -(-width // 12) * -(-height // 12) <= most:
        assert all(b - a <= 16 for line in (lefts, tops) for a, b in itertools.pairwise(line))


def test_tiles_without_texture_are_left_out_and_one_stands_in_if_there_is_nothing_else():
    image = np.full((64, 64, 3), 255, np.uint8)
    assert (len(native_tiles(image, RULE, 64).images), native_tiles(image, RULE, 64).featureless) == (1, True)
    image[:20, :20] = textured(20, 20)
    found = native_tiles(image, RULE, 64)
    assert {(b.left, b.top) for b in found.boxes} == {(0, 0)}


def test_an_explanation_outlines_native_pixels_and_lists_the_views(views_file, save, tmp_path, capsys):
    path = save(textured(60, 80), "x.png")
    out = tmp_path / "maps"
    options = ["--model", str(views_file), "--json", "--explain", str(out)]
    assert main(["detect", str(path), *options]) == 0
    found = json.loads(capsys.readouterr().out)["explanation"]
    views = native_views(textured(60, 80), RULE)
    assert [view["box"] for view in found["views"]] == [list(box) for box in views.boxes]
    highest = max(found["views"], key=lambda view: view["fake_probability"])["box"]
    left, top, width, height = found["box"]
    assert highest[0] <= left < left + width <= highest[0] + CROP
    assert highest[1] <= top < top + height <= highest[1] + CROP
    assert Image.open(out / "x.png.explain.png").size[0] > 600


@pytest.mark.parametrize(
    ("box", "part", "expected"),
    [
        (Box(3, 4, 6, 6), Box(100, 50, 16, 16), Box(103, 54, 6, 6)),
        (Box(3, 4, 6, 6), Box(0, 0, 10, 16), Box(0, 4, 6, 6)),  # 3 px of reflection at the left
        (Box(0, 4, 6, 6), Box(0, 0, 10, 16), Box(0, 4, 3, 6)),
        (Box(14, 0, 2, 2), Box(0, 0, 10, 16), Box(9, 0, 1, 2)),  # inside the reflection
    ],
)
def test_boxes_of_padded_crops_lie_in_the_image(box, part, expected):
    assert unpadded(box, part, 16) == expected


def test_a_rule_survives_its_metadata_and_resizing_files_stay_format_1():
    for rule in (RULE, ResizeRule.reference(8)):
        assert rule_of(json.loads(json.dumps(rule_entries(rule)))) == rule
    assert rule_entries(ResizeRule.native(8))["format"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 1}, "format 1"),
        ({"format": 3}, "reads 1 and 2; upgrade"),
        ({"format": True}, "format True"),
        ({"format": 2.0}, "format 2.0"),
        ({"views": None}, "None is not a mapping"),
        ({"views": [16, 5, [1.0]]}, "not a mapping"),
        ({"views": {"size": 16, "count": 5}}, "not a mapping with the keys"),
        ({"views": {"size": 16, "count": 5, "scale": [1], "more": 1}}, "not a mapping with the keys"),
        ({"views": {"size": 8, "count": 5, "scale": [1]}}, "size is 8"),
        ({"views": {"size": 32, "count": 5, "scale": [1]}}, r"\[1, 32, 32, 3\]"),
        ({"views": {"size": 16.0, "count": 5, "scale": [1]}}, "size is 16.0"),
        ({"views": {"size": 16, "count": 10**9, "scale": [1]}}, "count is 1000000000"),
        ({"views": {"size": 16, "count": True, "scale": [1]}}, "count is True"),
        ({"views": {"size": 16, "count": 5, "scale": []}}, "scale"),
        ({"views": {"size": 16, "count": 5, "scale": [0]}}, "scale"),
        ({"views": {"size": 16, "count": 5, "scale": [float("nan")]}}, "scale"),
        ({"views": {"size": 16, "count": 5, "scale": [10**400]}}, "scale"),
        ({"views": {"size": 16, "count": 5, "scale": [1] * 65}}, "scale"),
        ({"views": {"size": 16, "count": 5, "scale": "1"}}, "scale"),
    ],
)
def test_hostile_views_are_refused_in_one_sentence(tmp_path, views_model, changes, said):
    path = tmp_path / "model.tflite"
    path.write_bytes(with_views(views_model.content, RULE, **changes))
    with pytest.raises(BddError, match=said) as caught:
        Detector(path)
    assert len(str(caught.value)) < 500


def test_a_file_with_both_rules_is_damaged(tmp_path, views_model):
    path = tmp_path / "model.tflite"
    values = {**metadata(), **rule_entries(RULE)}
    path.write_bytes(embed_metadata(views_model.content, METADATA_NAME, json.dumps(values).encode()))
    with pytest.raises(BddError, match="key resize as well"):
        Detector(path)


def test_info_shows_the_rule(views_file, capsys):
    assert main(["info", str(views_file)]) == 0
    assert "up to 5 native crops of 16x16 px" in capsys.readouterr().out
