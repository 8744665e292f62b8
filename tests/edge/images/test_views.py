"""Native crops: positions follow the written rule to the pixel, and scores combine as the rule says."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images.views import (
    ViewRule,
    measure,
    measure_grid,
    native_views,
    preference,
    reflected,
    starts,
)
from bdd_tf.errors import UsageError

VECTORS = json.loads((Path(__file__).parent / "view_vectors.json").read_text())


def made(width, height, seed):
    """The image of a test vector: a linear congruential generator over smooth waves, integers only."""
    image = np.empty((height, width, 3), np.uint8)
    state = seed
    for y in range(height):
        for x in range(width):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            noise = (state >> 16) & 63
            for c in range(3):
                wave = (x * (3 + c) + y * (5 - c) + (x * y >> 5)) & 255
                image[y, x, c] = min(
                    255, (wave if wave < 128 else 255 - wave) + (noise if (x >> 6) & 1 else noise >> 4)
                )
    return image


@pytest.mark.parametrize(
    "vector", VECTORS["vectors"], ids=lambda v: f"{v['width']}x{v['height']}-{v['size']}"
)
def test_boxes_equal_the_vectors_that_other_languages_check(vector):
    image = made(vector["width"], vector["height"], vector["seed"])
    assert int(image.astype(np.int64).sum()) == vector["sum"]
    rule = ViewRule(vector["size"], vector["count"])
    for given in (image, Image.fromarray(image)):
        views = native_views(given, rule)
        assert [list(box) for box in views.boxes] == vector["boxes"]
        assert views.padded == vector["padded"]


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("shape", [(128, 128), (129, 200), (300, 1000), (700, 640)])
def test_a_crop_is_a_part_of_the_image_untouched(shape, size):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    views = native_views(image, ViewRule(size, 20))
    assert len(views.boxes) == len(set(views.boxes)) == len(views.images) <= 20
    for box, crop in zip(views.boxes, views.images, strict=True):
        assert 0 <= box.left <= shape[1] - size
        assert 0 <= box.top <= shape[0] - size
        np.testing.assert_array_equal(crop, image[box.top : box.top + size, box.left : box.left + size])


@pytest.mark.parametrize("length", [*range(64, 400), 1000, 6000])
def test_candidates_reach_both_ends_and_leave_no_gap_in_small_images(length):
    found = starts(length, 64)
    assert found == sorted(set(found))
    assert len(found) <= 8
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, length - 64)
    if length <= 8 * 32:
        assert all(b - a <= 64 for a, b in itertools.pairwise(found))


def test_flat_and_saturated_places_are_skipped():
    image = np.full((256, 512, 3), 200, np.uint8)
    image[:, 256:] = np.random.default_rng(0).integers(20, 230, (256, 256, 3), dtype=np.uint8)
    views = native_views(image, ViewRule(64, 64))
    assert all(box.left + 64 > 256 for box in views.boxes)
    assert not views.featureless
    white = (
        np.where(np.random.default_rng(0).random((256, 512, 1)) < 0.3, 255, 100).astype(np.uint8).repeat(3, 2)
    )
    assert native_views(white, ViewRule(64)).featureless


def test_an_image_without_features_is_scored_at_its_centre():
    views = native_views(np.full((200, 200, 3), 255, np.uint8), ViewRule(64))
    assert views.featureless
    middle = starts(200, 64)[2]  # of six
    assert [tuple(box) for box in views.boxes] == [(middle, middle, 64, 64)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (60, 64), (64, 63), (17, 300)])
def test_small_images_are_padded_by_reflection(shape):
    image = np.random.default_rng(2).integers(20, 230, (*shape, 3), dtype=np.uint8)
    views = native_views(image, ViewRule(64))
    assert views.padded
    expected = np.pad(
        image,
        [*(((64 - n) // 2, 64 - n - (64 - n) // 2) if n < 64 else (0, 0) for n in shape), (0, 0)],
        mode="reflect",
    )
    for box, crop in zip(views.boxes, views.images, strict=True):
        left = box.left if shape[1] >= 64 else 0
        top = box.top if shape[0] >= 64 else 0
        np.testing.assert_array_equal(crop, expected[top : top + 64, left : left + 64])
        assert box.left + box.width <= shape[1]
        assert box.top + box.height <= shape[0]


@pytest.mark.parametrize("length", range(1, 12))
def test_reflection_equals_numpys(length):
    size = 30
    front = (size - length) // 2
    values = np.arange(length)
    np.testing.assert_array_equal(
        values[reflected(length, size)], np.pad(values, (front, size - length - front), mode="reflect")
    )


def test_preference_names_each_candidate_once():
    for across, down in [(1, 1), (1, 5), (2, 2), (8, 8), (3, 7)]:
        energies = np.random.default_rng(across).integers(0, 9, across * down).tolist()
        order = preference(energies, across, down)
        assert sorted(order) == list(range(across * down))
        assert order[0] == (down - 1) // 2 * across + (across - 1) // 2


def test_energy_counts_every_neighbour_once():
    crop = np.zeros((4, 4, 3), np.uint8)
    crop[1, 1] = 100  # inside: four neighbours
    assert measure(crop) == (400, 15)


@pytest.mark.parametrize(
    ("shape", "size"), [((40, 100), 16), ((300, 451), 96), ((512, 700), 512), ((16, 16), 16)]
)
def test_crops_measured_together_equal_crops_measured_alone(shape, size):
    rng = np.random.default_rng(sum(shape))
    pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
    pixels[: shape[0] // 2] //= 40  # dark
    pixels[:, : shape[1] // 3] = 255
    lefts, tops = (starts(side, size) for side in (shape[1], shape[0]))
    expected = [measure(pixels[y : y + size, x : x + size]) for y in tops for x in lefts]
    assert measure_grid(pixels, lefts, tops, size) == expected


def test_scores_combine_as_the_mean_logit():
    rule = ViewRule(64, 8, (1.0, 0.9))
    assert rule.combine([0.3]) == pytest.approx(0.3)
    assert rule.combine([0.2, 0.8]) == pytest.approx(0.5)
    mean = (
        0.9 * (math.log(0.9 / 0.1) + 2 * math.log(0.6 / 0.4)) / 3
    )  # the last factor serves all larger numbers
    assert rule.combine([0.9, 0.6, 0.6]) == pytest.approx(1 / (1 + math.exp(-mean)))
    for scores in ([0.0], [1.0], [0.0, 1.0], np.zeros(64, np.float32)):
        assert 0 <= rule.combine(scores) <= 1
    assert rule.combine([0.0, 1.0]) == pytest.approx(0.5)


def test_a_rule_survives_json():
    rule = ViewRule(96, 16, (1.0, 0.8, 0.75))
    assert ViewRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    "values",
    [
        None, [], {}, {"size": 64}, {"size": 64, "count": 8, "scale": [1.0], "more": 1},
        {"size": 8, "count": 8, "scale": [1.0]}, {"size": 1 << 40, "count": 8, "scale": [1.0]},
        {"size": True, "count": 8, "scale": [1.0]}, {"size": 64.0, "count": 8, "scale": [1.0]},
        {"size": 64, "count": 0, "scale": [1.0]}, {"size": 64, "count": 65, "scale": [1.0]},
        {"size": 64, "count": 8, "scale": []}, {"size": 64, "count": 8, "scale": [0]},
        {"size": 64, "count": 8, "scale": [math.inf]}, {"size": 64, "count": 8, "scale": ["1"]},
        {"size": 64, "count": 8, "scale": 1.0}, {"size": 64, "count": 8, "scale": [1.0] * 65},
    ],
)  # fmt: skip
def test_impossible_rules_are_refused(values):
    with pytest.raises(UsageError, match="views"):
        ViewRule.from_dict(values)
