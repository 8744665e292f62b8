"""Takes a part of a .tflite file's graph as a model of its own: other inputs, other outputs, fewer operators.

With it a detector's file is opened at two places: in front of the sigmoid, where the logit is, and in front of the
adapter, where image and forensic channels lie side by side. Nothing is computed anew: the parts hold the
file's own operators and weights.
"""

from __future__ import annotations

import math
import struct

from bdd_tf.edge.tflite_file import Subgraph, TfliteError, TfliteModel, _Reader, parse_tflite

_SUBGRAPHS = 2  # of the root; the others of a subgraph
_INPUTS, _OUTPUTS, _OPERATORS = 1, 2, 3


def extract(model: TfliteModel, entry: int, output: int) -> TfliteModel:
    """The part of the first subgraph that computes one tensor from another.

    Args:
        model: A model whose first subgraph has one input and one output.
        entry: Index of the tensor that the part is given.
        output: Index of the tensor that it yields.

    Returns:
        A model of the same bytes but for the lists of inputs, outputs and operators, which shrink in place.

    Raises:
        TfliteError: If the output needs more than the entry (the way around it leads to the model's own input),
            or the file is laid out so that it cannot be changed in place.
    """
    graph = model.subgraphs[0]
    kept = _needed(graph, entry, output)
    reader = _Reader(model.content)
    table = reader.root().tables(_SUBGRAPHS)[0]
    content = bytearray(model.content)
    for field, value in ((_INPUTS, entry), (_OUTPUTS, output)):
        first, count = reader.vector(table.target(field), 4)
        if count != 1:
            raise TfliteError(f"the .tflite file has {count} inputs or outputs; one of each is expected")
        struct.pack_into("<i", content, first, value)
    operators = [child.position for child in table.tables(_OPERATORS)]
    first, _ = reader.vector(table.target(_OPERATORS), 4)
    struct.pack_into("<I", content, first - 4, len(kept))
    for slot, index in enumerate(kept):
        place = first + 4 * slot
        if operators[index] <= place:  # offsets have no sign
            raise TfliteError("the .tflite file keeps its operators in front of their list; it cannot be cut")
        struct.pack_into("<I", content, place, operators[index] - place)
    part = parse_tflite(bytes(content))
    expected = Subgraph(
        graph.name, graph.tensors, (entry,), (output,), tuple(graph.operators[index] for index in kept)
    )
    if part.subgraphs[0] != expected:
        raise TfliteError("the .tflite file shares parts between its lists; it cannot be cut")
    return part


def logit_of(model: TfliteModel) -> int | None:
    """Index of the tensor whose sigmoid is the model's output; None where the last operator is no sigmoid."""
    graph = model.subgraphs[0]
    last = _producers(graph).get(graph.outputs[0])
    if last is None or graph.operators[last].name != "LOGISTIC":
        return None
    logit = graph.operators[last].inputs[0]
    return logit if math.prod(graph.tensors[logit].shape) == 1 else None


def stack_of(model: TfliteModel, planes: int) -> int | None:
    """Index of the tensor that holds RGB and the channels side by side, which the adapter reads.

    Args:
        model: A detector.
        planes: How many planes that tensor has: 3 for RGB and one for each further channel.

    Returns:
        The first concatenation float32 [1, H, W, planes] of the input's size that nothing but one convolution
        reads; None if there is none.
    """
    graph = model.subgraphs[0]
    shape = (*graph.tensors[graph.inputs[0]].shape[:3], planes)
    for operator in graph.operators:
        if operator.name != "CONCATENATION" or len(operator.outputs) != 1:
            continue
        tensor = operator.outputs[0]
        if (graph.tensors[tensor].shape, graph.tensors[tensor].dtype) != (shape, "float32"):
            continue
        if [op.name for op in graph.operators if tensor in op.inputs] == ["CONV_2D"]:
            return tensor
    return None


def _producers(graph: Subgraph) -> dict[int, int]:
    """Which operator computes a tensor."""
    return {tensor: index for index, op in enumerate(graph.operators) for tensor in op.outputs}


def _needed(graph: Subgraph, entry: int, output: int) -> list[int]:
    producers = _producers(graph)
    kept: set[int] = set()
    seen = {entry}
    waiting = [output]
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor < 0:
            continue
        seen.add(tensor)
        if tensor in producers:
            kept.add(producers[tensor])
            waiting += graph.operators[producers[tensor]].inputs
        elif tensor in graph.inputs:
            raise TfliteError("the .tflite file's graph cannot be cut there: a second way leads around")
    return sorted(kept)
