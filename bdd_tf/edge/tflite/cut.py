"""Cut a part out of a .tflite file's graph, as a model with another input, another output and fewer operators.

A detector is cut at two tensors: at the logit, the input of the final sigmoid, and at the concatenation of RGB and
forensic channels, the input of the adapter. The parts consist of the file's own operators and weights.
"""

from __future__ import annotations

import math
import struct

from bdd_tf.edge.tflite.file import Subgraph, TfliteModel, parse_tflite
from bdd_tf.edge.tflite.flatbuffer import Reader, TfliteError
from bdd_tf.edge.tflite.schema import ModelField, SubgraphField


def extract(model: TfliteModel, entry: int, output: int) -> TfliteModel:
    """Cut out the part of the first subgraph that computes one tensor from another.

    Args:
        model: A model whose first subgraph has one input and one output.
        entry: Index of the tensor that becomes the input.
        output: Index of the tensor that becomes the output.

    Returns:
        A model of the same size; only the lists of inputs, outputs and operators are overwritten in place.

    Raises:
        TfliteError: If the output also depends on the model's input by a path around ``entry``, or if the layout of
            the file does not allow changes in place.
    """
    graph = model.subgraphs[0]
    kept = _needed(graph, entry, output)
    reader = Reader(model.content)
    table = reader.root().tables(ModelField.SUBGRAPHS)[0]
    content = bytearray(model.content)
    for field, value in ((SubgraphField.INPUTS, entry), (SubgraphField.OUTPUTS, output)):
        first, count = reader.vector(table.target(field), 4)
        if count != 1:
            raise TfliteError(f"the .tflite file has {count} inputs or outputs; one of each is expected")
        struct.pack_into("<i", content, first, value)
    operators = [child.position for child in table.tables(SubgraphField.OPERATORS)]
    first, _ = reader.vector(table.target(SubgraphField.OPERATORS), 4)
    struct.pack_into("<I", content, first - 4, len(kept))
    for slot, index in enumerate(kept):
        place = first + 4 * slot
        if operators[index] <= place:  # offsets are unsigned
            raise TfliteError(
                "the .tflite file stores operators before the list of operators; it cannot be cut"
            )
        struct.pack_into("<I", content, place, operators[index] - place)
    part = parse_tflite(bytes(content))
    expected = Subgraph(
        graph.name, graph.tensors, (entry,), (output,), tuple(graph.operators[index] for index in kept)
    )
    if part.subgraphs[0] != expected:
        raise TfliteError("the .tflite file shares parts between its lists; it cannot be cut")
    return part


def logit_of(model: TfliteModel) -> int | None:
    """Return the index of the logit, the input of the final sigmoid; None if the last operator is not a sigmoid."""
    graph = model.subgraphs[0]
    last = _producers(graph).get(graph.outputs[0])
    if last is None or graph.operators[last].name != "LOGISTIC":
        return None
    logit = graph.operators[last].inputs[0]
    return logit if math.prod(graph.tensors[logit].shape) == 1 else None


def channel_stack_of(model: TfliteModel, channels: int) -> tuple[int, tuple[int, ...]] | None:
    """Find the concatenation of RGB and forensic channels: the input of the adapter or of a direct stem's normalisation.

    Args:
        model: A detector.
        channels: Number of channels, RGB counted as one.

    Returns:
        Index of the tensor and the number of planes of each channel, 3 for RGB first. It is the first concatenation of
        that many tensors, float32 with the height and width of the input, that exactly one operator reads. None if there
        is none.
    """
    graph = model.subgraphs[0]
    sides = graph.tensors[graph.inputs[0]].shape[:3]
    for operator in graph.operators:
        if operator.name != "CONCATENATION" or len(operator.outputs) != 1:
            continue
        tensor = operator.outputs[0]
        if graph.tensors[tensor].shape[:-1] != sides or graph.tensors[tensor].dtype != "float32":
            continue
        planes = tuple(graph.tensors[part].shape[-1] for part in operator.inputs)
        readers = [op for op in graph.operators if tensor in op.inputs]
        if len(planes) == channels and planes[0] == 3 and len(readers) == 1:
            return tensor, planes
    return None


def _producers(graph: Subgraph) -> dict[int, int]:
    """Map each computed tensor to the index of its operator."""
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
            raise TfliteError(
                "the .tflite file's graph cannot be cut there: another path leads around the tensor"
            )
    return sorted(kept)
