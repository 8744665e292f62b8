"""The C program of docs/embedding.md, compiled as C99 and run; and what the C interface refuses."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.runtime.build import SOURCES
from bdd_tf.edge.shipped_model import shipped_model
from tests.edge.runtime import small_detectors

PAGE = Path(__file__).parents[3] / "docs" / "embedding.md"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "score.c").write_text(re.search(r"```c\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    library = library_path()
    subprocess.run(
        [compiler, *strict, folder / "score.c", f"-I{SOURCES / 'include'}", library, f"-Wl,-rpath,{library.parent}",
         "-o", folder / "score"],
        check=True,
    )  # fmt: skip
    return folder / "score"


def ppm(path, pixels):
    height, width, _ = pixels.shape
    path.write_bytes(f"P6 {width} {height} 255\n".encode() + pixels.tobytes())
    return path


def test_the_documented_program_gives_the_detectors_score(program, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    model = shipped_model("cifake")
    done = subprocess.run(
        [program, model, ppm(tmp_path / "a.ppm", pixels)], capture_output=True, text=True, check=True
    )
    with Detector(model) as detector:
        assert float(done.stdout) == pytest.approx(detector.predict([pixels])[0], abs=1e-6)


def test_its_errors_are_sentences(program, tmp_path):
    (tmp_path / "text.tflite").write_text("not a model")
    for model, expected in (
        (tmp_path / "text.tflite", "not a .tflite file"),
        (tmp_path / "gone", "cannot be read"),
    ):
        done = subprocess.run([program, model, "x"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert expected in done.stderr


def opened(library, content, size=None):
    """Status and message of opening a file in memory."""
    model, why = ctypes.c_void_p(), ctypes.create_string_buffer(256)
    status = library.bdd_open_memory(
        content, ctypes.c_size_t(len(content) if size is None else size), None, ctypes.byref(model), why, 256
    )
    if model:
        library.bdd_close(model)
    return status, why.value.decode()


def test_every_truncated_file_is_refused():
    library = ctypes.CDLL(str(library_path()))
    content = small_detectors.build("haar")
    assert opened(library, content) == (0, "")
    for size in range(0, len(content), 97):
        status, why = opened(library, content[:size])
        # Only metadata lie at the end: without them a network may be whole.
        assert (status, bool(why)) in ((3, True), (0, False)), (size, status, why)
        assert status == 3 or size > len(content) // 2


def test_null_pointers_and_options_out_of_range_are_refused():
    library = ctypes.CDLL(str(library_path()))
    why = ctypes.create_string_buffer(256)
    assert library.bdd_open_memory(None, 0, None, None, why, 256) == 1
    assert b"must not be NULL" in why.value
    assert library.bdd_score(None, None, None, None, 0) == 1
    assert library.bdd_set_batch(None, 1, why, 256) == 1
    assert library.bdd_input_size(None, None, None, None) == 1
    library.bdd_close(None)
    library.bdd_version.restype = ctypes.c_char_p
    assert library.bdd_version() == b"0.2.0"
