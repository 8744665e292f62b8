"""Pixels of generated PNG and TIFF files of every depth, order, palette and photometric interpretation."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.errors import ImageError
from tests.edge.images.writers import SHAPE, drawn, png, tiff


def grey(shares):
    return np.repeat(np.floor(shares * 255 + 0.5)[..., None], 3, -1)


def over_white(colours, alpha):
    return np.broadcast_to((colours * alpha + 1 - alpha) * 255, (*SHAPE, 3))


def check(content, expected, tolerance=0):
    found = read_image(content).astype(int)
    assert np.abs(found - np.asarray(expected)).max() <= tolerance
    return found


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_greys_of_png_and_their_transparent_value(depth):
    samples, shares = drawn(depth)
    content = png(0, depth, samples)
    found = check(content, grey(shares))
    if depth != 16:  # OpenCV cuts the lower bits off, where this rounds
        np.testing.assert_array_equal(found, cv2.imdecode(np.frombuffer(content, np.uint8), 1))
    for key in {int(samples[0, 0]), int(samples[2, 3])}:
        expected = grey(shares)
        expected[samples == key] = 255
        content = png(0, depth, samples, struct.pack(">H", key))
        check(content, expected)
        check(Image.open(io.BytesIO(content)), expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_of_png(depth):
    samples, _ = drawn(depth)
    palette = np.random.default_rng(1).integers(0, 256, (2**depth, 3))
    check(png(3, depth, samples, palette=palette), palette[samples])
    alpha = np.full(2**depth, 255)
    alpha[1::2] = 0
    expected = np.where((samples % 2 == 1)[..., None], 255, palette[samples])
    check(png(3, depth, samples, bytes(alpha.tolist()), palette), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_colours_of_png_and_their_transparency(depth):
    samples, shares = drawn(depth, 3)
    check(png(2, depth, samples), shares * 255, 1)
    expected = shares * 255
    expected[0, 0] = 255
    check(png(2, depth, samples, struct.pack(">HHH", *map(int, samples[0, 0]))), expected, 1)
    for kind, channels in ((4, 2), (6, 4)):
        samples, shares = drawn(depth, channels)
        check(png(kind, depth, samples), over_white(shares[..., :-1], shares[..., -1:]), 2)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12, 16])
def test_greys_of_tiff(depth, photometric, order):
    samples, shares = drawn(depth)
    samples, shares = samples[:, :8], shares[:, :8]
    content = tiff(samples, depth, photometric, order)
    try:
        check(content, grey(shares if photometric else 1 - shares))
    except ImageError as error:
        # Pillow does not read these: an error is right, other pixels are not.
        assert depth == 12 or (depth == 16 and photometric == 0 and order == ">")
        assert "of a kind that Pillow does not read" in str(error)  # noqa: PT017
        return
    if depth in (8, 16):
        other = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.abs(read_image(content)[..., 0].astype(int) - other).max() <= 1


@pytest.mark.parametrize("order", "<>")
def test_floats_palettes_and_colours_of_tiff(order):
    shares = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    for photometric in (0, 1):
        expected = grey(shares if photometric else 1 - shares)
        check(tiff(shares, 32, photometric, order, floats=True), expected)
    for depth in (4, 8):
        samples, palette = drawn(depth)[0][:, :8], np.random.default_rng(1).integers(0, 256, (2**depth, 3))
        check(tiff(samples, depth, 3, order, palette), palette[samples])
    for depth in (8, 16):
        samples, shares = drawn(depth, 3)
        check(tiff(samples, depth, 2, order), shares * 255, 1)
        samples, shares = drawn(depth, 4)
        check(tiff(samples, depth, 2, order, extra=2), over_white(shares[..., :3], shares[..., 3:]), 2)
        check(tiff(samples, depth, 2, order, extra=0), shares[..., :3] * 255, 1)


@pytest.mark.parametrize("make", [lambda s: png(2, 8, s), lambda s: tiff(s, 8, 2, "<")])
def test_damage_is_an_image_or_an_error_and_nothing_else(make):
    content = make(drawn(8, 3)[0])
    random = np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(content)
        for at in random.integers(0, len(content), 3):
            damaged[at] = random.integers(0, 256)
        damaged = damaged[: random.integers(1, len(damaged) + 1)]
        try:
            assert read_image(bytes(damaged)).shape[2] == 3
        except ImageError as error:
            assert str(error)  # noqa: PT017
