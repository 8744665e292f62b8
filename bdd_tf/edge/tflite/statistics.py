"""Operation and size statistics of a .tflite file: multiply-accumulates and bytes, each by kind."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from bdd_tf.edge.tflite.file import Operator, Subgraph, TfliteModel

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class ModelStatistics:
    """Statistics of a model.

    Attributes:
        binary_macs: Multiply-accumulates per image in binary convolutions (LceBconv2d).
        float_macs: Multiply-accumulates per image in all other convolutions and dense layers, including those that
            compute forensic channels.
        binary_weights: Number of 1-bit weights.
        other_constants: Number of elements in all other constants.
        bytes_by_kind: Size in bytes by kind of constant, of ``metadata``, and of ``structure``, the rest of the file;
            largest first.
        operators: Number of operators by name, most frequent first.
    """

    binary_macs: int
    float_macs: int
    binary_weights: int
    other_constants: int
    bytes_by_kind: dict[str, int]
    operators: dict[str, int]


def model_statistics(model: TfliteModel) -> ModelStatistics:
    """Compute the statistics of a model's first subgraph.

    Args:
        model: A parsed file.

    Returns:
        The statistics.

    Raises:
        TfliteError: If the options of an LceBconv2d are damaged.
    """
    graph = model.subgraphs[0]
    binary = real = bits = elements = 0
    kinds: dict[int, str] = {}
    # A compressed constant is counted under the kind of its dequantized tensor.
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
    return ModelStatistics(
        binary, real, bits, elements, dict(sizes.most_common()), dict(operators.most_common())
    )


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
    """Return the number of output positions of a convolution, for one image."""
    shape = _shape(graph, op.outputs, 0)
    return math.prod(shape[1:3]) if len(shape) == 4 else 1


def _binary_weights(graph: Subgraph, op: Operator) -> int:
    shape, channels = _shape(graph, op.inputs, 1), op.options.get("channels_in", 0)
    if len(shape) != 4 or not isinstance(channels, int):
        return 0
    # The last axis is bitpacked, 32 channels per word; a grouped filter has only part of the input's channels.
    return math.prod(shape[:3]) * min(channels, 32 * shape[3])


def _float_macs(graph: Subgraph, op: Operator) -> int:
    kernel = math.prod(_shape(graph, op.inputs, 1))
    if op.name == "FULLY_CONNECTED":
        shape = _shape(graph, op.inputs, 1)
        rows = math.prod(_shape(graph, op.outputs, 0)[1:]) // shape[0] if len(shape) == 2 and shape[0] else 1
        return kernel * max(rows, 1)
    return kernel * _positions(graph, op)
