"""The channels against OpenCV, NumPy and scikit-image, before and after conversion."""

import doctest
import importlib
import warnings

import cv2
import numpy as np
import pytest
from skimage import data as photographs
from skimage.feature import local_binary_pattern

from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models import channel_names, forensic_channels
from bdd_tf.models.channels import dft, fft, haar, lbp, median, sobel
from bdd_tf.models.channels.grey import grey as grey_levels

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
    grey = grey_levels(tf.constant(images)).numpy()[..., 0]
    np.testing.assert_array_equal(grey, references(images)[0])
    check(
        forensic_channels.add_channels(tf.constant(images), channel_names.CHANNELS, "paper").numpy(), images
    )


@pytest.mark.parametrize("size", [32, 224])
def test_the_same_after_conversion_and_with_a_resized_batch(size):
    from ai_edge_litert.interpreter import Interpreter

    image = tf.keras.Input((size, size, 3), dtype=tf.uint8)
    model = tf.keras.Model(image, forensic_channels.ForensicChannels(channel_names.CHANNELS, "paper")(image))
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    images = varied_images(size)[::3]
    where = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(where, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(where, images)
    interpreter.invoke()
    check(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), images)


def test_tf_data_and_layers_equal_the_functions():
    images = varied_images(32)[:6]
    direct = forensic_channels.add_channels(images, ("rgb", "fft", "lbp"), "stable").numpy()
    mapped = (
        tf.data.Dataset.from_tensor_slices(images)
        .batch(6)
        .map(lambda x: forensic_channels.add_channels(x, ("rgb", "fft", "lbp"), "stable"))
    )
    np.testing.assert_allclose(next(iter(mapped)).numpy(), direct, atol=1e-6)
    layered = [layer("stable")(images).numpy() for layer in (fft.FFTLogMagnitude, lbp.LocalBinaryPattern)]
    np.testing.assert_allclose(np.concatenate(layered, -1), direct[..., 3:], atol=1e-6)


def test_stable_variants_lie_in_the_unit_interval():
    found = forensic_channels.add_channels(varied_images(64), channel_names.CHANNELS, "stable").numpy()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_names_are_ordered_and_checked():
    assert channel_names.parse_channels("lbp, rgb,magnitude") == ("rgb", "sobel", "lbp")
    for wrong, hint in (("rgb,lpb", "lbp"), ("fft", "rgb"), ("rgb,rgb", "once")):
        with pytest.raises(UsageError, match=hint):
            channel_names.parse_channels(wrong)
    with pytest.raises(UsageError, match="even"):
        dft.whole_spectrum(*dft.spectrum_quadrants(tf.zeros([1, 33, 32, 1])))


def test_grey_is_exact_for_every_pair_of_levels():
    ramp = np.arange(256, dtype=np.uint8)
    images = np.zeros((3, 256, 256, 3), np.uint8)
    for image, (a, b) in zip(images, ((0, 1), (1, 2), (2, 0)), strict=True):
        image[..., a], image[..., b] = ramp[:, None], ramp[None]
    expected = np.stack([cv2.cvtColor(i, cv2.COLOR_BGR2GRAY) for i in images])
    for dtype in (np.uint8, np.float32):
        found = grey_levels(tf.constant(images.astype(dtype))).numpy()
        np.testing.assert_array_equal(found[..., 0], expected)


@pytest.mark.parametrize("size", [32, 224])
def test_the_spectrum_keeps_its_stated_error(size):
    images = varied_images(size)
    grey, expected, _, _ = references(images)
    found = dft.whole_spectrum(*dft.spectrum_quadrants(tf.constant(grey[..., None], tf.float32))).numpy()[
        ..., 0
    ]
    centre = size // 2
    np.testing.assert_allclose(found[:, centre, centre], expected[:, centre, centre], rtol=1e-5)
    found[:, centre, centre] = expected[:, centre, centre] = 0
    energy = np.sqrt(((grey - grey.mean((1, 2), keepdims=True)) ** 2).sum((1, 2), keepdims=True))
    # The last term is what NumPy's own float64 leaves in the empty bins of a flat image.
    assert (np.abs(found - expected) <= 1e-5 * (energy + expected) + 1e-6).all()


