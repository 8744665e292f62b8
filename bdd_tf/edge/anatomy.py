"""What a .tflite file is made of: multiply-accumulates by kind, and bytes by kind of tensor."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from bdd_tf.edge.tflite_file import Operator, Subgraph, TfliteModel

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class Anatomy:
    """Counts of a file, for one image.

    Attributes:
        binary_macs: Multiply-accumulates of LceBconv2d.
        float_macs: Those of convolutions and dense layers that are not binary, forensic channels included.
        binary_weights: Weights of one bit.
        other_constants: Elements of all other constants.
        bytes_by_kind: Bytes of constants by kind, metadata, and ``structure``, which is all else.
        operators: How often each operator occurs, the most frequent first.
    """

    binary_macs: int
    float_macs: int
    binary_weights: int
    other_constants: int
    bytes_by_kind: dict[str, int]
    operators: dict[str, int]


def dissect(model: TfliteModel) -> Anatomy:
    """Count a model's first graph.

    Args:
        model: A parsed file.

    Returns:
        Its anatomy.

    Raises:
        TfliteError: If the options of an LceBconv2d are damaged.
    """
    graph = model.subgraphs[0]
    binary = real = bits = elements = 0
    kinds: dict[int, str] = {}
    # What is stored in fewer bits counts as what it becomes.
    stored = {op.outputs[0]: op.inputs[0] for op in graph.operators if op.name == "DEQUANTIZE"}
    for op in graph.operators:
        if op.name == "LceBconv2d":
            weights = _binary_weights(graph, op)
            bits += weights
            binary += weights * _positions(graph, op)
        elif op.name in _KERNELS:
            real += _float_macs(graph, op)
        for position, read in enumerate(op.inputs if op.name != "DEQUANTIZE" else ()):
            index = stored.get(read, read)
            if index >= 0 and graph.tensors[index].nbytes:
                kinds.setdefault(index, _kind(op, position, graph.tensors[index].dtype))
    sizes: Counter[str] = Counter()
    for index, kind in kinds.items():
        tensor = graph.tensors[index]
        sizes[kind] += tensor.nbytes
        if kind != "binary weights":
            elements += math.prod(tensor.shape)
    for entry in model.metadata.values():
        sizes["metadata"] += len(entry)
    sizes["structure"] = len(model.content) - sizes.total()
    operators = Counter(op.name for op in graph.operators)
    return Anatomy(binary, real, bits, elements, dict(sizes.most_common()), dict(operators.most_common()))


def _kind(op: Operator, position: int, dtype: str) -> str:
    if op.name == "LceBconv2d":
        return "binary weights" if position == 1 else "per-channel vectors"
    if op.name in _KERNELS:
        kernels = "int8 kernels" if dtype == "int8" else "float kernels"
        return kernels if position == 1 else "per-channel vectors"
    if op.name in ("MUL", "ADD", "SUB", "PRELU"):
        return "per-channel vectors"
    return "other constants"


def _shape(graph: Subgraph, indices: tuple[int, ...], position: int) -> tuple[int, ...]:
    return (
        graph.tensors[indices[position]].shape if position < len(indices) and indices[position] >= 0 else ()
    )


def _positions(graph: Subgraph, op: Operator) -> int:
    """Places at which a convolution's kernel is applied to one image."""
    shape = _shape(graph, op.outputs, 0)
    return math.prod(shape[1:3]) if len(shape) == 4 else 1


def _binary_weights(graph: Subgraph, op: Operator) -> int:
    shape, channels = _shape(graph, op.inputs, 1), op.options.get("channels_in", 0)
    if len(shape) != 4 or not isinstance(channels, int):
        return 0
    # The last axis is packed, 32 channels a word; grouped filters see a part of the input's channels.
    return math.prod(shape[:3]) * min(channels, 32 * shape[3])


def _float_macs(graph: Subgraph, op: Operator) -> int:
    kernel = math.prod(_shape(graph, op.inputs, 1))
    if op.name == "FULLY_CONNECTED":
        shape = _shape(graph, op.inputs, 1)
        rows = math.prod(_shape(graph, op.outputs, 0)[1:]) // shape[0] if len(shape) == 2 and shape[0] else 1
        return kernel * max(rows, 1)
    return kernel * _positions(graph, op)
