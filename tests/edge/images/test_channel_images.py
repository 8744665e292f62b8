"""The numpy pictures equal the layers that networks are trained with."""

import io

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images import channel_images
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channels import dft, lbp
from bdd_tf.models.channels.grey import grey as grey_levels


def images():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:48, 0:32]
    smooth = np.stack([x * 7, y * 5, 255 - 2 * (x + y)], -1).astype(np.uint8)
    return [
        rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        smooth,
        np.full((16, 24, 3), 255, np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        (rng.integers(0, 2, (224, 224, 1)) * np.array([255, 0, 255])).astype(np.uint8),
    ]


@pytest.fixture(params=range(5))
def image(request):
    return images()[request.param]


def layers(image):
    levels = grey_levels(tf.constant(image[None]))
    return (
        levels,
        lbp.local_binary_pattern(levels, "stable"),
        dft.whole_spectrum(*dft.spectrum_quadrants(levels)),
    )


def test_grey_and_lbp_equal_the_layers_exactly(image):
    grey, lbp, _ = layers(image)
    np.testing.assert_array_equal(channel_images.grey(image), grey[0, ..., 0])
    np.testing.assert_array_equal(
        channel_images.local_binary_pattern(channel_images.grey(image)), np.rint(3 * lbp[0, ..., 0])
    )


def test_the_spectrum_equals_the_layer_within_its_rounding(image):
    levels = channel_images.grey(image)
    expected = layers(image)[2].numpy()[0, ..., 0].astype(np.float64)
    ours = np.expm1(channel_images.fft_log_magnitude(levels) * np.log1p(255.0 * levels.size))
    # The bound that the layer's docstring states.
    rms = np.sqrt(((levels - levels.mean()) ** 2).sum())
    assert (np.abs(ours - expected) <= 1e-5 * (expected + rms) + 1e-6).all()


def test_pictures_are_png_files_of_the_images_size(image):
    made = {name: Image.open(io.BytesIO(file)) for name, file in channel_images.channel_pngs(image).items()}
    assert list(made) == ["input", "fft", "lbp"]
    np.testing.assert_array_equal(np.asarray(made["input"]), image)
    for name in ("fft", "lbp"):
        assert made[name].mode == "L"
        assert made[name].size == image.shape[1::-1]
    assert set(np.unique(np.asarray(made["lbp"]))) <= {0, 85, 170, 255}
    spectrum = np.asarray(made["fft"])
    if np.ptp(image) > 0:
        assert spectrum[image.shape[0] // 2, image.shape[1] // 2] == 255  # the mean is the largest
        assert spectrum.min() == 0
