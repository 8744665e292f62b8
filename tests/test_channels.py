"""The channels against OpenCV, NumPy and scikit-image, before and after conversion."""

import warnings

import cv2
import numpy as np
import pytest
from skimage import data as photographs
from skimage.feature import local_binary_pattern

from bdd_tf import channels
from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf

#: Rounding floor of the FFT channel: this share of the spectrum's root mean square, and never under 1e-3.
FLOOR = 1e-4


def varied_images(size):
    """50 images [50, size, size, 3] uint8: photographs, noise, flat, saturated, ramps, lattices."""
    rng = np.random.default_rng(0)
    sources = [photographs.astronaut(), photographs.chelsea(), photographs.coffee(), photographs.rocket()]
    images = []
    for i in range(30):
        source = sources[i % 4]
        side = int(rng.integers(size, min(source.shape[:2])))
        y, x = (int(rng.integers(0, n - side + 1)) for n in source.shape[:2])
        images.append(
            cv2.resize(source[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        )
    images += [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(8)]
    images += [np.full((size, size, 3), value, np.uint8) for value in (0, 1, 127, 254, 255)]
    images.append(np.tile(np.linspace(0, 255, size).astype(np.uint8)[:, None, None], (1, size, 3)))
    lattice, bar = np.zeros((2, size, size, 3), np.uint8)
    lattice[::2, ::2], bar[size // 4 : size // 2] = 255, 255
    images += [lattice, bar]
    images += [np.clip(s[:size, :size].astype(int) * 3 - 200, 0, 255).astype(np.uint8) for s in sources]
    return np.stack(images)


def references(images):
    grey = np.stack([cv2.cvtColor(i, cv2.COLOR_BGR2GRAY) for i in images])
    spectrum = np.stack([np.abs(np.fft.fftshift(np.fft.fft2(g))) for g in grey])
    sobel = np.stack(
        [
            np.hypot(cv2.Sobel(g, cv2.CV_64F, 1, 0, ksize=7), cv2.Sobel(g, cv2.CV_64F, 0, 1, ksize=7))
            for g in grey
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lbp = np.stack([local_binary_pattern(g, 3, 6, "uniform") for g in grey])
    return grey, spectrum, sobel / 255, lbp


def check(found, images):
    """``found``: [N, S, S, 6], RGB, Sobel, FFT and LBP of the paper's variant."""
    grey, spectrum, sobel, lbp = references(images)
    np.testing.assert_allclose(found[..., :3], images / 255.0, atol=1e-6)
    np.testing.assert_allclose(found[..., 3], sobel, rtol=1e-4, atol=1e-6)
    energy = np.sqrt(((grey - grey.mean((1, 2), keepdims=True)) ** 2).sum((1, 2)))
    floor = np.maximum(FLOOR * energy, 1e-3)[:, None, None]
    scale = 20 / 255
    expected = scale * np.log(np.maximum(spectrum, floor))
    difference = np.abs(np.maximum(found[..., 4], scale * np.log(floor)) - expected)
    assert ((difference <= 1e-3).mean(axis=(1, 2)) >= 0.999).all()
    assert (np.rint(found[..., 5] * 255) == lbp).mean() >= 0.9999


@pytest.mark.parametrize("size", [32, 64, 224])
def test_channels_equal_opencv_numpy_and_scikit_image(size):
    images = varied_images(size)
    grey = channels.grey(tf.constant(images)).numpy()[..., 0]
    np.testing.assert_array_equal(grey, references(images)[0])
    check(channels.add_channels(tf.constant(images), channels.CHANNELS).numpy(), images)


@pytest.mark.parametrize("size", [32, 224])
def test_the_same_after_conversion_and_with_a_resized_batch(size):
    from ai_edge_litert.interpreter import Interpreter

    image = tf.keras.Input((size, size, 3), dtype=tf.uint8)
    model = tf.keras.Model(image, channels.ForensicChannels(channels.CHANNELS)(image))
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    images = varied_images(size)[::3]
    where = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(where, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(where, images)
    interpreter.invoke()
    check(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), images)


def test_tf_data_and_layers_give_what_functions_give():
    images = varied_images(32)[:6]
    direct = channels.add_channels(images, ("rgb", "fft", "lbp"), "stable").numpy()
    mapped = (
        tf.data.Dataset.from_tensor_slices(images)
        .batch(6)
        .map(lambda x: channels.add_channels(x, ("rgb", "fft", "lbp"), "stable"))
    )
    np.testing.assert_allclose(next(iter(mapped)).numpy(), direct, atol=1e-6)
    layered = [
        layer("stable")(images).numpy() for layer in (channels.FFTLogMagnitude, channels.LocalBinaryPattern)
    ]
    np.testing.assert_allclose(np.concatenate(layered, -1), direct[..., 3:], atol=1e-6)


def test_stable_variants_lie_in_the_unit_interval():
    found = channels.add_channels(varied_images(64), channels.CHANNELS, "stable").numpy()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_names_are_ordered_and_checked():
    assert channels.parse_channels("lbp, rgb,magnitude") == ("rgb", "sobel", "lbp")
    for wrong, hint in (("rgb,lpb", "lbp"), ("fft", "rgb"), ("rgb,rgb", "once")):
        with pytest.raises(UsageError, match=hint):
            channels.parse_channels(wrong)
    with pytest.raises(UsageError, match="even"):
        channels.spectrum_magnitude(tf.zeros([1, 33, 32, 1]))
