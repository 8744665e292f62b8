"""Laws of bdd_tf.evaluation.perturbations."""

import inspect
import io

import numpy as np
import pytest
from PIL import Image

from bdd_tf.errors import UsageError
from bdd_tf.evaluation import perturbations
from bdd_tf.evaluation.perturbations import PERTURBATIONS

ALL = [(p, s) for p in PERTURBATIONS.values() for s in p.severities]
IDENTITY = {"resize": 1, "blur": 0, "noise": 0, "crop": 1, "darker": 1, "brighter": 1, "contrast": 1}


def picture(height=23, width=36, seed=0):
    """A smooth image with some grain, closer to a photograph than a test square is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([4 * x + 2 * y, 200 - 3 * x, 60 + 5 * y], -1)
    return np.clip(colours + random.normal(0, 8, colours.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("perturbation", "severity"), ALL, ids=[f"{p.name}-{s}" for p, s in ALL])
def test_shape_and_type_stay_the_argument_is_left_alone_and_calls_repeat(perturbation, severity):
    for shape in ((23, 36), (1, 1), (2, 7)):
        image = picture(*shape)
        before = image.copy()
        once, twice = (perturbation.apply(image, severity, 7) for _ in range(2))
        assert once.dtype == np.uint8
        assert once.shape == image.shape
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(once, twice)
    assert (perturbation.apply(picture(), severity, 7) != picture()).any()


def test_severity_0_changes_nothing():
    assert set(IDENTITY) == set(PERTURBATIONS) - {"jpeg"}
    for name, severity in IDENTITY.items():
        np.testing.assert_array_equal(PERTURBATIONS[name].apply(picture(), severity, 3), picture())


@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=lambda p: p.name)
def test_severities_rise(perturbation):
    image = picture(64, 64).astype(int)
    errors = [
        np.mean((perturbation.apply(image.astype(np.uint8), s, 1) - image) ** 2)
        for s in perturbation.severities
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_jpeg_is_pillows_round_trip():
    for quality in PERTURBATIONS["jpeg"].severities:
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(perturbations.jpeg(picture(), quality), np.asarray(Image.open(file)))


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    for sigma in (0.3, 0.5, 1, 2):
        expected = gaussian_filter(picture().astype(float), (sigma, sigma, 0), mode="nearest")
        assert np.abs(perturbations.blur(picture(), sigma) - expected).max() <= 0.5 + 1e-3


def test_noise_has_its_deviation_and_is_the_seeds():
    grey = np.full((200, 200, 3), 128, np.uint8)
    for deviation in (2, 5, 20):
        drawn = perturbations.noise(grey, deviation, 1).astype(float) - 128
        assert drawn.std() == pytest.approx(deviation, rel=0.03)
        assert abs(drawn.mean()) < 0.1 * deviation
    assert (perturbations.noise(grey, 5, 1) != perturbations.noise(grey, 5, 2)).any()
    # Independent in every value, also of a pixel.
    pairs = np.corrcoef((perturbations.noise(grey, 20, 1).reshape(-1, 3)).T)
    assert np.abs(pairs - np.eye(3)).max() < 0.03


def test_crop_is_the_enlarged_centre():
    image = picture(20, 40)
    expected = Image.fromarray(image[5:15, 10:30]).resize((40, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(perturbations.crop(image, 0.5), np.asarray(expected))


def test_resizing_removes_detail_finer_than_a_quarter():
    checks = np.repeat(255 * (np.indices((32, 32)).sum(0) % 2)[..., None], 3, -1).astype(np.uint8)
    assert perturbations.resize(checks, 0.25)[4:-4, 4:-4].std() < 3 < checks.std()
    flat = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(perturbations.resize(flat, 0.25), flat)


def test_light():
    image = np.array([[[10, 100, 200]]], np.uint8)
    assert perturbations.brightness(image, 1.5).tolist() == [[[15, 150, 255]]]
    assert perturbations.brightness(image, 0).max() == 0
    assert perturbations.contrast(np.array([[[0, 100, 200]]], np.uint8), 0.5).tolist() == [[[50, 100, 150]]]


@pytest.mark.parametrize(
    ("function", "bad"),
    [
        (perturbations.jpeg, (0, 96)),
        (perturbations.resize, (0, 1.1)),
        (perturbations.blur, (-1,)),
        (perturbations.noise, (-1,)),
        (perturbations.crop, (0, 2)),
        (perturbations.brightness, (-1,)),
        (perturbations.contrast, (-1,)),
    ],
)
def test_impossible_severities_are_refused(function, bad):
    seed = (1,) if "seed" in inspect.signature(function).parameters else ()
    for severity in (*bad, float("nan")):
        with pytest.raises(UsageError, match="must lie in"):
            function(picture(), severity, *seed)
