import math

import numpy as np
import pytest

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import (
    OVERLAP,
    TILES_LIMIT,
    Cropper,
    Views,
    tile_boxes,
    usual_tiles,
    worst_quarter,
)
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.view_scores import score_views
from bdd_tf.errors import UsageError
from tests.edge.video.video_files import Brightness

SIZES = [
    (32, 32),
    (33, 32),
    (31, 200),
    (500, 301),
    (640, 480),
    (4000, 3000),
    (1, 1),
    (7, 5),
    (12000, 9000),
    (1, 3000),
]


def side_needed(width, height, side):
    step = max(1, math.floor(side * (1 - OVERLAP)))
    return math.prod(1 + math.ceil((length - side) / step) for length in (width, height))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("most", [1, 10, 64, TILES_LIMIT])
def test_tiles_are_squares_inside_as_small_as_their_number_allows(width, height, size, most):
    boxes = tile_boxes(width, height, size, most)
    side = boxes[0].width
    assert 1 <= len(boxes) <= most
    assert len(set(boxes)) == len(boxes)
    assert all(box.width == box.height == side for box in boxes)
    assert all(0 <= b.left <= width - side and 0 <= b.top <= height - side for b in boxes)
    short = min(width, height)
    assert min(size, short) <= side <= short
    if side > min(size, short):
        assert side_needed(width, height, side - 1) > most


