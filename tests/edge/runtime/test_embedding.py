"""The programs of docs/embedding.md, compiled against an installation and run; and what the C interface refuses."""

import ctypes
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.runtime.install import install, interface_version
from bdd_tf.edge.shipped_model import shipped_model
from bdd_tf.errors import UsageError
from tests.edge.runtime import small_detectors

PAGE = Path(__file__).parents[3] / "docs" / "embedding.md"


def program_of(language):
    """The program of the page in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def needs(*tools):
    return [
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed") for tool in tools
    ]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installation that was moved after it was made."""
    folder = tmp_path_factory.mktemp("installed")
    made = install(folder / "first")
    assert all(path.is_file() for path in made)
    (folder / "first").rename(folder / "second")
    return folder / "second"


@pytest.fixture(scope="module")
def program(prefix, tmp_path_factory):
    if shutil.which("cc") is None or shutil.which("pkg-config") is None:
        pytest.skip("no C compiler, or no pkg-config")
    folder = tmp_path_factory.mktemp("c")
    (folder / "score.c").write_text(program_of("c"))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "bdd"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(
        ["cc", *strict, folder / "score.c", *flags, f"-Wl,-rpath,{prefix / 'lib'}", "-o", folder / "score"],
        check=True,
    )
    return folder / "score"


def ppm(path, pixels):
    height, width, _ = pixels.shape
    path.write_bytes(f"P6 {width} {height} 255\n".encode() + pixels.tobytes())
    return path


@pytest.mark.filterwarnings("ignore::bdd_tf.edge.images.out_of_distribution.OutOfDistributionWarning")
@pytest.mark.parametrize("model", ["cifake", "photos"])
@pytest.mark.parametrize("size", [(32, 32), (300, 210)])
def test_the_documented_program_gives_the_detectors_score(program, tmp_path, model, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    path = shipped_model(model)
    done = subprocess.run(
        [program, path, ppm(tmp_path / "a.ppm", pixels)], capture_output=True, text=True, check=True
    )
    verdict, *crops = done.stdout.splitlines()
    with Detector(path) as detector:
        expected = detector.predict([pixels])
        assert verdict.split()[0] == detector.verdicts(expected)[0]
        assert float(verdict.split()[1]) == pytest.approx(expected[0], abs=1e-6)
        assert len(crops) == len(detector.cropper()(pixels).images)


def test_its_errors_are_sentences(program, tmp_path):
    (tmp_path / "text.tflite").write_text("not a model")
    for words, expected in (
        ((tmp_path / "text.tflite", "x"), "not a .tflite file"),
        ((tmp_path / "gone", "x"), "cannot be read"),
        ((shipped_model("cifake"), tmp_path / "text.tflite"), "no PPM image"),
        ((), "MODEL.tflite IMAGE.ppm"),
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert expected in done.stderr


def grey_score():
    """What the programs in C++ and Rust print for the bundled photo model: a grey image has no texture."""
    with Detector(shipped_model("photos")) as detector, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = float(detector.predict(np.full((300, 400, 3), 128, np.uint8))[0])
        return detector.verdicts([score])[0], pytest.approx(score, abs=1e-6), 1


def check_grey(done):
    verdict, score, crops = done.stdout.split()
    assert (verdict, float(score), int(crops)) == grey_score()


@pytest.mark.parametrize("version", ["0.2", "0.3", "", "0.4", "1.0"])
@pytest.mark.parametrize("tool", [pytest.param("cmake", marks=needs("cmake", "c++"))])
def test_a_cmake_project_finds_the_package(prefix, tmp_path, tool, version):
    (tmp_path / "main.cc").write_text(program_of("cpp"))
    (tmp_path / "CMakeLists.txt").write_text(program_of("cmake").replace("bdd 0.3", f"bdd {version}"))
    flags = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
    configured = subprocess.run(
        [tool, "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_FLAGS={flags}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if version in ("0.4", "1.0"):
        assert "version: 0.3.0" in configured.stderr  # found, and not what was asked for
        return
    assert configured.returncode == 0, configured.stderr
    subprocess.run([tool, "--build", "build"], cwd=tmp_path, capture_output=True, check=True)
    run = [tmp_path / "build" / "example"]
    check_grey(subprocess.run([*run, shipped_model("photos")], capture_output=True, text=True, check=True))
    failed = subprocess.run([*run, tmp_path / "main.cc"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stderr.strip()) == (1, "not a .tflite file")


@pytest.mark.parametrize("tool", [pytest.param("rustc", marks=needs("rustc"))])
def test_the_program_in_rust_gives_the_detectors_score(prefix, tmp_path, tool):
    (tmp_path / "score.rs").write_text(program_of("rust"))
    subprocess.run(
        [tool, "-O", "-D", "warnings", "score.rs", "-L", prefix / "lib",
         "-C", f"link-arg=-Wl,-rpath,{prefix / 'lib'}"],
        cwd=tmp_path,
        check=True,
    )  # fmt: skip
    run = [tmp_path / "score"]
    check_grey(subprocess.run([*run, shipped_model("photos")], capture_output=True, text=True, check=True))
    failed = subprocess.run([*run, tmp_path / "score.rs"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "not a .tflite file" in failed.stderr


def test_a_prefix_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        install(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_version_is_that_of_the_library():
    library = ctypes.CDLL(str(library_path()))
    library.bdd_version.restype = ctypes.c_char_p
    assert library.bdd_version().decode() == interface_version()


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
