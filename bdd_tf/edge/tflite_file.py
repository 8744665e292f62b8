"""Reads .tflite files without a runtime, in plain Python, and writes metadata into them.

The files come from outside: every offset is checked against the file before it is followed, and whatever is
wrong ends in a `TfliteError`. Works for any .tflite file, not only for this package's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bdd_tf.edge.flexbuffer import read_flexbuffer_map
from bdd_tf.edge.tflite_schema import BUILTIN_OPERATORS, CUSTOM, TENSOR_TYPES
from bdd_tf.errors import BddError

METADATA_NAME = "bdd_tf"
"""Name of the metadata buffer that holds this package's JSON."""

METADATA_FORMAT = 1
"""Value of the metadata's key ``format``: the layout that this version writes, and the newest it reads."""

_IDENTIFIER = b"TFL3"


class TfliteError(BddError):
    """A .tflite file that cannot be understood; ``str()`` is one sentence without the path."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph.

    Attributes:
        name: Name, possibly empty.
        shape: Sizes; empty for a scalar.
        dtype: Element type as NumPy spells it (``"float32"``), or the schema's name in lower case where NumPy
            has none, or ``"type N"``.
        data: The constant's bytes; empty for a tensor that is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: memoryview

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor's constant takes in the file; 0 for a tensor that is computed."""
        return len(self.data)


@dataclass(frozen=True)
class Operator:
    """One operator of a graph.

    Attributes:
        name: Builtin name (``"CONV_2D"``) or custom code (``"LceBconv2d"``).
        custom: Whether ``name`` is a custom code.
        inputs: Indices into the subgraph's tensors; -1 where an optional input is absent.
        outputs: Indices into the subgraph's tensors.
        custom_options: Bytes whose meaning the custom operator knows; empty for builtin ones.
    """

    name: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom_options: bytes

    @property
    def options(self) -> dict[str, Any]:
        """``custom_options`` read as a flexbuffer map, which LCE writes; empty if there are none.

        Raises:
            TfliteError: If the bytes are no flexbuffer map.
        """
        try:
            return read_flexbuffer_map(self.custom_options) if self.custom_options else {}
        except ValueError as error:
            raise TfliteError(f"the options of operator {self.name} are damaged: {error}") from None


