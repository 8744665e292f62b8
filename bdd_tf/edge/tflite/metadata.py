"""Read and write metadata in .tflite files."""

from __future__ import annotations

import json
import struct
from typing import Any

from bdd_tf.edge.tflite.file import TfliteModel, parse_tflite
from bdd_tf.edge.tflite.flatbuffer import IDENTIFIER, Reader, Table, TfliteError
from bdd_tf.edge.tflite.schema import BufferField, MetadataField, ModelField

METADATA_NAME = "bdd_tf"
"""Name of the metadata buffer that holds this package's JSON."""

METADATA_FORMAT = 1
"""Value of the key ``format`` in files with the key ``resize``: the network sees one resized image."""

VIEWS_FORMAT = 2
"""Value of the key ``format`` in files with the key ``views`` (the network sees native crops) or ``unsure`` (a band of
scores that are not decided): a reader of format 1 would pass over them."""

KNOWN_FORMATS = (METADATA_FORMAT, VIEWS_FORMAT)
"""Values of the key ``format`` that this package reads."""


def read_metadata(content: bytes | TfliteModel) -> dict[str, Any]:
    """Read this package's metadata.

    Args:
        content: A whole .tflite file, or the result of `parse_tflite`.

    Returns:
        The JSON object in the metadata buffer ``bdd_tf``. Its keys are not validated.

    Raises:
        TfliteError: If the file is damaged or has no such buffer, or the buffer does not hold a JSON object.
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


def embed_metadata(content: bytes, name: str, payload: bytes) -> bytes:
    """Add or replace one metadata entry of a .tflite file.

    The original bytes are kept unchanged behind a new root table. This works because the offsets of a flatbuffer are
    relative and point forwards. It preserves everything that this parser does not know, and the alignment of the
    weights, which rebuilding the file would lose. A replaced payload remains in the file as dead bytes.

    Args:
        content: A whole .tflite file.
        name: Name of the entry, e.g. `METADATA_NAME`.
        payload: Content of the entry.

    Returns:
        The new file; it is longer by the payload, four bytes per buffer, and about 200 bytes.

    Raises:
        TfliteError: If the file is damaged, has unknown root fields, or is larger than 2 GiB, in which case it uses
            absolute offsets.
    """
    model = parse_tflite(content)
    reader = Reader(content)
    root = reader.root()
    if len(root.fields) > len(ModelField):
        raise TfliteError("the .tflite file has fields that this version of bdd_tf does not know")
    buffers = root.tables(ModelField.BUFFERS)
    external = any(table.scalar(BufferField.OFFSET, "Q") > 1 for table in buffers)
    if len(content) + len(payload) > 2**31 - 2**20 or external:
        raise TfliteError("the .tflite file is too large (2 GiB) to write metadata into it")
    head = _Head(root)
    head.write_root(
        [table.position for table in buffers],
        [t.position for t in root.tables(ModelField.METADATA) if t.string(MetadataField.NAME) != name],
    )
    head.write_entry(name, payload)
    result = head.followed_by(content)
    written = parse_tflite(result)
    if bytes(written.metadata[name]) != payload or written.subgraphs != model.subgraphs:
        raise TfliteError("the .tflite file did not survive writing metadata into it; please report this")
    return result


class _Head:
    """The new front part of a file: root table, its vectors, and one metadata entry.

    Offsets between parts of the head are patched as soon as their target is written. Offsets into the original file
    are recorded, and patched when the length of the head is known.

    Args:
        root: Root table of the original file.
    """

    def __init__(self, root: Table) -> None:
        self._root = root
        self._content = bytearray(bytes(4) + IDENTIFIER)
        self._pending: list[
            tuple[int, int]
        ] = []  # position of an offset in the head, target in the original file
        self._new_buffer = self._new_entry = (
            0  # positions of the offsets to the new buffer and metadata entry
        )
        self._buffer_index = 0

    def write_root(self, buffers: list[int], entries: list[int]) -> None:
        """Write the root table and its vectors of buffers and metadata, each with room for one more element.

        Args:
            buffers: Positions of the buffers in the original file.
            entries: Positions of the metadata entries to keep.
        """
        root = self._root
        rewritten = (ModelField.BUFFERS, ModelField.METADATA)
        present = [4 + 4 * f if f in rewritten or root.has(f) else 0 for f in ModelField]
        vtable = self._write(struct.pack("<10H", 20, 36, *present))
        version = root.scalar(ModelField.VERSION, "I")
        table = self._write(struct.pack("<iI28x", len(self._content) - vtable, version), align=4)
        self._patch(0, table)
        for field in ModelField:
            if field not in (*rewritten, ModelField.VERSION) and root.has(field):
                self._pending.append((table + 4 + 4 * field, root.target(field)))
        self._new_buffer = self._write_vector(table + 4 + 4 * ModelField.BUFFERS, buffers)
        self._new_entry = self._write_vector(table + 4 + 4 * ModelField.METADATA, entries)
        self._buffer_index = len(buffers)

    def write_entry(self, name: str, payload: bytes) -> None:
        """Write the metadata entry and its buffer; the payload is aligned to 16 bytes."""
        self._write(struct.pack("<4H", 8, 12, 4, 8), align=4)
        entry = self._write(struct.pack("<iII", 8, 0, self._buffer_index))
        self._patch(self._new_entry, entry)
        encoded = name.encode()
        self._patch(entry + 4, self._write(struct.pack("<I", len(encoded)) + encoded + b"\0", align=4))
        self._write(struct.pack("<3H2x", 6, 8, 4), align=4)
        buffer = self._write(struct.pack("<iI", 8, 0))
        self._patch(self._new_buffer, buffer)
        self._align(16, after=4)
        self._patch(buffer + 4, self._write(struct.pack("<I", len(payload)) + payload))
        self._align(64)

    def followed_by(self, content: bytes) -> bytes:
        """Return the head followed by the original file, with all offsets patched."""
        for position, target in self._pending:
            self._patch(position, len(self._content) + target)
        return bytes(self._content) + content

    def _write_vector(self, field: int, targets: list[int]) -> int:
        """Write a vector of offsets into the original file; return the position of the additional last element."""
        count = len(targets) + 1
        vector = self._write(struct.pack("<I", count) + bytes(4 * count), align=4)
        self._patch(field, vector)
        self._pending += [(vector + 4 + 4 * index, target) for index, target in enumerate(targets)]
        return vector + 4 * count

    def _align(self, size: int, after: int = 0) -> None:
        self._content += bytes(-(len(self._content) + after) % size)

    def _write(self, data: bytes, align: int = 1) -> int:
        self._align(align)
        self._content += data
        return len(self._content) - len(data)

    def _patch(self, position: int, target: int) -> None:
        struct.pack_into("<I", self._content, position, target - position)
