"""Bounds-checked access to the flatbuffer inside a .tflite file.

The files are untrusted: every offset is checked before it is followed, and every violation raises `TfliteError`.
"""

from __future__ import annotations

import struct

from bdd_tf.errors import BddError

IDENTIFIER = b"TFL3"
"""File identifier of TFLite's schema, at byte 4."""


class TfliteError(BddError):
    """A .tflite file that cannot be parsed; ``str()`` is one sentence without the path."""


def damaged(reason: str) -> TfliteError:
    """Build the error for an invalid file.

    Args:
        reason: Clause that describes the violation.
    """
    return TfliteError(f"the .tflite file is truncated or damaged: {reason}")


class Reader:
    """Reads scalars, vectors and offsets from a flatbuffer.

    Args:
        content: The whole file.

    Raises:
        TfliteError: (All methods) if an access would leave the file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = bytes(content)
        self._view = memoryview(self.content)
        # A valid file stores each element once. A malicious one may refer to the same long vector many times, which
        # would take unlimited time and memory. Therefore at most as many elements are read as the file has bytes.
        self._budget = len(self.content)

    def root(self) -> Table:
        """Return the root table.

        Raises:
            TfliteError: If the file is empty or has another identifier.
        """
        if not self.content:
            raise TfliteError("the .tflite file is empty (0 bytes)")
        if len(self.content) < 8 or self.content[4:8] != IDENTIFIER:
            raise TfliteError("this is not a .tflite file (the mark TFL3 is missing at byte 4)")
        return Table(self, self.follow(0))

    def scalar(self, position: int, kind: str) -> int:
        """Read one number.

        Args:
            position: Byte offset in the file.
            kind: Format character of `struct`, e.g. ``"I"``.
        """
        size = struct.calcsize(kind)
        self._check(position, size)
        value: int = struct.unpack_from(f"<{kind}", self.content, position)[0]
        return value

    def slice(self, position: int, length: int) -> memoryview:
        """Return ``length`` bytes from ``position``, without copying them."""
        self._check(position, length)
        return self._view[position : position + length]

    def follow(self, position: int) -> int:
        """Return the position that the relative offset stored at ``position`` refers to."""
        return position + self.scalar(position, "I")

    def vector(self, position: int, size: int) -> tuple[int, int]:
        """Locate a vector's elements.

        Args:
            position: Position of the vector.
            size: Bytes per element.

        Returns:
            Position of the first element, and number of elements.
        """
        count = self.scalar(position, "I")
        self._check(position + 4, count * size)
        return position + 4, count

    def spend(self, elements: int) -> None:
        """Charge elements to the budget.

        Raises:
            TfliteError: If more elements were read than the file has bytes.
        """
        self._budget -= elements
        if self._budget < 0:
            raise damaged("it refers to the same parts over and over")

    def _check(self, position: int, length: int) -> None:
        if position < 0 or position + length > len(self.content):
            raise damaged(f"it points to byte {position + length} of {len(self.content)}")


class Table:
    """One flatbuffer table. Fields are numbered as in the schema; absent fields read as 0 or empty.

    Args:
        reader: The file.
        position: Position of the table in the file.

    Attributes:
        reader: As given.
        position: As given.
        fields: Offset of each field from ``position``; 0 for absent fields.
    """

    def __init__(self, reader: Reader, position: int) -> None:
        self.reader = reader
        self.position = position
        vtable = position - reader.scalar(position, "i")
        size = reader.scalar(vtable, "H")
        if size < 4 or size % 2:
            raise damaged(f"a table of {size} bytes")
        reader.spend(size // 2)
        self.fields = struct.unpack(f"<{size // 2 - 2}H", reader.slice(vtable + 4, size - 4))

    def has(self, field: int) -> bool:
        """Return whether a field is present."""
        return field < len(self.fields) and self.fields[field] != 0

    def scalar(self, field: int, kind: str) -> int:
        """Read a number; see `Reader.scalar` for ``kind``."""
        return self.reader.scalar(self.position + self.fields[field], kind) if self.has(field) else 0

    def target(self, field: int) -> int:
        """Return the position that a field's offset refers to. The field must be present."""
        return self.reader.follow(self.position + self.fields[field])

    def vector(self, field: int) -> Tables:
        """Locate a vector of tables, without reading them."""
        first, count = self.reader.vector(self.target(field), 4) if self.has(field) else (0, 0)
        return Tables(self.reader, first, count)

    def tables(self, field: int) -> list[Table]:
        """Read a vector of tables."""
        tables = self.vector(field)
        self.reader.spend(len(tables))
        return [tables.table(index) for index in range(len(tables))]

    def integers(self, field: int) -> tuple[int, ...]:
        """Read a vector of int32."""
        if not self.has(field):
            return ()
        first, count = self.reader.vector(self.target(field), 4)
        self.reader.spend(count)
        return struct.unpack(f"<{count}i", self.reader.slice(first, 4 * count))

    def bytes_of(self, field: int) -> memoryview:
        """Return a vector of bytes, without copying it."""
        if not self.has(field):
            return memoryview(b"")
        return self.reader.slice(*self.reader.vector(self.target(field), 1))

    def copied_bytes(self, field: int) -> bytes:
        """Return a copy of a vector of bytes."""
        data = self.bytes_of(field)
        self.reader.spend(len(data))
        return bytes(data)

    def string(self, field: int) -> str:
        """Read a string; invalid UTF-8 is replaced."""
        return self.copied_bytes(field).decode(errors="replace")


class Tables:
    """A vector of tables, each of which is read when it is asked for.

    Args:
        reader: The file.
        first: Position of the first element.
        count: Number of elements; the vector lies within the file.
    """

    def __init__(self, reader: Reader, first: int, count: int) -> None:
        self._reader, self._first, self._count = reader, first, count

    def __len__(self) -> int:
        return self._count

    def table(self, index: int) -> Table:
        """Read element ``index``, which must lie in [0, ``len(self)``)."""
        return Table(self._reader, self._reader.follow(self._first + 4 * index))
