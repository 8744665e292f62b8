"""Images of any size and format through the C interface: the pixels, boxes and verdicts of Python."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import Cropper
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.rules import rule_entries
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.labels import verdict as verdict_of
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
from tests.edge.runtime import image_api, small_detectors
from tests.edge.runtime.image_api import Model, Refused

SIDE = 16
KINDS = {
    "featureless": image_api.FEATURELESS,
    "smaller": image_api.SMALLER,
    "larger": image_api.LARGER,
    "contrast": image_api.CONTRAST,
    "detail": image_api.DETAIL,
    "padded": image_api.PADDED,
    None: image_api.USUAL,
}
TRAINED = {"dataset": "x", "images": 9, "sides": [20, 90], "contrast": [9.5, 70.0], "detail": [1.0, 40.25]}
VIEWS = ViewRule(SIDE, 5, (1.0, 1.5, 2.0))
RULES = {
    "native": ResizeRule.native(SIDE),
    "reference": ResizeRule(SIDE, SIDE * 9 // 8),
    "long": ResizeRule(SIDE, 61),
    "views": VIEWS,
    "all": ViewRule(SIDE, 64, (1.0, 0.875)),
}
SIZES = [
    (16, 16),
    (1, 1),
    (3, 40),
    (40, 3),
    (15, 17),
    (16, 200),
    (97, 64),
    (64, 97),
    (333, 250),
    (31, 700),
    (17, 16),
]


@pytest.fixture(scope="module")
def network():
    return small_detectors.build("rgb")


def file_of(network, rule, **entries):
    metadata = {
        "labels": ["REAL", "FAKE"],
        "threshold": 0.5,
        "trained_on": TRAINED,
        **rule_entries(rule),
        **entries,
    }
    metadata = {key: value for key, value in metadata.items() if value is not ...}
    return embed_metadata(network, METADATA_NAME, json.dumps(metadata).encode())


def textured(height, width, seed=0):
    rng = np.random.default_rng([height, width, seed])
    wave = 128 + 60 * np.sin(np.arange(width) / 9) * np.cos(np.arange(height) / 7)[:, None]
    return (wave[..., None] + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def opened(network, tmp_path):
    made = []

    def open_both(rule, batch=1, **entries):
        content = file_of(network, rule, **entries)
        path = tmp_path / f"{len(made)}.tflite"
        path.write_bytes(content)
        made.extend([Model(content, batch=batch), Detector(path, engine="native")])
        return made[-2:]

    yield open_both
    for model in made:
        model.close()


@pytest.mark.parametrize("name", RULES)
def test_every_size_gives_the_pixels_boxes_and_verdict_of_python(opened, name):
    model, detector = opened(RULES[name])
    cropper = Cropper(detector.rule, "center")
    for height, width in SIZES:
        for image in (textured(height, width), np.full((height, width, 3), 200, np.uint8)):
            views = cropper(image)
            found = model.score(image)
            boxes, scores, pixels = model.crops(found.crops)
            np.testing.assert_array_equal(pixels, views.images, err_msg=f"{height}x{width}")
            assert tuple(boxes) == views.boxes
            np.testing.assert_array_equal(scores, detector.predict_batch(views.images))
            expected = Cropper(detector.rule).combine(np.float32(scores), Cropper(detector.rule)(image))
            assert found.probability == pytest.approx(expected.probability, abs=1e-12)
            assert found.highest == int(np.argmax(scores))
            assert found.threshold == 0.5
            assert found.fake == (verdict_of(found.probability, 0.5) == "FAKE")
            deviation = cropper.check(views, (width, height), detector.trained_on)
            assert found.deviation == KINDS[deviation and deviation.kind]


@pytest.mark.parametrize("batch", [2, 5, 7])
def test_the_batch_does_not_change_a_score(opened, batch):
    one, _ = opened(VIEWS)
    several, _ = opened(VIEWS, batch=batch)
    for size in SIZES:
        image = textured(*size)
        a, b = one.score(image), several.score(image)
        assert (a.crops, a.highest, a.fake) == (b.crops, b.highest, b.fake)
        assert a.probability == pytest.approx(b.probability, abs=1e-7)


def test_resizing_is_pillows_at_odd_factors(opened):
    rng = np.random.default_rng(4)
    for side in (SIDE, 23, 57):
        model, _ = opened(ResizeRule(SIDE, side))
        # Tall images, whose height Pillow reduces first, are among them.
        for height, width in (*rng.integers(1, 260, (60, 2)), (300, 20), (999, 400)):
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            expected = ResizeRule(SIDE, side).apply(image)
            model.score(image)
            np.testing.assert_array_equal(
                model.crops(1)[2][0], expected, err_msg=f"{height}x{width} to {side}"
            )


def test_interleaved_formats_and_gaps_between_rows(opened):
    model, _ = opened(ResizeRule.native(SIDE))
    image = textured(SIDE, SIDE)
    alpha = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 1), np.uint8)
    alpha[0], alpha[1] = 0, 255
    transparent = np.concatenate([image, alpha], axis=2)
    over_white = Image.alpha_composite(Image.new("RGBA", (SIDE, SIDE), "white"), Image.fromarray(transparent))
    swapped = np.ascontiguousarray(image[..., ::-1])
    wide = np.zeros((SIDE, SIDE + 9, 3), np.uint8)
    wide[:, :SIDE] = image
    grey = np.ascontiguousarray(image[..., 1])
    for pixels, form, expected in (
        (image, image_api.RGB, image),
        (wide[:, :SIDE], image_api.RGB, image),
        (swapped, image_api.BGR, image),
        (transparent, image_api.RGBA, np.asarray(over_white)[..., :3]),
        (
            np.ascontiguousarray(transparent[..., [2, 1, 0, 3]]),
            image_api.BGRA,
            np.asarray(over_white)[..., :3],
        ),
        (grey, image_api.GREY, np.repeat(grey[..., None], 3, axis=2)),
    ):
        model.score(pixels, form)
        np.testing.assert_array_equal(model.crops(1)[2][0], expected, err_msg=str(form))


def test_alpha_is_composited_like_pillow_for_every_value(opened):
    model, _ = opened(ResizeRule.native(SIDE))
    values, alphas = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    pixels = np.stack([values, values, values, alphas], axis=2)
    expected = np.asarray(
        Image.alpha_composite(Image.new("RGBA", (256, 256), "white"), Image.fromarray(pixels))
    )
    for top in range(0, 256, SIDE):
        for left in range(0, 256, SIDE):
            part = np.s_[top : top + SIDE, left : left + SIDE]
            model.score(pixels[part], image_api.RGBA)
            np.testing.assert_array_equal(model.crops(1)[2][0], expected[part][..., :3])


def yuv_of(height, width):
    rng = np.random.default_rng(height * width)
    half = (height + 1) // 2, (width + 1) // 2
    return [rng.integers(0, 256, shape, np.uint8) for shape in ((height, width), half, half)]


def rgb_of(y, u, v):
    """The exact conversion of JFIF in floating point, before rounding."""
    height, width = y.shape
    wide_u, wide_v = (
        np.repeat(np.repeat(p, 2, 0), 2, 1)[:height, :width].astype(float) - 128 for p in (u, v)
    )
    planes = (y + 1.402 * wide_v, y - 0.344136 * wide_u - 0.714136 * wide_v, y + 1.772 * wide_u)
    return np.clip(np.stack(planes, axis=2), 0, 255)


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 19), (21, 17)])
def test_camera_formats_agree_with_each_other_and_with_jfif(opened, size):
    model, _ = opened(ViewRule(SIDE, 1))
    height, width = size
    y, u, v = yuv_of(height, width)
    half = u.shape[1]
    nv12, nv21 = (np.stack(pair, axis=2).reshape(-1, 2 * half) for pair in ((u, v), (v, u)))
    spread = np.zeros((u.shape[0], 2 * half), np.uint8), np.zeros((u.shape[0], 2 * half), np.uint8)
    spread[0][:, ::2], spread[1][:, ::2] = u, v
    results = []
    for form, planes, step in (
        (image_api.NV12, (y, nv12), 0),
        (image_api.NV21, (y, nv21), 0),
        (image_api.YUV420, (y, u, v), 0),
        (image_api.YUV420, (y, *spread), 2),
    ):
        model.score_planes(form, width, height, planes, (), step)
        boxes, _, pixels = model.crops(1)
        results.append(pixels[0])
    box = boxes[0]
    expected = rgb_of(y, u, v)[box.top : box.top + SIDE, box.left : box.left + SIDE]
    for pixels in results:
        np.testing.assert_array_equal(pixels, results[0])
    # Half a level of rounding, and what 16 bits of the factors leave.
    assert np.abs(results[0] - expected).max() <= 0.51


@pytest.mark.filterwarnings("ignore::bdd_tf.edge.images.out_of_distribution.OutOfDistributionWarning")
def test_memory_reserved_once_serves_smaller_images(opened):
    model, detector = opened(ResizeRule.native(SIDE))
    model.reserve(400, 300)
    for size in SIZES[:6]:
        image = textured(*size)
        assert model.score(image).probability == pytest.approx(float(detector.predict(image)[0]), abs=1e-7)
    with pytest.raises(Refused, match="1 to 65535"):
        model.reserve(70_000, 3)


def test_impossible_images_are_refused_with_a_sentence(opened):
    model, _ = opened(VIEWS)
    image = textured(20, 20)
    for arguments, reason in (
        ((99, 20, 20, [image], [60]), "format"),
        ((-1, 20, 20, [image], [60]), "format"),
        ((image_api.RGB, 0, 20, [image], [60]), "1 to 65535"),
        ((image_api.RGB, 20, -5, [image], [60]), "1 to 65535"),
        ((image_api.RGB, 65_536, 1, [image], [0]), "1 to 65535"),
        ((image_api.RGB, 20_000, 20_000, [image], [0]), "100 million"),
        ((image_api.RGB, 20, 20, [None], [60]), "plane"),
        ((image_api.RGB, 20, 20, [image], [59]), "stride"),
        ((image_api.NV12, 20, 20, [image, None], [0, 0]), "plane"),
        ((image_api.NV12, 19, 20, [image, image], [0, 19]), "stride"),
        ((image_api.YUV420, 20, 20, [image, image, image], [0, 0, 0], 3), "chroma_step"),
    ):
        with pytest.raises(Refused, match=reason):
            model.score_planes(*arguments)
    assert model.score(image).crops == 4


def test_a_thin_image_is_refused_where_resizing_would_be_huge(opened):
    model, detector = opened(ResizeRule(SIDE, 9000))
    with pytest.raises(Refused, match="too long and thin"):
        model.score(textured(2, 60))
    assert detector.resize.shorter_side == 9000


DAMAGED = {
    "no JSON": None,
    "format 3": {"format": 3},
    "format true": {"format": True},
    "no rule": {"resize": ...},
    "no size": {"resize": {"shorter_side": SIDE}},
    "another filter": {"resize": {"size": SIDE, "shorter_side": SIDE, "interpolation": "cubic"}},
    "a fraction": {"resize": {"size": 16.5, "shorter_side": 17}},
    "shorter than size": {"resize": {"size": SIDE, "shorter_side": SIDE - 1}},
    "huge": {"resize": {"size": SIDE, "shorter_side": 10**12}},
    "of another size than the network": {"resize": {"size": 8, "shorter_side": 8}},
    "views in format 1": {"resize": ..., "views": VIEWS.to_dict()},
    "both": {"format": 2, "views": VIEWS.to_dict()},
    "no count": {"format": 2, "resize": ..., "views": {"size": SIDE, "count": 0, "scale": [1.0]}},
    "no scale": {"format": 2, "resize": ..., "views": {"size": SIDE, "count": 2, "scale": []}},
    "long scale": {"format": 2, "resize": ..., "views": {"size": SIDE, "count": 2, "scale": [1.0] * 65}},
    "scale 0": {"format": 2, "resize": ..., "views": {"size": SIDE, "count": 2, "scale": [0.0]}},
    "infinite scale": {"format": 2, "resize": ..., "views": {"size": SIDE, "count": 2, "scale": [1e400]}},
    "labels": {"labels": ["FAKE", "REAL"]},
    "three labels": {"labels": ["REAL", "FAKE", "x"]},
    "threshold": {"threshold": 1.5},
    "no threshold": {"threshold": ...},
    "ranges": {"trained_on": {**TRAINED, "sides": [9, 2]}},
    "one number": {"trained_on": {**TRAINED, "detail": [2]}},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_metadata_are_refused_when_an_image_is_scored(network, name):
    if DAMAGED[name] is None:
        content = embed_metadata(network, METADATA_NAME, b'{"format": 1,')
    else:
        content = file_of(network, ResizeRule.native(SIDE), **DAMAGED[name])
    model = Model(content)
    for _ in range(2):
        with pytest.raises(Refused, match=r"metadata|rule") as refused:
            model.score(textured(20, 20))
        assert refused.value.args[0] == 3
    model.close()


def test_numbers_of_json_are_read_as_python_reads_them(opened):
    values = [0.1, 1e-7, 0.30000000000000004, 0.8430375831222129, 1e0, 5e-324, 123456789e-9, 0.0, 1 / 3]
    for value in values:
        model, _ = opened(VIEWS, threshold=value)
        assert math.isclose(model.score(textured(20, 20)).threshold, value, rel_tol=3e-16)


def test_an_image_before_the_first_one_has_no_crops(opened):
    model, _ = opened(VIEWS)
    assert model.library.bdd_crop(model.model, 0, None, None) == 1
    assert model.library.bdd_crop_pixels(model.model, 0) is None
    assert model.library.bdd_crop(None, 0, None, None) == 1
    assert model.library.bdd_score_image(None, None, None, None, 0) == 1
    assert model.library.bdd_reserve(None, 1, 1, None, 0) == 1


def test_long_arrays_in_metadata_are_read_in_one_pass(network):
    content = file_of(network, ResizeRule.native(SIDE), labels=["REAL", "FAKE", *[0] * 300_000])
    model = Model(content)
    with pytest.raises(Refused, match="labels are not REAL and FAKE"):
        model.score(textured(20, 20))
    model.close()
