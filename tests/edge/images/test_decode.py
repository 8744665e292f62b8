import io
import os
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images import decode, opening
from bdd_tf.edge.images.decode import as_array, load_image, open_image, read_image
from bdd_tf.edge.images.errors import MAX_PIXELS, ImageError
from bdd_tf.edge.images.find import find_images
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import UsageError
from tests.edge.images.scan_bomb import scan_bomb


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "A.PNG"])
def test_lossless_formats_give_the_pixels_that_were_saved(save, photo, name):
    path = save(photo, name, **({"lossless": True} if name.endswith("webp") else {}))
    for source in (path, str(path), path.read_bytes(), Image.open(path), photo):
        np.testing.assert_array_equal(read_image(source), photo)
    assert read_image(path).dtype == np.uint8


def test_open_files_are_read_from_their_beginning_and_stay_open(save, photo):
    path = save(photo, "a.png")
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "png")  # leaves it at its end
    with path.open("rb") as buffered, io.FileIO(path) as raw, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(path.read_bytes())
        for file in (buffered, raw, spooled, buffer):
            np.testing.assert_array_equal(read_image(file), photo)
            np.testing.assert_array_equal(read_image(file), photo)
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(path.read_bytes())
    with os.fdopen(reading, "rb") as pipe:
        np.testing.assert_array_equal(read_image(pipe), photo)


def test_open_files_that_are_no_images_are_one_sentence(save, photo, monkeypatch):
    path = save(photo, "a.png")
    with path.open() as text, pytest.raises(UsageError, match="open as text; open it by"):
        read_image(text)
    with pytest.raises(UsageError, match="open as text; open it by"):
        read_image(io.StringIO("a"))
    with path.open("rb") as closed:
        pass
    with pytest.raises(ImageError, match=r"the file cannot be read: .* closed file"):
        read_image(closed)
    with pytest.raises(ImageError, match=r"empty \(0 bytes\)"):
        read_image(io.BytesIO())
    monkeypatch.setattr(opening, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="more than 10 bytes, which is the limit"):
        read_image(io.BytesIO(path.read_bytes()))


def test_jpeg_equals_pillow(save, photo):
    path = save(photo, "a.jpg", quality=90)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))
    assert np.abs(read_image(path).astype(int) - photo).mean() < 5


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_the_first_of_several_frames_is_taken(save, suffix):
    first = Image.new("RGB", (4, 4), (255, 0, 0))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(
        first, f"a.{suffix}", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")], **options
    )
    np.testing.assert_array_equal(read_image(path), np.full((4, 4, 3), (255, 0, 0), np.uint8))


def test_grey_and_one_bit_images_become_equal_channels(save, photo):
    grey = Image.fromarray(photo[..., 0])
    for image, name in [
        (grey, "a.png"),
        (grey, "a.bmp"),
        (grey.convert("1"), "b.png"),
        (grey.convert("1"), "b.tif"),
    ]:
        path = save(image, name)
        expected = np.asarray(image.convert("L"))
        for channel in range(3):
            np.testing.assert_array_equal(read_image(path)[..., channel], expected)


def test_palettes_are_looked_up(save, photo):
    image = Image.fromarray(photo).quantize(16)
    for name in ("a.png", "a.gif", "a.bmp"):
        np.testing.assert_array_equal(read_image(save(image, name)), np.asarray(image.convert("RGB")))


def test_alpha_is_laid_over_white(save):
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    expected = np.array([[[200, 100, 0], [255, 255, 255], [244, 224, 204]]])
    path = save(Image.fromarray(pixels), "a.png")
    assert np.abs(read_image(path).astype(int) - expected).max() <= 1
    grey = save(Image.fromarray(pixels[..., [0, 3]].copy(), "LA"), "la.png")
    assert np.abs(read_image(grey).astype(int) - [[[200] * 3, [255] * 3, [244] * 3]]).max() <= 1


