"""Parse .tflite files in plain Python, without a runtime.

Works for any .tflite file, not only for those of this package. The files are untrusted; every violation of the format
raises a `TfliteError` (see `bdd_tf.edge.tflite.flatbuffer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from bdd_tf.edge.tflite.flatbuffer import Reader, Table, TfliteError, damaged
from bdd_tf.edge.tflite.flexbuffer import read_flexbuffer_map
from bdd_tf.edge.tflite.schema import (
    BUILTIN_OPERATORS,
    CUSTOM,
    TENSOR_TYPES,
    BufferField,
    MetadataField,
    ModelField,
    OperatorCodeField,
    OperatorField,
    SubgraphField,
    TensorField,
)


class Tensor(NamedTuple):
    """One tensor of a graph.

    Attributes:
        name: Name, possibly empty.
        shape: Dimensions; empty for a scalar.
        dtype: Element type: NumPy's name (``"float32"``), the schema's name in lower case if NumPy has no such type,
            or ``"type N"`` for unknown types.
        data: Content of a constant; empty for a computed tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: memoryview

    @property
    def nbytes(self) -> int:
        """Size of a constant in the file, in bytes; 0 for a computed tensor."""
        return len(self.data)


class Operator(NamedTuple):
    """One operator of a graph.

    Attributes:
        name: Builtin name (``"CONV_2D"``) or custom code (``"LceBconv2d"``).
        custom: Whether ``name`` is a custom code.
        inputs: Indices of the subgraph's tensors; -1 for an absent optional input.
        outputs: Indices of the subgraph's tensors.
        custom_options: Serialized options of a custom operator; empty for a builtin one.
    """

    name: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom_options: bytes

    @property
    def options(self) -> dict[str, Any]:
        """Parse ``custom_options`` as a flexbuffer map, the format that LCE writes; empty if there are none.

        Raises:
            TfliteError: If the bytes are not a flexbuffer map.
        """
        try:
            return read_flexbuffer_map(self.custom_options) if self.custom_options else {}
        except ValueError as error:
            raise TfliteError(f"the options of operator {self.name} are damaged: {error}") from None


class Subgraph(NamedTuple):
    """One graph.

    Attributes:
        name: Name, possibly empty.
        tensors: All tensors of the graph.
        inputs: Indices of the input tensors.
        outputs: Indices of the output tensors.
        operators: Operators in order of execution.
    """

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


class TfliteModel:
    """A .tflite file, parsed as far as it is looked at.

    A detector looks at the metadata, and at the tensors that go in and come out; of a file of 500 operators, the rest takes
    as long to parse as ten crops to score. `parse_tflite` parses everything.

    Args:
        content: The whole file.

    Attributes:
        content: The whole file.
        metadata: Content of the metadata buffers, by name.

    Raises:
        TfliteError: If this is not a .tflite file, or it is truncated or damaged in the parts that are looked at; all
            attributes raise it as well.
    """

    def __init__(self, content: bytes) -> None:
        self._reader = Reader(content)
        self._root = self._reader.root()
        self.content: bytes = self._reader.content
        self._buffers = self._root.vector(ModelField.BUFFERS)
        self._data: dict[int, memoryview] = {}
        if not self._root.vector(ModelField.SUBGRAPHS):
            raise TfliteError("the .tflite file contains no graph")
        self.metadata: Mapping[str, memoryview] = self._metadata()

    @cached_property
    def subgraphs(self) -> tuple[Subgraph, ...]:
        """All graphs, at least one; a runtime executes the first."""
        codes = [_operator_code(table) for table in self._root.tables(ModelField.OPERATOR_CODES)]
        return tuple(self._subgraph(table, codes) for table in self._root.tables(ModelField.SUBGRAPHS))

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """Input tensors of the first subgraph, in order."""
        return self._ends(SubgraphField.INPUTS)

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        """Output tensors of the first subgraph, in order."""
        return self._ends(SubgraphField.OUTPUTS)

    @property
    def description(self) -> str:
        """Free text written by the converter."""
        return self._root.string(ModelField.DESCRIPTION)

    @cached_property
    def custom_operators(self) -> frozenset[str]:
        """Names of the custom operators in all subgraphs."""
        return frozenset(op.name for graph in self.subgraphs for op in graph.operators if op.custom)

    def check_buffers(self) -> None:
        """Look at every buffer, also at those that no tensor refers to."""
        for index in range(len(self._buffers)):
            self._buffer(index)

    def _metadata(self) -> dict[str, memoryview]:
        metadata = {}
        for table in self._root.tables(ModelField.METADATA):
            index = table.scalar(MetadataField.BUFFER, "I")
            if index >= len(self._buffers):
                raise damaged(f"metadata refers to buffer {index} of {len(self._buffers)}")
            metadata[table.string(MetadataField.NAME)] = self._buffer(index)
        return metadata

    def _ends(self, field: int) -> tuple[Tensor, ...]:
        graph = self._root.vector(ModelField.SUBGRAPHS).table(0)
        tensors = graph.vector(SubgraphField.TENSORS)
        ends = _indices(graph, field, len(tensors), optional=False)
        return tuple(self._tensor(tensors.table(index)) for index in ends)

    def _buffer(self, index: int) -> memoryview:
        if index not in self._data:
            table = self._buffers.table(index)
            # Files larger than 2 GiB store constants behind the flatbuffer, at absolute offsets; 0 and 1 mean inline data.
            start = table.scalar(BufferField.OFFSET, "Q")
            self._data[index] = (
                self._reader.slice(start, table.scalar(BufferField.SIZE, "Q"))
                if start > 1
                else table.bytes_of(BufferField.DATA)
            )
        return self._data[index]

    def _subgraph(self, table: Table, codes: list[tuple[str, bool]]) -> Subgraph:
        tensors = tuple(self._tensor(child) for child in table.tables(SubgraphField.TENSORS))
        operators = tuple(
            _operator(child, codes, len(tensors)) for child in table.tables(SubgraphField.OPERATORS)
        )
        inputs = _indices(table, SubgraphField.INPUTS, len(tensors), optional=False)
        outputs = _indices(table, SubgraphField.OUTPUTS, len(tensors), optional=False)
        return Subgraph(table.string(SubgraphField.NAME), tensors, inputs, outputs, operators)

    def _tensor(self, table: Table) -> Tensor:
        number, index = table.scalar(TensorField.TYPE, "b"), table.scalar(TensorField.BUFFER, "I")
        # By convention buffer 0 is empty; tensors may refer to it even if the file has no buffers at all.
        if index >= max(len(self._buffers), 1):
            raise damaged(f"a tensor refers to buffer {index} of {len(self._buffers)}")
        dtype = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else f"type {number}"
        data = self._buffer(index) if self._buffers else memoryview(b"")
        return Tensor(table.string(TensorField.NAME), table.integers(TensorField.SHAPE), dtype, data)


