"""A corpus of odd files: every one is scored with the pixels of a second decoder, or is an error of its own."""

import hashlib
import io
import json
import signal
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from bdd_tf.cli import main
from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.errors import ImageError
from tests.edge.images import odd_files

cv2.setLogLevel(0)
SOUND = {
    f"{group.__name__}/{name}": content
    for group in (odd_files.pngs, odd_files.tiffs, odd_files.scientific_tiffs, odd_files.saved)
    for name, content in group()
}
DAMAGED = dict(odd_files.damaged({name.partition("/")[2]: content for name, content in SOUND.items()}))


def over_white(colours, alpha):
    return colours * alpha + 1 - alpha


def by_tifffile(content):
    """RGB in [0, 1] as tifffile reads it, or None."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        try:
            values = page.asarray()
        except (ValueError, KeyError, NotImplementedError):  # a codec or depth that needs another package
            return None
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        photometric, extra = page.photometric.name, [e.name for e in page.extrasamples]
        if photometric == "PALETTE":
            return page.colormap[:, values].transpose(1, 2, 0) / 65535
        # Files of 32 bits do not record the value of white, see `grey_to_uint8`.
        white = 1.0 if values.dtype.kind in "fb" else 2.0 ** min(page.bitspersample, 16) - 1
        values = values.astype(np.float64) / white
    if photometric == "SEPARATED":
        return (1 - values[..., :3]) * (1 - values[..., 3:])
    if photometric == "YCBCR":
        return None
    if photometric == "MINISWHITE":
        values = 1 - values
    count = 3 if photometric == "RGB" else 1
    colours = values[..., :count] if values.ndim == 3 else values[..., None]
    if "UNASSALPHA" in extra:
        colours = over_white(colours, values[..., count : count + 1])
    return np.broadcast_to(colours, (*values.shape[:2], 3))


def by_opencv(content):
    """RGB in [0, 1] as OpenCV reads it, or None."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        return None
    values = values.astype(np.float64) / (65535 if values.dtype == np.uint16 else 255)
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, -1)
    colours = values[..., 2::-1]
    return over_white(colours, values[..., 3:]) if values.shape[2] == 4 else colours


def second(name, content):
    """RGB in [0, 1] as a decoder without Pillow's code reads it; None if there is none."""
    if not name.endswith(".tif"):
        return by_opencv(content)
    found = by_tifffile(content)
    # OpenCV premultiplies the alpha of TIFF files.
    return by_opencv(content) if found is None and not name.startswith(("saved/RGBA", "saved/LA")) else found


def test_the_corpus_is_large():
    files = [*SOUND.values(), *DAMAGED.values()]
    assert len({hashlib.sha256(content).digest() for content in files}) >= 700
    assert {name.rpartition(".")[2] for name in SOUND} == set(
        "png tif jpg bmp gif webp avif mpo apng".split()
    )


def test_pixels_equal_those_of_a_second_decoder():
    compared, wrong = Counter(), {}
    for name, content in SOUND.items():
        form = name.rpartition(".")[2]
        try:
            found = read_image(content).astype(float)
        except ImageError as error:
            # An error is right for what Pillow does not read; other pixels are not.
            assert form == "tif", (name, error)  # noqa: PT017
            assert "of a kind that Pillow does not read" in str(error), name  # noqa: PT017
            continue
        expected = second(name, content)
        if expected is None:
            continue
        compared[form] += 1
        assert expected.shape == found.shape, name
        # Two: 16-bit colours are cut to 8 bits before they are laid over white.
        difference = np.abs(255 * expected - found).max()
        if difference > (2 if "16" in name or form == "jpg" else 1) + 1e-6:
            wrong[name] = difference
    assert wrong == {}
    assert compared.total() > 350, compared
    assert compared["png"] == 104
    assert compared["tif"] > 200


def test_pixels_do_not_depend_on_the_compression():
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16"):
        names = [name for name in SOUND if name.startswith(f"saved/{mode}-") and name.endswith(".tif")]
        lossless = [name for name in names if "jpeg" not in name and "several" not in name]
        assert len(lossless) >= 4
        first = read_image(SOUND[lossless[0]])
        for name in lossless[1:]:
            difference = np.abs(read_image(SOUND[name]).astype(int) - first).max()
            assert difference <= (mode == "YCbCr"), name  # libtiff and Pillow round its colours differently


def test_greys_of_gif_and_avif(tmp_path):
    expected = read_image(SOUND["saved/RGB.bmp"]).astype(float)
    for mode in ("L", "RGB"):
        content = SOUND[f"saved/{mode}.gif"]
        (tmp_path / "a.gif").write_bytes(content)
        video = cv2.VideoCapture(str(tmp_path / "a.gif"))  # FFmpeg: imdecode has no GIF
        read, frame = video.read()
        video.release()
        assert read
        np.testing.assert_array_equal(read_image(content), frame[..., ::-1])
    assert np.abs(read_image(SOUND["saved/RGB.avif"]) - expected).mean() < 5


def test_negative_greys_of_eight_bits_are_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, np.array([[-1, 5]], np.int8), photometric="minisblack")
    with pytest.raises(ImageError, match="negative greys"):
        read_image(file.getvalue())


def test_every_file_is_scored_or_an_error_of_its_own(tmp_path, capfd):
    def hangs(*arguments):
        raise TimeoutError("bdd detect hangs")

    files = {name.replace("/", "-"): content for name, content in {**SOUND, **DAMAGED}.items()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(120)
    try:
        code = main(["detect", str(tmp_path), "--model", "cifake", "--json"])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    out, err = capfd.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert sorted(Path(record["path"]).name for record in records) == sorted(files)
    assert "Traceback" not in err
    assert "left out" not in err
    errors = {Path(r["path"]).name: r["error"] for r in records if r["fake_probability"] is None}
    for record in records:
        assert (record["fake_probability"] is None) == (record["error"] is not None)
    assert all(error and "\n" not in error and len(error) < 200 for error in errors.values())
    assert f"{len(errors)} unreadable" in err
    # Damage is seen in most truncated files; a pixel that changed is no error.
    assert sum("damage" in name for name in errors) > len(DAMAGED) / 4
