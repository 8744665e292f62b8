"""Wrong arguments of public functions are one sentence each; images of several sources mean what the docstrings say."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge import Detector, find_images, lce_delegate
from bdd_tf.edge.checks import number_within, whole_number
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::bdd_tf.edge.OutOfDistributionWarning")


@pytest.fixture(scope="module")
def detector():
    with Detector() as made:
        yield made


@pytest.mark.parametrize("wrong", [None, "2", 2.0, True, np.bool_(True), [2], 0, 65, -1])
def test_numbers_of_threads(wrong):
    for call in (lce_delegate, lambda num_threads: Detector(num_threads=num_threads)):
        with pytest.raises(UsageError, match=r"^num_threads is .*; it must be .*between 1 and 64\.$"):
            call(num_threads=wrong)


def test_numpys_numbers_are_numbers():
    assert whole_number("n", np.int64(3), 1) == 3
    assert number_within("t", np.float32(0.5), 0, 1) == 0.5
    for wrong in ("0.5", None, True, float("nan"), 2):
        with pytest.raises(UsageError, match=r"^t is "):
            number_within("t", wrong, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": 3}, "kernel set is 3 of type int; it must be one of auto"),
        ({"kernels": "sse"}, "unknown kernel set 'sse'"),
        ({"fuse": "no"}, "fuse is 'no' of type str; it must be True or False"),
        ({"fuse": None}, "fuse is None"),
    ],
)
def test_options_of_the_delegate(arguments, message):
    with pytest.raises(UsageError, match=message):
        lce_delegate(**arguments)


@pytest.mark.parametrize("model", [3, b"model.tflite", np.zeros(2)])
def test_models_are_paths(model):
    with pytest.raises(UsageError, match="must be the path"):
        Detector(model)


def test_arguments_of_a_detector(detector):
    picture = np.zeros((32, 32, 3), np.uint8)
    for arguments, message in (
        ({"channel_order": "grb"}, "unknown channel_order 'grb'"),
        ({"channel_order": "BGR"}, "possible: rgb, bgr. Did you mean 'bgr'"),
        ({"channel_order": None}, "channel_order is None"),
        ({"errors": "ignore"}, "possible: raise, return"),
    ):
        with pytest.raises(UsageError, match=message):
            detector.predict(picture, **arguments)
    for wrong in ("0.01", None, 2):
        with pytest.raises(UsageError, match="false_alarms is"):
            detector.threshold_for(wrong)
    with pytest.raises(UsageError, match="a score is nan"):
        detector.verdicts(np.array([0.2, np.nan], np.float32))


def test_open_files_are_images(detector, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected = detector.predict(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        np.testing.assert_array_equal(detector.predict(file), expected)
        assert detector.note(file) == detector.note(path)
        with pytest.warns(UserWarning, match="1 images could not be read"):
            found = detector.predict([file, io.BytesIO(content), io.BytesIO(b"x")], errors="return")
    np.testing.assert_array_equal(found, [*expected, *expected, np.nan])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    with bad.open("rb") as file, pytest.raises(ImageError, match=r"bad\.png: not an image"):
        detector.predict(file)
    with path.open() as file, pytest.raises(UsageError, match="open as text"):
        detector.predict(file)


def test_arrays_of_opencv_are_bgr(detector, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), dtype=np.uint8)
    rgb[..., 0] //= 4
    Image.fromarray(rgb[0]).save(tmp_path / "a.png")
    expected = detector.predict(rgb)
    np.testing.assert_array_equal(detector.predict(rgb[..., ::-1], channel_order="bgr"), expected)
    np.testing.assert_array_equal(
        detector.predict([tmp_path / "a.png", rgb[1][..., ::-1]], channel_order="bgr"), expected[:2]
    )
    assert (detector.predict(rgb[..., ::-1]) != expected).any()


def test_one_unreadable_image_does_not_discard_the_others(detector, tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    expected = detector.predict(rgb)
    mixed = [*rgb[:10], b"nonsense", *rgb[10:], tmp_path / "missing.png"]
    with pytest.warns(
        UserWarning, match=r"2 images could not be read: not an image.*missing\.png: no such file"
    ):
        found = detector.predict(mixed, errors="return")
    assert np.isnan(found[[10, 21]]).all()
    np.testing.assert_allclose(np.delete(found, [10, 21]), expected, atol=1e-6)
    with pytest.warns(UserWarning, match="1 images"):
        assert np.isnan(detector.predict([b""], errors="return")).all()


def test_one_folder_is_a_folder_and_not_the_letters_of_its_name(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert list(find_images(str(tmp_path))) == list(find_images(tmp_path)) == [tmp_path / "a.png"]


def test_the_runtime_says_nothing_of_its_own_but_errors_remain(capfd):
    from bdd_tf.edge.engines import _NOTES
    from bdd_tf.edge.standard_error import without_lines

    Detector().close()
    with without_lines(_NOTES):
        os.write(2, b"INFO: Created something.\nERROR: it is broken\n")
    assert capfd.readouterr().err == "ERROR: it is broken\n"


def test_an_empty_path_is_no_model():
    with pytest.raises(UsageError, match=r"the model is the empty path ''.* photos"):
        Detector("")
