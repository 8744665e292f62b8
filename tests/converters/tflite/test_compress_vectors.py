"""Files with int8 and float16 vectors: which constants are rounded, by how much, and which are not."""

import json

import numpy as np
import pytest

from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.runtime import interpreter_module, lce_delegate
from bdd_tf.edge.tflite.file import parse_tflite
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
from bdd_tf.edge.tflite.statistics import model_statistics
from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import build_detector
from bdd_tf.presets import experiment
from bdd_tf.runs import Validated
from converters import convert, sample_images, verify
from converters.benchmark_models import vary_vectors
from converters.tflite.compress_vectors import compress_vectors
from converters.tflite.quantize_gates import quantize_gates
from tests import tiny_bnext


@pytest.fixture(scope="module")
def content():
    model = build_detector(tiny_bnext.NAME, 32, "rgb,sobel,fft,lbp", variant="stable")
    sample_images.update_bn(model, sample_images.photographs(16, 32, seed=3))
    return convert.to_flatbuffer(vary_vectors(model))


def constants(content):
    """(operator, input index, values, type in the file, operator index) of each constant float input."""
    graph = parse_tflite(content).subgraphs[0]
    unpacked = {op.outputs[0]: op.inputs[0] for op in graph.operators if op.name == "DEQUANTIZE"}
    operators = [op for op in graph.operators if op.name != "DEQUANTIZE"]
    for number, op in enumerate(operators):
        for place, index in enumerate(op.inputs):
            tensor = graph.tensors[unpacked.get(index, index)]
            if index >= 0 and tensor.nbytes and graph.tensors[index].dtype == "float32":
                values = np.frombuffer(tensor.data, tensor.dtype).astype(np.float32).reshape(tensor.shape)
                yield op, place, values, tensor.dtype, number


def test_constants_that_act_on_feature_maps_keep_ten_bits(content):
    """Slopes, multipliers and biases are float16, equal to the float32 file's up to that rounding."""

    def vectors(file):
        return [
            (values, dtype) for op, place, values, dtype, _ in constants(file)
            if op.name == "PRELU" or (op.name == "LceBconv2d" and place in (2, 3))
        ]  # fmt: skip

    before, after = vectors(content), vectors(compress_vectors(content))
    assert len(before) == len(after) > 3 * tiny_bnext.UNITS
    for (old, _), (new, dtype) in zip(before, after, strict=True):
        assert dtype == ("float16" if old.size >= 60 else "float32")
        np.testing.assert_allclose(new, old, rtol=2**-11, atol=2**-25)


def test_constants_of_the_forensic_channels_are_not_rounded(content):
    """Up to the adapter, the first convolution over more than one pixel, nothing is touched, itself included."""

    def of_channels(file):
        found = list(constants(file))
        adapter = next(
            n for op, place, values, _, n in found if op.name == "CONV_2D" and place == 1 and values.shape[0] == 3
            and values.shape[1:3] == (3, 3)
        )  # fmt: skip
        return [(values, dtype) for _, _, values, dtype, number in found if number <= adapter]

    before, after = of_channels(content), of_channels(compress_vectors(content))
    assert len(before) == len(after) > 10
    for (old, _), (new, dtype) in zip(before, after, strict=True):
        assert dtype == "float32"
        np.testing.assert_array_equal(old, new)


def test_gates_are_int8_and_nothing_else_is(content):
    """An operator with an int8 vector ends in a logistic, through vectors alone."""
    graph = parse_tflite(compress_vectors(content)).subgraphs[0]
    readers = {}
    for op in graph.operators:
        for index in op.inputs:
            readers.setdefault(index, []).append(op)
    seen = 0
    for unpack in graph.operators:
        if unpack.name != "DEQUANTIZE" or graph.tensors[unpack.inputs[0]].dtype != "int8":
            continue
        (reader,) = readers[unpack.outputs[0]]
        seen += 1
        op = reader
        while op.name != "LOGISTIC":
            assert graph.tensors[op.outputs[0]].shape[1:3] == (1, 1)
            (op,) = readers[op.outputs[0]]
    assert seen > 2 * tiny_bnext.UNITS


def test_both_runtimes_read_it_alike(content):
    file, images = parse_tflite(compress_vectors(content)), sample_images.photographs(12, 32, seed=5)
    ours, larq = (create_engine(file, engine).run(images).reshape(-1) for engine in ("litert", "lce"))
    assert ours.std() > 10 * verify.MEDIAN_LIMIT
    assert np.median(np.abs(ours - larq)) <= verify.MEDIAN_LIMIT


def test_the_delegate_takes_as_much_of_it(content):
    """In as few pieces: a node that it no longer knew would cut the network in two."""
    pieces = []
    for file in (quantize_gates(content), compress_vectors(content)):
        interpreter = interpreter_module().Interpreter(
            model_content=file, experimental_delegates=[lce_delegate()]
        )
        interpreter.allocate_tensors()
        pieces.append(sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details()))
    assert pieces[0] == pieces[1] > 0


def test_narrowing_twice_changes_nothing_more(content):
    once = compress_vectors(content)
    assert compress_vectors(once) == once


def test_a_map_of_one_pixel_is_no_gate():
    """QuickNet's last maps have one pixel at 32 px; what is added to them is as exact as elsewhere."""
    model = build_detector("quicknet", 32, "rgb", variant="stable")
    file = compress_vectors(convert.to_flatbuffer(model))
    assert all(dtype != "int8" for *_, dtype, _ in constants(file))
    assert any(dtype == "float16" for *_, dtype, _ in constants(file))


def test_values_outside_the_float16_range_stay_float32():
    rng = np.random.default_rng(1)
    image = tf.keras.Input((8, 8, 64))
    model = tf.keras.Model(
        image, (image * np.full(64, 3.0, np.float32)) + rng.normal(7e4, 1, 64).astype(np.float32)
    )
    types = {
        op.name: dtype for op, _, _, dtype, _ in constants(compress_vectors(convert.to_flatbuffer(model)))
    }
    assert types == {"MUL": "float16", "ADD": "float32"}


@pytest.mark.slow
def test_a_large_bnext_t_fits_where_it_is_wanted():
    """At 224 px, without equal vectors and with all metadata of a run: at most 5.3 MB."""
    config = experiment(backbone="bnext-t", resolution=224)
    found = {"split": "test", "images": 20000, "accuracy": 0.97895, "auc": 0.99797124, "eer": 0.0209}
    familiar = {"dataset": "cifake", "images": 95051, "sides": [224, 1024], "contrast": [11.203, 101.536]}
    about = {**convert.metadata(config, Validated(), found, trained=True), "trained_on": familiar}
    model = vary_vectors(build_detector("bnext-t", 224, config.channels, variant="stable"))
    file = convert.to_flatbuffer(model)
    smallest = embed_metadata(compress_vectors(file), METADATA_NAME, json.dumps(about).encode())
    assert len(smallest) <= 5.3e6
    assert len(smallest) < len(quantize_gates(file))
    assert (
        model_statistics(parse_tflite(smallest)).binary_weights
        == model_statistics(parse_tflite(file)).binary_weights
    )


def test_a_float_network_has_no_vectors_to_narrow(tmp_path):
    about = convert.metadata(experiment(), Validated(), None, trained=False)
    with pytest.raises(UsageError, match="is a float network"):
        convert.convert(
            build_detector("mobilenetv3-small", 32, "rgb", variant="stable"),
            {**about, "backbone": "mobilenetv3-small"}, tmp_path / "m.tflite", sample_images.photographs(8, 32), "narrow",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