def test_a_flat_image_has_only_a_zero_frequency():
    found = dft.whole_spectrum(*dft.spectrum_quadrants(tf.fill([1, 32, 64, 1], 200.0))).numpy()[0, ..., 0]
    assert found[16, 32] == 200 * 32 * 64
    assert np.count_nonzero(found) == 1


def test_checkerboards_and_rectangles():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((34, 60))
    for pattern in (
        *((rows // c + columns // c) % 2 * 255 for c in (1, 2, 7)),
        rng.integers(0, 256, (34, 60)),
    ):
        images = np.repeat(pattern[None, ..., None], 3, axis=-1).astype(np.uint8)
        check(forensic_channels.add_channels(images, channel_names.CHANNELS, "paper").numpy(), images)


def test_an_image_does_not_depend_on_its_batch():
    images = varied_images(32)[::6]
    together = forensic_channels.add_channels(images, channel_names.CHANNELS, "paper").numpy()
    alone = np.concatenate(
        [forensic_channels.add_channels(i[None], channel_names.CHANNELS, "paper").numpy() for i in images]
    )
    exact = [0, 1, 2, 5]
    np.testing.assert_array_equal(together[..., exact], alone[..., exact])
    check(together, images)
    check(alone, images)


def test_stable_variants_reach_towards_both_ends():
    """The point of the variant: no channel is squeezed into a corner of [0, 1]."""
    for size in (32, 224):
        found = forensic_channels.add_channels(varied_images(size), channel_names.CHANNELS, "stable").numpy()
        assert (found.min(axis=(0, 1, 2)) == 0).all()
        assert (found.max(axis=(0, 1, 2)) > 0.9).all()
    white = fft.fft_log_magnitude(tf.fill([1, 32, 32, 1], 255.0), "stable").numpy()
    assert white.max() == pytest.approx(1.0, abs=1e-6)


def test_the_strongest_edge_stays_in_the_unit_interval():
    smooth, derive = np.array([1, 6, 15, 20, 15, 6, 1]), np.array([-1, -4, -5, 0, 5, 4, 1])
    across, down = np.outer(smooth, derive), np.outer(derive, smooth)
    for weights in (across, across + down):
        patch = np.full((1, 32, 32, 1), 128.0, np.float32)
        patch[0, 13:20, 13:20, 0] = np.where(weights > 0, 255, 0)
        assert 0.9 < sobel.sobel_magnitude(tf.constant(patch), "stable").numpy().max() <= 1


@pytest.mark.parametrize("variant", channel_names.VARIANTS)
def test_layers_survive_serialisation(variant):
    images = tf.constant(varied_images(32)[::7])
    levels = grey_levels(images)
    for layer, function in (
        (fft.FFTLogMagnitude, fft.fft_log_magnitude),
        (lbp.LocalBinaryPattern, lbp.local_binary_pattern),
        (sobel.SobelMagnitude, sobel.sobel_magnitude),
        (median.MedianResidual, median.median_residual),
    ):
        again = layer.from_config(layer(variant).get_config())
        np.testing.assert_array_equal(again(images).numpy(), function(levels, variant).numpy())
        assert not again.weights
    made = forensic_channels.ForensicChannels("lbp,rgb", variant)
    again = forensic_channels.ForensicChannels.from_config(made.get_config())
    assert (again.channels, again.variant) == (("rgb", "lbp"), variant)


@pytest.mark.parametrize("names", ["rgb", "rgb,fft", "rgb,sobel,lbp", "rgb,sobel,fft,lbp"])
def test_channels_stand_in_their_order(names):
    images = varied_images(32)[:2]
    every = forensic_channels.add_channels(images, channel_names.CHANNELS, "paper").numpy()
    keep = [0, 1, 2, *(i + 2 for i, n in enumerate(channel_names.CHANNELS) if n in names.split(",")[1:])]
    found = forensic_channels.add_channels(images, channel_names.parse_channels(names), "paper").numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, every[..., keep])


@pytest.mark.parametrize("shape", [(33, 32), (32, 33), (225, 225)])
def test_odd_sizes_are_refused_by_the_fft_only(shape):
    images = tf.zeros([1, *shape, 3], tf.uint8)
    with pytest.raises(UsageError, match=rf"even.*{shape[0]} x {shape[1]}"):
        forensic_channels.add_channels(images, ("rgb", "fft"))
    assert forensic_channels.add_channels(images, ("rgb", "sobel", "lbp")).shape == (1, *shape, 5)


def test_unknown_sizes_are_refused_by_the_fft():
    with pytest.raises(UsageError, match="None x None"):
        fft.FFTLogMagnitude()(tf.keras.Input((None, None, 3), dtype=tf.uint8))


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("rgb", ("rgb",)),
        (" RGB , Lbp ", ("rgb", "lbp")),
        ("rgb,,fft,", ("rgb", "fft")),
        (["lbp", "fft", "rgb"], ("rgb", "fft", "lbp")),
        (("mag", "rgb"), ("rgb", "sobel")),
    ],
)
def test_names_have_one_canonical_form(given, parsed):
    assert channel_names.parse_channels(given) == parsed == channel_names.parse_channels(parsed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rgb,ftt", r"'ftt'.*possible: rgb, sobel, fft, lbp.*'fft'"),
        ("rgb,mag,sobel", "twice"),
        ("", "lack 'rgb'"),
        ([], "lack 'rgb'"),
        ("rgb;fft", "unknown channel 'rgb;fft'"),
    ],
)
def test_impossible_names_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        channel_names.parse_channels(given)