def parse_tflite(content: bytes) -> TfliteModel:
    """Parse the structure of a .tflite file.

    Args:
        content: The whole file.

    Returns:
        The model; constants are views into ``content``, not copies.

    Raises:
        TfliteError: If this is not a .tflite file, or it is truncated or damaged anywhere.
    """
    model = TfliteModel(content)
    model.check_buffers()
    model.subgraphs  # noqa: B018 (parses them)
    model.description  # noqa: B018
    return model


def needs_reference_bconv(model: TfliteModel) -> bool:
    """Return whether LCE's optimized kernels would compute wrong results for this model.

    They do for a binary convolution with SAME zero padding whose filter is larger than its input feature map, such as
    3x3 on 2x2. LCE's reference kernel is correct in this case.

    Args:
        model: Any model.

    Returns:
        True if the file contains at least one such operator.

    Raises:
        TfliteError: If the options of an LceBconv2d are damaged.
    """
    return any(
        _filter_exceeds_map(graph, op)
        for graph in model.subgraphs
        for op in graph.operators
        if op.custom and op.name == "LceBconv2d"
    )


def _filter_exceeds_map(graph: Subgraph, op: Operator) -> bool:
    options = op.options
    same, zeros = options.get("padding", 0) == 0, options.get("pad_values", 0) == 0
    if not (same and zeros):
        return False
    shapes = [graph.tensors[index].shape if index >= 0 else () for index in op.inputs[:2]]
    if len(shapes) < 2 or any(len(shape) != 4 for shape in shapes):
        raise TfliteError("an LceBconv2d in the .tflite file lacks its input or its filter")
    (_, *image, _), (_, *kernel, _) = shapes
    dilations = [options.get(f"dilation_{side}_factor", 1) for side in ("height", "width")]
    if not all(isinstance(dilation, int) for dilation in dilations):
        raise TfliteError("the options of an LceBconv2d in the .tflite file are damaged: its dilations")
    return any((k - 1) * d + 1 > i for k, d, i in zip(kernel, dilations, image, strict=True))


def _operator_code(table: Table) -> tuple[str, bool]:
    # The schema extended the int8 field by an int32 field for codes above 127; older files have only the first.
    number = max(
        table.scalar(OperatorCodeField.DEPRECATED_BUILTIN_CODE, "b"),
        table.scalar(OperatorCodeField.BUILTIN_CODE, "i"),
    )
    if number == CUSTOM:
        return table.string(OperatorCodeField.CUSTOM_CODE), True
    if 0 <= number < len(BUILTIN_OPERATORS):
        return BUILTIN_OPERATORS[number], False
    return f"BUILTIN_{number}", False


def _operator(table: Table, codes: list[tuple[str, bool]], tensors: int) -> Operator:
    index = table.scalar(OperatorField.OPCODE_INDEX, "I")
    if index >= len(codes):
        raise damaged(f"an operator refers to operator code {index} of {len(codes)}")
    name, custom = codes[index]
    inputs = _indices(table, OperatorField.INPUTS, tensors, optional=True)
    outputs = _indices(table, OperatorField.OUTPUTS, tensors, optional=False)
    return Operator(name, custom, inputs, outputs, table.copied_bytes(OperatorField.CUSTOM_OPTIONS))


def _indices(table: Table, field: int, count: int, *, optional: bool) -> tuple[int, ...]:
    values = table.integers(field)
    lowest = -1 if optional else 0
    for value in values:
        if not lowest <= value < count:
            raise damaged(f"it refers to tensor {value} of {count}")
    return values