@dataclass(frozen=True)
class Subgraph:
    """One graph: its tensors, the indices of those that go in and come out, and operators in order."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class TfliteModel:
    """A parsed file.

    Attributes:
        content: The file's bytes, as a runtime takes them.
        subgraphs: At least one; the first is the one that runs.
        metadata: Entries by name.
        description: Free text of the converter.
    """

    content: bytes
    subgraphs: tuple[Subgraph, ...]
    metadata: Mapping[str, memoryview]
    description: str

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Input tensors of the first subgraph."""
        graph = self.subgraphs[0]
        return tuple(graph.tensors[index] for index in graph.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Output tensors of the first subgraph."""
        graph = self.subgraphs[0]
        return tuple(graph.tensors[index] for index in graph.outputs)

    @cached_property
    def custom_operators(self) -> frozenset[str]:
        """Codes of all custom operators, in all subgraphs."""
        return frozenset(op.name for graph in self.subgraphs for op in graph.operators if op.custom)


def parse_tflite(content: bytes) -> TfliteModel:
    """Read a .tflite file's structure.

    Args:
        content: The whole file.

    Returns:
        The model; constants are views into ``content``, not copies.

    Raises:
        TfliteError: If this is no .tflite file, or it is truncated or damaged.
    """
    reader = _Reader(content)
    root = reader.root()
    buffers = [_buffer(reader, table) for table in root.tables(4)]
    codes = [_operator_code(table) for table in root.tables(1)]
    subgraphs = tuple(_subgraph(table, codes, buffers) for table in root.tables(2))
    if not subgraphs:
        raise TfliteError("the .tflite file contains no graph")
    metadata = {}
    for table in root.tables(6):
        index = table.scalar(1, "I")
        if index >= len(buffers):
            raise _damaged(f"metadata names buffer {index} of {len(buffers)}")
        metadata[table.string(0)] = buffers[index]
    return TfliteModel(reader.content, subgraphs, metadata, root.string(3))


def read_metadata(content: bytes | TfliteModel) -> dict[str, Any]:
    """This package's metadata.

    Args:
        content: A whole .tflite file, or the result of `parse_tflite`.

    Returns:
        The JSON object in the metadata buffer ``bdd_tf``; not checked beyond being an object.

    Raises:
        TfliteError: If the file is damaged, has no such buffer, or that holds no JSON object.
    """
    model = content if isinstance(content, TfliteModel) else parse_tflite(content)
    if METADATA_NAME not in model.metadata:
        raise TfliteError(
            "the .tflite file has no bdd_tf metadata, so its resize rule, labels and threshold are unknown; "
            "convert the network with `bdd convert`"
        )
    try:
        values = json.loads(bytes(model.metadata[METADATA_NAME]).decode())
    except (ValueError, RecursionError) as error:
        raise TfliteError(f"the bdd_tf metadata in the .tflite file is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise TfliteError("the bdd_tf metadata in the .tflite file is JSON, but not an object")
    return values


def needs_reference_bconv(model: TfliteModel) -> bool:
    """Whether LCE's own fast kernels would compute this model wrongly.

    They do for a binary convolution with SAME zero padding whose filter is larger than its input map, say 3x3
    on 2x2; LCE's reference kernel is right there.

    Args:
        model: Any model.

    Returns:
        True when at least one such operator is in the file.

    Raises:
        TfliteError: If the options of an LceBconv2d are damaged.
    """
    return any(
        _filter_exceeds_map(graph, op)
        for graph in model.subgraphs
        for op in graph.operators
        if op.custom and op.name == "LceBconv2d"
    )


def embed_metadata(content: bytes, name: str, payload: bytes) -> bytes:
    """Add or replace one metadata entry of a .tflite file.

    The file's bytes are kept as they are, behind a new root table: offsets in a flatbuffer are relative and
    point forward, so that everything stays valid, even what this reader does not know, and the alignment of
    the weights, which a rebuilt file would lose, too. A replaced payload stays in the file as dead bytes.

    Args:
        content: A whole .tflite file.
        name: Name of the entry, e.g. `METADATA_NAME`.
        payload: Its bytes.

    Returns:
        The new file: longer by the payload, four bytes per buffer, and about 200.

    Raises:
        TfliteError: If the file is damaged, or larger than 2 GiB, where offsets are no longer relative.
    """
    model = parse_tflite(content)
    reader = _Reader(content)
    root = reader.root()
    if len(root.fields) > 8:
        raise TfliteError("the .tflite file has fields that this version of bdd_tf does not know")
    if len(content) + len(payload) > 2**31 - 2**20 or any(t.scalar(1, "Q") > 1 for t in root.tables(4)):
        raise TfliteError("the .tflite file is too large (2 GiB) to write metadata into it")
    old_buffers = [table.position for table in root.tables(4)]
    old_metadata = [t.position for t in root.tables(6) if t.string(0) != name]
    head = _Head()
    # Positions inside the new head are final; those of the old file are known once the head's length is.
    old: list[tuple[int, int]] = []  # (where an offset stands in the head, what it points to in the old file)

    vtable = head.write(struct.pack("<10H", 20, 36, *(_present(root, field) for field in range(8))))
    table = head.write(struct.pack("<iI28x", head.position - vtable, root.scalar(0, "I")), align=4)
    head.patch(0, table)
    for field in (1, 2, 3, 5, 7):
        if root.has(field):
            old.append((table + 4 + 4 * field, root.target(field)))
    buffers = head.write(struct.pack("<I", len(old_buffers) + 1) + bytes(4 * len(old_buffers) + 4), align=4)
    head.patch(table + 4 + 4 * 4, buffers)
    old += [(buffers + 4 + 4 * index, position) for index, position in enumerate(old_buffers)]
    entries = head.write(struct.pack("<I", len(old_metadata) + 1) + bytes(4 * len(old_metadata) + 4), align=4)
    head.patch(table + 4 + 4 * 6, entries)
    old += [(entries + 4 + 4 * index, position) for index, position in enumerate(old_metadata)]

    head.write(struct.pack("<4H", 8, 12, 4, 8), align=4)
    entry = head.write(struct.pack("<iII", 8, 0, len(old_buffers)))
    head.patch(entries + 4 + 4 * len(old_metadata), entry)
    encoded = name.encode()
    head.patch(entry + 4, head.write(struct.pack("<I", len(encoded)) + encoded + b"\0", align=4))
    head.write(struct.pack("<3H2x", 6, 8, 4), align=4)
    buffer = head.write(struct.pack("<iI", 8, 0))
    head.patch(buffers + 4 + 4 * len(old_buffers), buffer)
    head.align(16, after=4)
    head.patch(buffer + 4, head.write(struct.pack("<I", len(payload)) + payload))
    head.align(64)
    for position, target in old:
        head.patch(position, head.position + target)
    result = bytes(head.content) + content
    written = parse_tflite(result)
    if bytes(written.metadata[name]) != payload or written.subgraphs != model.subgraphs:
        raise TfliteError("the .tflite file did not survive writing metadata into it; please report this")
    return result


class _Head:
    """The growing front part of a file; offsets in it are written once their targets are known."""

    def __init__(self) -> None:
        self.content = bytearray(bytes(4) + _IDENTIFIER)

    @property
    def position(self) -> int:
        return len(self.content)

    def align(self, size: int, after: int = 0) -> None:
        self.content += bytes(-(len(self.content) + after) % size)

    def write(self, data: bytes, align: int = 1) -> int:
        self.align(align)
        self.content += data
        return len(self.content) - len(data)

    def patch(self, position: int, target: int) -> None:
        struct.pack_into("<I", self.content, position, target - position)


def _present(root: _Table, field: int) -> int:
    written_anew = field in (4, 6)
    return 4 + 4 * field if written_anew or root.has(field) else 0


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


def _buffer(reader: _Reader, table: _Table) -> memoryview:
    # Files beyond 2 GiB keep the bytes after the flatbuffer, at absolute positions (0 and 1 mean: not so).
    start = table.scalar(1, "Q")
    if start > 1:
        return reader.slice(start, table.scalar(2, "Q"))
    return table.bytes_of(0)


def _operator_code(table: _Table) -> tuple[str, bool]:
    # Codes beyond 127 stand in a later field; older files have the first only.
    number = max(table.scalar(0, "b"), table.scalar(3, "i"))
    if number == CUSTOM:
        return table.string(1), True
    if 0 <= number < len(BUILTIN_OPERATORS):
        return BUILTIN_OPERATORS[number], False
    return f"BUILTIN_{number}", False


def _subgraph(table: _Table, codes: list[tuple[str, bool]], buffers: list[memoryview]) -> Subgraph:
    tensors = tuple(_tensor(child, buffers) for child in table.tables(0))
    operators = tuple(_operator(child, codes, len(tensors)) for child in table.tables(3))
    inputs = _indices(table, 1, len(tensors), optional=False)
    outputs = _indices(table, 2, len(tensors), optional=False)
    return Subgraph(table.string(4), tensors, inputs, outputs, operators)


def _tensor(table: _Table, buffers: list[memoryview]) -> Tensor:
    number, index = table.scalar(1, "b"), table.scalar(2, "I")
    # Buffer 0 is empty by convention; files without any buffers name it all the same.
    if index >= max(len(buffers), 1):
        raise _damaged(f"a tensor names buffer {index} of {len(buffers)}")
    dtype = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else f"type {number}"
    data = buffers[index] if buffers else memoryview(b"")
    return Tensor(table.string(3), table.integers(0), dtype, data)


def _operator(table: _Table, codes: list[tuple[str, bool]], tensors: int) -> Operator:
    index = table.scalar(0, "I")
    if index >= len(codes):
        raise _damaged(f"an operator names kind {index} of {len(codes)}")
    name, custom = codes[index]
    inputs = _indices(table, 1, tensors, optional=True)
    outputs = _indices(table, 2, tensors, optional=False)
    return Operator(name, custom, inputs, outputs, table.copied_bytes(5))


def _indices(table: _Table, field: int, count: int, *, optional: bool) -> tuple[int, ...]:
    values = table.integers(field)
    lowest = -1 if optional else 0
    for value in values:
        if not lowest <= value < count:
            raise _damaged(f"tensor {value} of {count} is named")
    return values


def _damaged(what: str) -> TfliteError:
    return TfliteError(f"the .tflite file is truncated or damaged: {what}")


class _Reader:
    """Checked access to a flatbuffer's bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = bytes(content)
        self._view = memoryview(self.content)
        # Honest files hold each element once. Hostile ones may name the same long vector over and over, which
        # would take time and memory without bound: no more elements are read than there are bytes.
        self._budget = len(self.content)

    def root(self) -> _Table:
        if not self.content:
            raise TfliteError("the .tflite file is empty (0 bytes)")
        if len(self.content) < 8 or self.content[4:8] != _IDENTIFIER:
            raise TfliteError("this is not a .tflite file (the mark TFL3 is missing at byte 4)")
        return _Table(self, self.follow(0))

    def scalar(self, position: int, kind: str) -> int:
        size = struct.calcsize(kind)
        self._check(position, size)
        value: int = struct.unpack_from(f"<{kind}", self.content, position)[0]
        return value

    def slice(self, position: int, length: int) -> memoryview:
        self._check(position, length)
        return self._view[position : position + length]

    def follow(self, position: int) -> int:
        return position + self.scalar(position, "I")

    def vector(self, position: int, size: int) -> tuple[int, int]:
        """Position of the first element, and the number of elements of ``size`` bytes."""
        count = self.scalar(position, "I")
        self._check(position + 4, count * size)
        return position + 4, count

    def spend(self, elements: int) -> None:
        self._budget -= elements
        if self._budget < 0:
            raise _damaged("it names the same parts over and over")

    def _check(self, position: int, length: int) -> None:
        if position < 0 or position + length > len(self.content):
            raise _damaged(f"it points to byte {position + length} of {len(self.content)}")


class _Table:
    """One flatbuffer table; fields are numbered as in TFLite's schema, absent ones read as 0 or empty."""

    def __init__(self, reader: _Reader, position: int) -> None:
        self.reader = reader
        self.position = position
        vtable = position - reader.scalar(position, "i")
        size = reader.scalar(vtable, "H")
        if size < 4 or size % 2:
            raise _damaged(f"a table of {size} bytes")
        reader.spend(size // 2)
        self.fields = struct.unpack(f"<{size // 2 - 2}H", reader.slice(vtable + 4, size - 4))

    def has(self, field: int) -> bool:
        return field < len(self.fields) and self.fields[field] != 0

    def scalar(self, field: int, kind: str) -> int:
        return self.reader.scalar(self.position + self.fields[field], kind) if self.has(field) else 0

    def target(self, field: int) -> int:
        return self.reader.follow(self.position + self.fields[field])

    def tables(self, field: int) -> list[_Table]:
        if not self.has(field):
            return []
        first, count = self.reader.vector(self.target(field), 4)
        self.reader.spend(count)
        return [_Table(self.reader, self.reader.follow(first + 4 * index)) for index in range(count)]

    def integers(self, field: int) -> tuple[int, ...]:
        if not self.has(field):
            return ()
        first, count = self.reader.vector(self.target(field), 4)
        self.reader.spend(count)
        return struct.unpack(f"<{count}i", self.reader.slice(first, 4 * count))

    def bytes_of(self, field: int) -> memoryview:
        if not self.has(field):
            return memoryview(b"")
        return self.reader.slice(*self.reader.vector(self.target(field), 1))

    def copied_bytes(self, field: int) -> bytes:
        data = self.bytes_of(field)
        self.reader.spend(len(data))
        return bytes(data)

    def string(self, field: int) -> str:
        return self.copied_bytes(field).decode(errors="replace")