def test_unknown_variants_are_refused():
    levels = tf.zeros([1, 32, 32, 1])
    for function in (
        fft.fft_log_magnitude,
        lbp.local_binary_pattern,
        sobel.sobel_magnitude,
        median.median_residual,
    ):
        with pytest.raises(UsageError, match="possible: paper, stable"):
            function(levels, "stabel")
    with pytest.raises(UsageError, match="possible: paper, stable"):
        forensic_channels.ForensicChannels(variant="none")


@pytest.mark.parametrize("name", ["grey", "fft", "lbp", "sobel", "haar", "median"])
def test_the_examples_of_the_filters_hold(name):
    found = doctest.testmod(importlib.import_module(f"bdd_tf.models.channels.{name}"))
    assert (found.failed, found.attempted) == (0, 1)


@pytest.mark.parametrize("module", [channel_names, forensic_channels])
def test_the_examples_of_names_and_stack_hold(module):
    found = doctest.testmod(module)
    assert (found.failed, found.attempted) == (0, 1)


def test_haar_details_are_the_transform_of_luma_blocks():
    images = varied_images(32)
    luma = images.astype(np.float64) @ [0.299, 0.587, 0.114]
    padded = np.pad(luma, [(0, 0), (1, 2), (1, 2)], mode="reflect")
    means = (padded[:, :-1, :-1] + padded[:, 1:, :-1] + padded[:, :-1, 1:] + padded[:, 1:, 1:]) / 4
    found = haar.haar_details(tf.constant(images), "paper").numpy()
    for first, blocks, step, start in ((0, padded, 1, 1), (3, means, 2, 0)):
        a, b, c, d = (
            blocks[:, start + y : start + y + 32, start + x : start + x + 32]
            for y in (0, step)
            for x in (0, step)
        )
        for index, detail in enumerate((a - b + c - d, a + b - c - d, a - b - c + d)):
            expected = np.clip(detail / 2 / 16, -1, 1)
            np.testing.assert_allclose(found[..., first + index], expected, atol=1e-5)


def test_the_median_filter_equals_opencv():
    images = varied_images(32)
    grey = references(images)[0]
    found = median.median_filter(tf.constant(grey[..., None].astype(np.float32))).numpy()[..., 0]
    expected = [cv2.medianBlur(np.pad(g, 1, mode="reflect"), 3)[1:-1, 1:-1] for g in grey]
    np.testing.assert_array_equal(found, np.stack(expected))
    residual = median.median_residual(grey_levels(tf.constant(images)), "paper").numpy()[..., 0]
    np.testing.assert_allclose(residual, np.clip((grey - found) / 16, -1, 1), atol=1e-6)


def test_depth_counts_every_channel():
    for names in ("rgb", "rgb,haar", "rgb,fft,lbp", "rgb,sobel,fft,lbp,haar,median"):
        parsed = channel_names.parse_channels(names)
        assert forensic_channels.add_channels(varied_images(32)[:1], parsed).shape[-1] == channel_names.depth(
            parsed
        )
