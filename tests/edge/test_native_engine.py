"""The engine `native` gives the runtime's scores, and refuses what it cannot run by name."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.native_engine import _Options, load_library
from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.shipped_model import shipped_models
from bdd_tf.edge.tflite.cut import channel_stack_of, extract, logit_of
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.errors import BddError
from tests.edge.runtime import float_cases, small_detectors
from tests.edge.runtime.tflite_builder import Builder


@pytest.fixture(scope="module", params=[*shipped_models(), *small_detectors.CASES])
def content(request):
    path = shipped_models().get(request.param)
    return path.read_bytes() if path else small_detectors.build(request.param)


def images(engine_input, count):
    return np.random.default_rng(count).integers(0, 256, (count, *engine_input), np.uint8)


def test_scores_are_those_of_litert_for_any_batch_and_number_of_threads(content):
    model = parse_tflite(content)
    side = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape[1]
    for threads in (1, 2):
        native, expected = (create_engine(model, name, threads) for name in ("native", "litert"))
        for count in (1, 3, 2):
            x = images((side, side, 3), count)
            np.testing.assert_allclose(native.run(x), expected.run(x), atol=1e-6)


def test_a_batch_that_threads_share_has_the_scores_of_single_images(content):
    """To the bit, also after the batch has grown, shrunk, and had fewer images than there are threads."""
    model = parse_tflite(content)
    side = model.inputs[0].shape[1]
    x = images((side, side, 3), 9)
    single = create_engine(model, "native")
    expected = np.concatenate([single.run(image[None]) for image in x])
    assert len(np.unique(expected)) > 1
    for threads in (2, 3, 5):
        engine = create_engine(model, "native", threads)
        for count in (2, 9, 4, 1, 7, 3, 9):
            np.testing.assert_array_equal(engine.run(x[:count]), expected[:count])


def test_the_name_of_the_kernels_is_needed_only_while_a_model_is_opened():
    """Parts of a batch are made later, with the same kernels."""
    content, library = small_detectors.build("rgb"), load_library(library_path())
    name, model = ctypes.create_string_buffer(b"scalar"), ctypes.c_void_p()
    options = _Options(2, 1, ctypes.cast(name, ctypes.c_char_p))
    assert library.bdd_open_memory(content, len(content), options, model, None, 0) == 0
    name.value = b"gone"
    message = ctypes.create_string_buffer(200)
    assert library.bdd_set_batch(model, 3, message, 200) == 0, message.value
    library.bdd_close(model)


def test_a_model_with_several_numbers_per_image_runs_on_several_threads():
    b = Builder()
    b.inputs = [b.tensor((1, 2, 2, 3), "uint8")]
    floats = b.builtin("CAST", b.inputs, b.tensor((1, 2, 2, 3)))
    b.outputs = [b.builtin("MEAN", [floats, b.constant(np.array([1, 2], np.int32))], b.tensor((1, 3)))]
    model = parse_tflite(b.build())
    x = images((2, 2, 3), 4)
    for threads in (1, 2):
        found = create_engine(model, "native", threads).run(x)
        np.testing.assert_allclose(found.reshape(4, 3), x.mean((1, 2)), rtol=1e-6)


def test_parts_of_a_file_run(content):
    """From the image to the logit; and where there are channels, to them and on from them (explanations)."""
    model = parse_tflite(content)
    graph = model.subgraphs[0]
    entry, logit = graph.inputs[0], logit_of(model)
    parts = [(entry, logit)]
    found = [stack for count in range(2, 5) if (stack := channel_stack_of(model, count)) is not None]
    for stack, _ in found:
        parts += [(entry, stack), (stack, logit)]
    rng = np.random.default_rng(0)
    for start, stop in parts:
        part = extract(model, start, stop)
        shape = part.inputs[0].shape
        x = rng.integers(0, 256, shape, np.uint8) if start == entry else rng.random(shape, np.float32)
        scores, expected = (create_engine(part, name).run(x) for name in ("native", "litert"))
        np.testing.assert_allclose(scores, expected, atol=2e-6 * np.abs(expected).max())


def test_a_fixed_batch_of_one_is_run_image_by_image():
    content = float_cases.model("RESHAPE", (1, 3, 4), [float_cases.ints(1, 12)], (1, 12))
    summed = create_engine(parse_tflite(content), "native")
    x = float_cases.values(3, 3, 4)
    np.testing.assert_array_equal(summed.run(x).reshape(x.shape), x)
    np.testing.assert_array_equal(summed.run(x[:1]).reshape(3, 4), x[0])


def test_maps_that_are_needed_later_keep_their_memory():
    """A map that several operators read, at different distances, is not overwritten in between."""
    b = Builder()
    b.inputs = [b.tensor(float_cases.MAP)]
    maps = [b.builtin("NEG", b.inputs, b.tensor(float_cases.MAP))]
    for reach in (1, 1, 2, 1, 4, 3, 6, 1, 8):
        pair = [maps[-1], maps[max(len(maps) - reach, 0)]]
        maps.append(b.builtin("ADD", pair, b.tensor(float_cases.MAP)))
    b.outputs = [b.builtin("SUB", [maps[-1], maps[0]], b.tensor(float_cases.MAP))]
    model = parse_tflite(b.build())
    for x in (float_cases.values(*float_cases.MAP), float_cases.values(*float_cases.MAP, seed=2)):
        found, expected = (create_engine(model, name).run(x) for name in ("native", "litert"))
        np.testing.assert_array_equal(found, expected)


def test_a_detector_gives_the_same_verdicts(tmp_path):
    rng = np.random.default_rng(3)
    photos = [rng.integers(0, 256, (200, 300, 3), np.uint8) // 4 * 3 for _ in range(3)]
    with Detector(engine="native") as native, Detector() as expected:
        np.testing.assert_allclose(native.predict(photos), expected.predict(photos), atol=1e-6)


def test_an_operator_that_is_missing_is_named():
    content = float_cases.model("SIN", (1, 4))
    with pytest.raises(BddError, match=r"operator 0 \(SIN, code 66\) is not supported"):
        create_engine(parse_tflite(content), "native")


def test_wrong_images_are_refused():
    engine = create_engine(parse_tflite(small_detectors.build("rgb")), "native")
    for wrong in (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32)):
        with pytest.raises(BddError, match=r"needs uint8 \(16, 16, 3\)"):
            engine.run(wrong)


def test_a_forked_child_goes_on_with_new_threads():
    engine = create_engine(parse_tflite(small_detectors.build("haar")), "native", 2)
    x = images((16, 16, 3), 2)
    expected = engine.run(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(engine.run(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_it_needs_neither_litert_nor_tensorflow(tmp_path):
    """In a process that cannot import them."""
    code = (
        "import sys\n"
        "for name in ('ai_edge_litert', 'tflite_runtime', 'tensorflow'): sys.modules[name] = None\n"
        "import numpy as np; from bdd_tf.edge import Detector\n"
        "print(Detector(engine='native').predict([np.full((100, 100, 3), 90, np.uint8)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0.")