def test_a_transparent_palette_entry_and_a_transparent_colour_turn_white(save):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    for name in ("a.gif", "a.png"):
        path = save(palette, name, transparency=0)
        np.testing.assert_array_equal(read_image(path), [[[255] * 3, [40, 50, 60]]])
    path = save(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), "rgb.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(read_image(path), [[[255] * 3, [4, 5, 6]]])


def test_cmyk_and_other_colour_spaces_become_rgb(save, photo):
    cmyk = Image.fromarray(photo).convert("CMYK")
    np.testing.assert_array_equal(read_image(save(cmyk, "a.tif")), photo)
    assert np.abs(read_image(save(cmyk, "a.jpg", quality=95)).astype(int) - photo).mean() < 5
    for mode in ("YCbCr", "HSV"):
        assert np.abs(read_image(Image.fromarray(photo).convert(mode)).astype(int) - photo).mean() < 5


def test_sixteen_bit_grey_is_scaled_by_257_and_rounded(save):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(values / 257 + 0.5)
    for source in (save(values, "a.png"), save(values, "a.tif"), Image.fromarray(values)):
        np.testing.assert_array_equal(read_image(source)[..., 1], expected)
    big_endian = Image.frombytes("I;16B", (256, 256), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(big_endian)[..., 2], expected)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 65535, 32896]], np.int32), [0, 255, 128]),
        (np.array([[0, 255, 7]], np.int32), [0, 255, 7]),
        (np.array([[0, 1, 0.5]], np.float32), [0, 255, 128]),
        (np.array([[0, 255, 127.6]], np.float32), [0, 255, 128]),
    ],
)
def test_deep_greys_are_scaled_by_their_range(pixels, expected):
    np.testing.assert_array_equal(read_image(Image.fromarray(pixels))[0, :, 0], expected)


@pytest.mark.parametrize("bad", [np.nan, -1, 1e9, np.inf])
def test_greys_that_are_no_picture_are_refused(bad):
    with pytest.raises(ImageError, match="0 to 65535"):
        read_image(Image.fromarray(np.array([[0.5, bad]], np.float32)))


# What a viewer does to the stored pixels for each value of the EXIF tag.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(save, photo, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(photo, f"a.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), TURNS[orientation](photo))


