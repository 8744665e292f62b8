"""Hostile hand-made models: each is rejected with the node's number and a reason, as an error of the unmodified runtime."""

import numpy as np
import pytest

from bdd_tf.edge.runtime import interpreter_module, lce_delegate, library_path
from bdd_tf.errors import UsageError
from tests.edge.runtime.operator_cases import Bconv
from tests.edge.runtime.tflite_builder import Builder


def bconv(change=None, raw=None, drop=None, **tensors):
    """One LceBconv2d on a 6 x 6 map, with options or tensors other than they should be."""
    options = {k: v for k, v in {**Bconv().options, **(change or {})}.items() if k != drop}
    m = Builder()
    shapes = {
        "input": [1, 6, 6, 1],
        "filter": [32, 3, 3, 1],
        "vector": [32],
        "output": [1, 6, 6, 32],
        **tensors,
    }
    image = m.tensor(shapes["input"], "int32")
    weights = m.tensor(shapes["filter"], shapes.get("filter_type", "int32"),
                       data=None if shapes.get("no_data") else np.zeros(shapes.get("filter_size", 288), np.int32))  # fmt: skip
    vector = m.constant(np.zeros(shapes["vector"], np.float32))
    out = m.tensor(shapes["output"], shapes.get("output_type", "float32"))
    inputs = shapes.get("inputs", [image, weights, vector, vector, -1])
    m.operator("LceBconv2d", inputs, [out], options, raw)
    m.inputs, m.outputs = [image], [out]
    return m.build()


def pool(change):
    m = Builder()
    a, b = m.tensor([1, 4, 4, 1], "int32"), m.tensor([1, 2, 2, 1], "int32")
    options = {"filter_height": 2, "filter_width": 2, "padding": 1, "stride_height": 2, "stride_width": 2}
    m.operator("LceBMaxPool2d", [a], [b], {**options, **change})
    m.inputs, m.outputs = [a], [b]
    return m.build()


def simple(name, in_shape, in_type, out_shape, out_type, **quantization):
    m = Builder()
    a, b = m.tensor(in_shape, in_type), m.tensor(out_shape, out_type, **quantization)
    m.operator(name, [a], [b])
    m.inputs, m.outputs = [a], [b]
    return m.build()


HOSTILE = {
    "no options": (bconv(raw=b"\0"), "channels_in is missing"),
    "options cut short": (bconv(raw=b"\x01\x02\x24\x01"), "is missing"),
    "options that point outside": (bconv(raw=bytes(range(240, 256)) + b"\x24\x01"), "is missing"),
    "an option missing": (bconv(drop="stride_width"), "stride_width is missing"),
    "no channels": (bconv({"channels_in": 0}), "channels_in is 0"),
    "negative channels": (bconv({"channels_in": -32}), "channels_in is -32"),
    "more channels than the input has": (bconv({"channels_in": 64}), "the input has 1 words"),
    "a stride of 0": (bconv({"stride_height": 0}), "stride_height is 0"),
    "a huge stride": (bconv({"stride_width": 2**31 - 1}), "stride_width is 2147483647"),
    "a dilation of 0": (bconv({"dilation_width_factor": 0}), "dilation_width_factor is 0"),
    "an unknown padding": (bconv({"padding": 7}), "padding is 7"),
    "padding with 2": (bconv({"pad_values": 2}), "pad_values is 2"),
    "an unknown activation": (bconv({"fused_activation_function": 9}), "fused_activation_function is 9"),
    "a stride that is text": (bconv({"stride_height": "1"}), "stride_height is missing or no integer"),
    "a filter without data": (bconv(no_data=True), "no constant"),
    "a float filter": (bconv(filter_type="float32"), "not int32"),
    "a filter of three axes": (bconv(filter=[32, 3, 3], filter_size=288), "not int32"),
    "a filter that its map does not hold": (bconv({"padding": 1}, filter=[32, 9, 1, 1]), "does not fit"),
    "groups that do not divide": (bconv(input=[1, 6, 6, 3], filter=[32, 3, 3, 2], filter_size=576,
                                        change={"channels_in": 96}), "do not divide"),
    "vectors of the wrong length": (bconv(vector=[31]), "the multiplier"),
    "missing vectors": (bconv(inputs=[0, 1, -1, -1, -1]), "the multiplier"),
    "two inputs instead of five": (bconv(inputs=[0, 1]), "five inputs"),
    "a bool output": (bconv(output_type="bool"), "output's type"),
    "an int8 output without a scale": (bconv(output_type="int8"), "no scale"),
    "a pool with a window of 0": (pool({"filter_width": 0}), "filter_width is 0"),
    "a pool larger than its map": (pool({"filter_height": 5}), "does not fit"),
    "quantize to float": (simple("LceQuantize", [1, 4], "float32", [1, 1], "float32"), "output is not int32"),
    "dequantize to more channels than there are": (
        simple("LceDequantize", [1, 1], "int32", [1, 40], "float32"), "do not hold 40"),
    "dequantize to another rank": (simple("LceDequantize", [1, 1], "int32", [32], "float32"), "axes"),
}  # fmt: skip


def test_there_are_enough():
    assert len(HOSTILE) >= 20


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_with_a_reason(name, capfd):
    content, reason = HOSTILE[name]
    with pytest.raises((RuntimeError, ValueError)) as caught:  # noqa: PT012
        interpreter = interpreter_module().Interpreter(
            model_content=content, experimental_delegates=[lce_delegate()]
        )
        interpreter.allocate_tensors()
    said = str(caught.value) + capfd.readouterr().err
    assert reason in said
    assert "node 0 (Lce" in said


def test_harmless_models_run():
    interpreter = interpreter_module().Interpreter(
        model_content=bconv(), experimental_delegates=[lce_delegate()]
    )
    interpreter.allocate_tensors()
    interpreter.invoke()


def test_wrong_arguments_of_the_delegate_are_explained():
    with pytest.raises(UsageError, match="num_threads is 0"):
        lce_delegate(0)
    with pytest.raises(UsageError, match=r"unknown kernel set 'sse'; possible: auto, .*scalar"):
        lce_delegate(kernels="sse")
    with pytest.raises(ValueError, match="options are num_threads, kernels and fuse"):
        interpreter_module().load_delegate(str(library_path()), {"speed": "more"})
