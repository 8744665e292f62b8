import subprocess
import sys

import pytest
from PIL import Image


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


FOREIGN = "('tensorflow', 'keras', 'tf_keras', 'larq', 'larq_compute_engine', 'tqdm', 'matplotlib', 'flatbuffers', 'cv2')"


@pytest.mark.parametrize(
    "statement",
    [
        "import bdd_tf.edge",
        "from bdd_tf.edge import *",
        "import bdd_tf.edge.detector, bdd_tf.edge.detect.score, bdd_tf.edge.engines, bdd_tf.edge.tflite.file",
        "import bdd_tf.edge.video.watch, bdd_tf.edge.detect.videos, bdd_tf.edge.images.faces, bdd_tf.edge.detect.contact_sheet",
        "import bdd_tf.edge.explain.explanation, bdd_tf.edge.detect.explanations, bdd_tf.edge.explain.heat_map",
        "import bdd_tf.edge.tflite.cut",
    ],
)
def test_importing_the_edge_loads_no_tensorflow_and_leaves_the_environment(statement):
    result = run(
        "import os, sys; before = dict(os.environ)\n"
        f"{statement}\n"
        "assert dict(os.environ) == before, 'environment'\n"
        f"loaded = [name for name in {FOREIGN} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    assert result.returncode == 0, result.stderr


def test_the_package_alone_loads_next_to_nothing():
    result = run(
        "import sys, bdd_tf.edge; assert 'numpy' not in sys.modules; assert 'PIL' not in sys.modules"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", ["float_file", "binary_file"])
def test_detecting_loads_no_tensorflow(kind, request):
    float_file = request.getfixturevalue(kind)
    result = run(
        "import os, sys, numpy; before = dict(os.environ)\n"
        "from bdd_tf.edge import Detector\n"
        f"print(Detector({str(float_file)!r}).predict(numpy.zeros((9, 9, 3), 'uint8')))\n"
        "assert dict(os.environ) == before, 'environment'\n"
        f"loaded = [name for name in {FOREIGN} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("check", ["--check", "--no-check"])
def test_detecting_a_file_imports_only_what_it_needs(tmp_path, check):
    """The rest would take longer to import than an image takes to score."""
    Image.effect_noise((200, 150), 80).convert("RGB").save(tmp_path / "a.jpg")
    unused = (
        *("http", "ssl", "socket", "tarfile", "zipfile", "tempfile", "shutil", "bz2", "lzma"),
        *("hashlib", "html", "unicodedata", "mmap", "numpy.ma"),
        *("PIL.PngImagePlugin", "PIL.GifImagePlugin"),
        *("bdd_tf.edge.detect.videos", "bdd_tf.edge.video.video_file", "bdd_tf.edge.opencv"),
        *("bdd_tf.edge.detect.explanations", "bdd_tf.edge.explain.explanation", "bdd_tf.edge.report.writer"),
    )
    result = run(
        "import sys, numpy, PIL.Image; before = set(sys.modules)  # some versions of NumPy import some of these\n"
        "from bdd_tf.cli import main\n"
        f"code = main(['detect', {check!r}, {str(tmp_path / 'a.jpg')!r}])\n"
        f"loaded = [name for name in {unused} if name in sys.modules and name not in before]\n"
        "assert not loaded, loaded\n"
        "sys.exit(code)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(("REAL", "FAKE"))


def test_every_promised_name_exists():
    import bdd_tf.edge

    for name in bdd_tf.edge.__all__:
        assert getattr(bdd_tf.edge, name) is not None
        assert name in dir(bdd_tf.edge)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = bdd_tf.edge.nothing_of_the_kind