def test_exif_rotation_of_jpeg_and_alpha(save, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = save(photo, "a.jpg", exif=exif), save(photo, "b.jpg")
    np.testing.assert_array_equal(read_image(turned), np.rot90(read_image(plain), -1))
    rgba = save(Image.fromarray(photo).convert("RGBA"), "c.png", exif=exif)
    np.testing.assert_array_equal(read_image(rgba), np.rot90(photo, -1))


def test_a_damaged_exif_block_does_not_hide_the_picture(save, photo):
    path = save(photo, "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    np.testing.assert_array_equal(read_image(path), photo)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_truncated_files_are_errors_with_one_sentence(save, photo, suffix):
    content = save(np.tile(photo, (4, 4, 1)), f"a.{suffix}").read_bytes()
    for part in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ImageError) as caught:
            read_image(content[: int(len(content) * part)])
        assert str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_damaged_bytes_give_an_image_or_an_image_error(save, photo, suffix):
    content = save(photo, f"a.{suffix}").read_bytes()
    random = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            damaged = bytearray(content)
            for position in random.integers(0, min(len(content), 400), 3):
                damaged[position] = random.integers(256)
            try:
                array = read_image(bytes(damaged))
            except ImageError:
                continue
            assert array.dtype == np.uint8
            assert array.shape[2] == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"hello, world", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x04\0\0\0WEBP", "WEBP"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, content, said):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ImageError, match=said) as caught:
            read_image(source)
        assert str(tmp_path) not in str(caught.value)


def test_paths_that_are_no_files_are_errors(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError):
        read_image("nul\0byte.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="regular"):
        read_image(tmp_path / "pipe.png")


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_001, 60_000])
@pytest.mark.parametrize("strictness", ["ignore", "error"])
def test_huge_images_are_refused_by_their_header(side, strictness, monkeypatch):
    monkeypatch.setattr(decode, "flattened", lambda *arguments: pytest.fail("was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter(strictness)
        with pytest.raises(ImageError, match="pixels"):
            read_image(png_header(side, side))


def test_the_limit_is_on_pixels_not_on_sides(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 12)
    assert read_image(Image.new("RGB", (4, 3))).shape == (3, 4, 3)
    with pytest.raises(ImageError, match="13x1 pixels"):
        read_image(Image.new("RGB", (13, 1)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_of_other_shapes_and_types_are_wrong_usage(array):
    for call in (read_image, ResizeRule.native(4).apply, lambda a: load_image(a, ResizeRule.native(4))):
        with pytest.raises(UsageError) as caught:
            call(array)
        assert str(array.dtype) in str(caught.value)
        assert str(list(array.shape)) in str(caught.value)


def test_other_sources_are_wrong_usage():
    with pytest.raises(UsageError, match="int"):
        read_image(5)


@pytest.mark.parametrize(
    "shape", [(23, 31), (31, 23), (40, 40), (9, 200), (8, 8), (5, 7), (1, 50), (253, 252)]
)
@pytest.mark.parametrize("rule", [ResizeRule.native(8), ResizeRule.reference(8), ResizeRule(6, 17)])
def test_resizing_is_pillows_bilinear_and_a_centre_crop(shape, rule):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    height, width = shape
    if height <= width:
        resized = (int(rule.shorter_side * width / height), rule.shorter_side)
    else:
        resized = (rule.shorter_side, int(rule.shorter_side * height / width))
    expected = np.asarray(Image.fromarray(image).resize(resized, Image.Resampling.BILINEAR))
    top, left = (int(round((side - rule.size) / 2)) for side in expected.shape[:2])  # noqa: RUF046
    expected = expected[top : top + rule.size, left : left + rule.size]
    np.testing.assert_array_equal(rule.apply(image), expected)
    np.testing.assert_array_equal(load_image(Image.fromarray(image), rule), expected)
    assert rule.apply(image).dtype == np.uint8


def test_an_image_of_the_networks_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert ResizeRule.native(8).apply(image) is image
    np.testing.assert_array_equal(load_image(Image.fromarray(image), ResizeRule.native(8)), image)


def test_only_the_crop_is_left_when_the_shorter_side_fits():
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ResizeRule(8, 9).apply(image), image[0:8, 2:10])


def test_the_references_rule_is_252_for_224():
    assert ResizeRule.reference(224) == ResizeRule(224, 252, "bilinear")


def test_thin_images_do_not_explode():
    with pytest.raises(ImageError, match="too long and thin"):
        ResizeRule.native(224).apply(np.zeros((1, 20000, 3), np.uint8))
    assert ResizeRule.native(8).apply(np.zeros((1, 20000, 3), np.uint8)).shape == (8, 8, 3)


def test_rules_survive_a_round_trip():
    rule = ResizeRule(224, 252)
    assert ResizeRule.from_dict(rule.to_dict()) == rule
    assert rule.to_dict() == {"size": 224, "shorter_side": 252, "interpolation": "bilinear"}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"size": 8},
        {"size": 8, "shorter_side": 7},
        {"size": 0, "shorter_side": 7},
        {"size": -8, "shorter_side": 8},
        {"size": True, "shorter_side": 8},
        {"size": 8.0, "shorter_side": 8},
        {"size": "8", "shorter_side": "8"},
        {"size": 8, "shorter_side": 10**9},
        {"size": 8, "shorter_side": 8, "interpolation": "cubic-ish"},
        {"size": 8, "shorter_side": 8, "interpolation": []},
        {"size": 8, "shorter_side": 8, "crop": "centre"},
    ],
)
def test_impossible_rules_are_wrong_usage(values):
    with pytest.raises(UsageError):
        ResizeRule.from_dict(values)


