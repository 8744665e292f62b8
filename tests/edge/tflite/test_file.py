import random
import struct
from contextlib import suppress

import numpy as np
import pytest
from flatbuffers import flexbuffers

from bdd_tf.edge.tflite.file import TfliteModel, needs_reference_bconv, parse_tflite
from bdd_tf.edge.tflite.flatbuffer import TfliteError
from bdd_tf.edge.tflite.flexbuffer import read_flexbuffer_map
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata, read_metadata
from bdd_tf.edge.tflite.schema import BUILTIN_OPERATORS, TENSOR_TYPES
from bdd_tf.errors import BddError
from tests.edge.small_models import metadata, with_metadata


def unpacked(content):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content)


def everything(content):
    """Reads all that the module offers, as a detector would."""
    model = parse_tflite(content)
    for graph in model.subgraphs:
        for op in graph.operators:
            _ = op.options if op.custom else None
    needs_reference_bconv(model)
    return model, read_metadata(model)


def test_names_are_those_of_the_schema():
    from ai_edge_litert import schema_py_generated as schema

    for name, number in vars(schema.BuiltinOperator).items():
        if not name.startswith("_"):
            assert BUILTIN_OPERATORS[number] == name
    for name, number in vars(schema.TensorType).items():
        if not name.startswith("_"):
            assert TENSOR_TYPES[number] == name.lower()


def test_the_graph_equals_that_of_the_official_reader(binary_model):
    ours, theirs = parse_tflite(binary_model.content), unpacked(binary_model.content)
    assert len(ours.subgraphs) == len(theirs.subgraphs)
    for graph, reference in zip(ours.subgraphs, theirs.subgraphs, strict=True):
        assert graph.inputs == tuple(reference.inputs)
        assert graph.outputs == tuple(reference.outputs)
        for tensor, other in zip(graph.tensors, reference.tensors, strict=True):
            data = theirs.buffers[other.buffer].data
            assert (tensor.name, tensor.shape) == (other.name.decode(), tuple(other.shape))
            assert TENSOR_TYPES.index(tensor.dtype) == other.type
            assert bytes(tensor.data) == (b"" if data is None else bytes(data))
            assert tensor.nbytes == len(tensor.data)
        for op, other in zip(graph.operators, reference.operators, strict=True):
            code = theirs.operatorCodes[other.opcodeIndex]
            name = code.customCode.decode() if op.custom else BUILTIN_OPERATORS[code.builtinCode]
            assert (op.name, op.inputs, op.outputs) == (name, tuple(other.inputs), tuple(other.outputs))
            options = other.customOptions
            assert op.custom_options == (b"" if options is None else bytes(options))


def test_input_output_and_binary_operators(binary_model, float_model):
    model = parse_tflite(binary_model.content)
    assert [(tensor.shape, tensor.dtype) for tensor in model.inputs] == [((1, 8, 8, 3), "uint8")]
    assert [(tensor.shape, tensor.dtype) for tensor in model.outputs] == [((1, 1), "float32")]
    assert model.custom_operators == {"LceQuantize", "LceBconv2d"}
    assert parse_tflite(float_model.content).custom_operators == frozenset()


def test_options_of_a_binary_convolution(binary_model):
    (op,) = [
        op for op in parse_tflite(binary_model.content).subgraphs[0].operators if op.name == "LceBconv2d"
    ]
    assert op.options["channels_in"] == 32
    assert op.options["padding"] == op.options["pad_values"] == 0
    assert op.options["stride_height"] == op.options["stride_width"] == 1
    assert op.options == flexbuffers.Loads(op.custom_options)


def test_filters_larger_than_their_map_need_the_reference_kernel(
    binary_model, binary_model_on_small_map, float_model
):
    assert needs_reference_bconv(parse_tflite(binary_model_on_small_map.content))
    assert not needs_reference_bconv(parse_tflite(binary_model.content))
    assert not needs_reference_bconv(parse_tflite(float_model.content))


def test_metadata_round_trip(binary_model, float_model):
    for content in (binary_model.content, float_model.content):
        assert read_metadata(with_metadata(content)) == metadata()
        twice = with_metadata(with_metadata(content, threshold=0.1), threshold=0.9)
        assert read_metadata(twice) == metadata(threshold=0.9)
        assert len([entry for entry in unpacked(twice).metadata if entry.name == METADATA_NAME.encode()]) == 1


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_any_payload_under_any_name(binary_model, size):
    payload = random.Random(size).randbytes(size)
    content = embed_metadata(binary_model.content, "größe", payload)
    content = embed_metadata(content, "second", b"2")
    written = parse_tflite(content).metadata
    assert bytes(written["größe"]) == payload
    assert bytes(written["second"]) == b"2"


def test_everything_else_is_kept_when_metadata_are_written(binary_model):
    before, after = unpacked(binary_model.content), unpacked(with_metadata(binary_model.content))
    assert after.version == before.version == 3
    assert after.description == before.description
    kept = {entry.name: bytes(after.buffers[entry.buffer].data) for entry in after.metadata}
    for entry in before.metadata:
        assert kept[entry.name] == bytes(before.buffers[entry.buffer].data)
    assert len(after.signatureDefs or []) == len(before.signatureDefs or [])
    for old, new in zip(before.subgraphs[0].operators, after.subgraphs[0].operators, strict=True):
        assert (old.builtinOptionsType, vars(old.builtinOptions or 0) if old.builtinOptions else None) == (
            new.builtinOptionsType,
            vars(new.builtinOptions) if new.builtinOptions else None,
        )