@pytest.mark.parametrize(("width", "height"), [s for s in SIZES if max(s) < 5000 and max(s) / min(s) < 40])
def test_tiles_cover_the_image_and_overlap(width, height):
    boxes = tile_boxes(width, height, 32, 64)
    covered = np.zeros((height, width), bool)
    for box in boxes:
        covered[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert covered.all()
    for axis in (0, 1):
        starts = np.unique([box[axis] for box in boxes])
        assert (np.diff(starts) <= math.ceil(boxes[0].width * (1 - OVERLAP))).all()


def test_tiles_at_the_networks_resolution_are_the_images_own_pixels(images):
    image = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    views = Cropper(ResizeRule.reference(32), "tiles")(image)
    assert len(views.images) == len(views.boxes) > 4
    for tile, box in zip(views.images, views.boxes, strict=True):
        np.testing.assert_array_equal(tile, image[box.top : box.top + 32, box.left : box.left + 32])


def test_small_networks_get_more_tiles_for_the_same_work():
    assert [usual_tiles(size) for size in (8, 32, 64, 112, 224, 448)] == [1024, 1024, 784, 256, 64, 64]


def test_the_worst_tile_is_found_and_decides_with_its_quarter():
    image = np.zeros((400, 600, 3), np.uint8)
    image[250:310, 420:480] = 255
    detector = Brightness(20)
    cropper = Cropper(detector.resize, "tiles")
    (score,) = score_views(detector, [cropper(image)], cropper)
    assert score.box_probability > 0.4
    assert score.box.left < 480
    assert score.box.left + score.box.width > 420
    assert score.box.top < 310
    assert score.box.top + score.box.height > 250
    assert score.views == len(tile_boxes(600, 400, 20, usual_tiles(20)))
    plain = Cropper(detector.resize)
    assert score.probability > score_views(detector, [plain(image)], plain)[0].probability


def test_the_worst_quarter_is_a_mean_of_the_highest():
    scores = np.random.default_rng(0).random(40).astype(np.float32)
    assert worst_quarter(scores, 0.5) == pytest.approx(np.sort(scores)[-10:].mean(), abs=1e-6)
    assert worst_quarter(scores[:1], 0.9) == pytest.approx(scores[0], abs=1e-6)
    assert worst_quarter(scores[:3], 0.9) == pytest.approx(scores[:3].max(), abs=1e-6)
    # One odd tile among 64 does not make a fake, whatever the threshold; sixteen do.
    for middle in (0.1, 0.5, 0.99):
        for fakes, expected in ((1, False), (16, True)):
            tiles = np.where(np.arange(64) < fakes, 1.0, 0.0)
            assert (worst_quarter(tiles, middle) >= middle) == expected


@pytest.mark.parametrize("rule", [ResizeRule.native(16), ResizeRule.reference(16)])
def test_without_a_crop_and_in_the_centre_the_files_own_rule_holds(rule):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    unasked, centre = Cropper(rule)(image), Cropper(rule, "center")(image)
    np.testing.assert_array_equal(unasked.images, rule.apply(image)[None])
    np.testing.assert_array_equal(centre.images, unasked.images)
    assert unasked.boxes == ()
    (box,) = centre.boxes
    assert box.width == box.height == pytest.approx(60 * rule.size / rule.shorter_side, abs=1)
    assert abs(box.left + box.width / 2 - 45) <= 60 / rule.shorter_side
    assert abs(box.top + box.height / 2 - 30) <= 60 / rule.shorter_side


def test_several_images_at_once_score_as_they_do_alone():
    detector = Brightness(8)
    random = np.random.default_rng(1)
    for how in (None, "center", "tiles"):
        cropper = Cropper(detector.resize, how)
        sizes = [(8, 8), (20, 31), (9, 100), (64, 64), (8, 9)]
        several = [cropper(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
        together = score_views(detector, several, cropper)
        assert together == [score_views(detector, [views], cropper)[0] for views in several]
    assert score_views(detector, [], cropper) == []


def test_wrong_crops_are_wrong_usage():
    with pytest.raises(UsageError, match="possible: center, tiles, faces"):
        Cropper(ResizeRule.native(8), "centre")
    for most in (0, -1, TILES_LIMIT + 1):
        with pytest.raises(UsageError, match="--max-tiles"):
            Cropper(ResizeRule.native(8), "tiles", most)


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.mark.parametrize("times", [1, 4])
def test_a_face_is_found_with_a_margin_also_in_a_large_image(astronaut, times):
    image = astronaut.repeat(times, 0).repeat(times, 1)
    views = Cropper(ResizeRule.native(32), "faces")(image)
    box = Box(*(value / times for value in views.boxes[0]))
    # Eyes, mouth and chin of the portrait, in its pixels.
    for x, y in ((205, 110), (245, 110), (226, 140), (226, 165)):
        assert box.left < x < box.left + box.width
        assert box.top < y < box.top + box.height
    assert 100 < box.width < 260
    assert views.images.shape == (len(views.boxes), 32, 32, 3)


def test_the_most_fake_of_several_faces_decides(astronaut):
    dark = astronaut // 2
    image = np.concatenate([dark, astronaut, dark], axis=1)
    detector = Brightness(16)
    cropper = Cropper(detector.resize, "faces")
    views = cropper(image)
    (score,) = score_views(detector, [views], cropper)
    assert len(views.boxes) >= 3
    assert 512 <= score.box.left < 1024
    assert score.probability == score.box_probability == max(detector.predict_batch(views.images))


def test_boxes_of_faces_at_the_edge_stay_inside(astronaut):
    image = np.ascontiguousarray(astronaut[60:260, 150:300])
    for box in Cropper(ResizeRule.native(16), "faces")(image).boxes:
        assert box.width == box.height
        assert 0 <= box.left <= 150 - box.width
        assert 0 <= box.top <= 200 - box.height


@pytest.mark.parametrize("shape", [(200, 300), (1, 1), (5, 4000), (20, 20)])
def test_no_face_is_an_error(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match="no face was found"):
        Cropper(ResizeRule.native(16), "faces")(image)


def test_views_without_boxes_are_one_image():
    score = Cropper(ResizeRule.native(8)).combine(np.float32([0.25]), Views(np.zeros((1, 8, 8, 3), np.uint8)))
    assert (score.probability, score.box, score.views) == (0.25, None, 1)