def test_finding_images(tmp_path):
    names = [
        "b/2.PNG",
        "b/10.jpeg",
        "a/x.webp",
        "z.jpg",
        ".hidden/y.jpg",
        ".DS_Store",
        "._z.jpg",
        "notes.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a/x.webp", "b/10.jpeg", "b/2.PNG", "z.jpg"]
    given = [tmp_path / "notes.txt", str(tmp_path / "missing.png"), tmp_path / "z.jpg"]
    assert list(find_images(given)) == [Path(path) for path in given]
    assert list(find_images([])) == []


def test_finding_images_is_lazy(tmp_path):
    (tmp_path / "a.png").touch()

    def paths():
        yield tmp_path
        raise AssertionError("asked for more than was needed")

    assert next(find_images(paths())) == tmp_path / "a.png"


def test_reading_one_jpeg_loads_few_plugins(save, photo):
    path = save(photo, "a.jpg")
    code = (
        "import sys; from bdd_tf.edge.images.decode import read_image; read_image(sys.argv[1]);"
        "assert 'PIL.EpsImagePlugin' not in sys.modules; assert 'PIL.TiffImagePlugin' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_pixels_of_a_loaded_image_do_not_depend_on_the_source(save, photo):
    path = save(photo, "a.png")
    rule = ResizeRule.reference(8)
    results = [
        load_image(source, rule) for source in (path, path.read_bytes(), photo, io.FileIO(path).readall())
    ]
    assert all((a == b).all() for a, b in pairwise(results))


def test_the_limit_holds_a_hundred_megapixels():
    assert MAX_PIXELS == 100_000_000


def test_images_read_in_strips_are_the_same(photo, save, monkeypatch):
    path = save(photo, "a.png")
    for strip in (1, 31, 40, 62, 31 * 22, 31 * 23):
        monkeypatch.setattr(decode, "_STRIP", strip)
        np.testing.assert_array_equal(read_image(path), photo)


@pytest.mark.parametrize("between", [b"", b"\xff\x01\xff\xff", b"\xff\xd0"])
def test_progressive_jpegs_of_too_many_scans_are_refused_unread(tmp_path, between):
    assert read_image(scan_bomb(40, 24, 99, between)).shape == (24, 40, 3)
    for content in (scan_bomb(40, 24, 100, between), scan_bomb(10_000, 10_000, 50_000, between)):
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        for source in (content, path):
            with pytest.raises(ImageError, match="more than 100 scans"):
                read_image(source)


def test_progressive_jpegs_may_hold_a_thumbnail_and_anything_behind_their_end(photo, save):
    path = save(photo, "a.jpg", progressive=True)
    content = path.read_bytes()
    segment = content[:2] + b"\xff\xe1\xff\xff" + (b"\xff\xda" * 200).ljust(65533, b"x") + content[2:]
    for odd in (segment, content + b"\xff\xda" * 200):
        np.testing.assert_array_equal(read_image(odd), read_image(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_transparency_in_strips_is_the_same(mode, monkeypatch):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 21, 4), np.uint8), "RGBA")
    image = image if mode == "RGBA" else image.convert("LA" if mode == "LA" else "RGB").convert(mode)
    if mode in ("P", "L", "RGB"):
        image.info["transparency"] = (1, 2, 3) if mode == "RGB" else 7
    whole = read_image(image)
    monkeypatch.setattr(decode, "_STRIP", 50)
    np.testing.assert_array_equal(read_image(image), whole)


def test_an_opened_image_is_upright_and_within_a_limit_of_ones_own(photo, save):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(photo, "a.jpg", exif=exif)
    image = open_image(path, photo.shape[0] * photo.shape[1])
    np.testing.assert_array_equal(as_array(image), read_image(path))
    assert image.size == photo.shape[:2]  # rotated by 90 degrees
    with pytest.raises(ImageError, match="31x23 pixels, more than the limit of 712"):
        open_image(path, 31 * 23 - 1)
    assert open_image(photo) is as_array(photo) is photo