def test_weights_stay_aligned(binary_model):
    def offsets(content, data):
        model = parse_tflite(content)
        start = np.frombuffer(model.content, np.uint8).ctypes.data
        return [np.frombuffer(view, np.uint8).ctypes.data - start for view in data(model) if len(view)]

    def weights(model):
        return [tensor.data for tensor in model.subgraphs[0].tensors]

    written = with_metadata(binary_model.content)
    before, after = offsets(binary_model.content, weights), offsets(written, weights)
    assert before
    assert {(new - old) % 64 for old, new in zip(before, after, strict=True)} == {0}
    assert offsets(written, lambda model: [model.metadata[METADATA_NAME]])[0] % 16 == 0


def test_every_truncation_is_an_error(binary_model):
    content = with_metadata(binary_model.content)
    for length in range(len(content)):
        with pytest.raises(TfliteError):
            parse_tflite(content[:length])


def test_damaged_bytes_raise_nothing_else(binary_model):
    content = with_metadata(binary_model.content)
    dice = random.Random(7)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 1, 2, 8, 64])):
            damaged[dice.randrange(len(damaged))] = dice.choice([0, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        try:
            everything(bytes(damaged))
        except BddError:
            refused += 1
    # Weights take most of the file, and damage there is invisible; the rest of it must have been noticed.
    assert 100 < refused < 3000


def test_offsets_that_point_anywhere_raise_nothing_else(binary_model):
    content = with_metadata(binary_model.content)
    for position in range(0, len(content) - 4, 4):
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(content) - position):
            damaged = bytearray(content)
            struct.pack_into("<I", damaged, position, value & 0xFFFFFFFF)
            with suppress(BddError):
                everything(bytes(damaged))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"hello", "not a .tflite"),
        (b"PK\x03\x04" + bytes(100), "not a .tflite"),
        (b"\x08\0\0\0TFL3", "truncated or damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(100), "truncated or damaged"),
    ],
)
def test_files_that_are_no_models_are_named(content, said):
    with pytest.raises(TfliteError, match=said):
        parse_tflite(content)


def test_a_part_named_over_and_over_is_refused():
    # A vector of 50,000 subgraphs that are all the same one, whose name has 50,000 letters: 2.5 GB of text.
    count = 50_000
    root_vtable = struct.pack("<5H2x", 10, 8, 0, 0, 4)  # field 2: subgraphs
    graph_vtable = struct.pack("<7H2x", 14, 8, 0, 0, 0, 0, 4)  # field 4: name
    root = 8 + len(root_vtable) + len(graph_vtable)
    vector = root + 8
    graph = vector + 4 + 4 * count
    offsets = b"".join(struct.pack("<I", graph - (vector + 4 + 4 * i)) for i in range(count))
    content = struct.pack("<I4s", root, b"TFL3") + root_vtable + graph_vtable
    content += struct.pack("<iI", root - 8, 4) + struct.pack("<I", count) + offsets
    content += struct.pack("<iI", graph - 20, 4) + struct.pack("<I", count) + b"a" * count + bytes(4)
    with pytest.raises(TfliteError, match="over and over"):
        parse_tflite(content)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_metadata_that_are_no_json_object(float_model, payload):
    with pytest.raises(TfliteError, match="JSON"):
        read_metadata(embed_metadata(float_model.content, METADATA_NAME, payload))


def test_files_without_our_metadata(float_model):
    with pytest.raises(TfliteError, match="no bdd_tf metadata"):
        read_metadata(float_model.content)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": 1},
        {"a": -1, "b": 300, "c": -70_000, "d": 2**40, "e": 2**31},
        {"x": 1.5, "y": 0.1, "z": True, "off": False, "none": None, "text": "grüße"},
        {f"key{i}": i for i in range(300)},
    ],
)
def test_flexbuffer_maps_are_read_like_the_official_library_wrote_them(values):
    assert read_flexbuffer_map(bytes(flexbuffers.Dumps(values))) == values


def test_flexbuffer_values_of_other_kinds_are_left_out():
    data = bytes(flexbuffers.Dumps({"a": [1, 2], "b": {"c": 1}, "d": 4}))
    assert read_flexbuffer_map(data) == {"d": 4}


def test_damaged_flexbuffers_raise_value_error_only():
    content = bytes(flexbuffers.Dumps({"x": 1.5, "text": "abc", "n": -5, "big": 2**40, "yes": True}))
    dice = random.Random(5)
    damaged = [content[:length] for length in range(len(content))]
    damaged += [
        bytes(dice.randrange(256) if dice.random() < 0.1 else b for b in content) for _ in range(3000)
    ]
    refused = 0
    for data in damaged:
        try:
            read_flexbuffer_map(data)
        except ValueError:
            refused += 1
    assert refused > len(content)


def test_a_file_is_parsed_as_far_as_it_is_looked_at(binary_model):
    part, whole = TfliteModel(binary_model.content), parse_tflite(binary_model.content)
    assert dict(part.metadata) == dict(whole.metadata)
    assert (part.inputs, part.outputs) == (whole.inputs, whole.outputs)
    assert "subgraphs" not in vars(part)
    assert part.subgraphs == whole.subgraphs
    assert part.custom_operators == whole.custom_operators
