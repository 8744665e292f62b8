"""Parse flexbuffer maps, the format of custom operators' options in .tflite files."""

from __future__ import annotations

import struct
from contextlib import suppress

_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING, _INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT, _MAP = range(10)
_BOOL = 26
_FORMATS = {
    _INT: {1: "b", 2: "h", 4: "i", 8: "q"},
    _UINT: {1: "B", 2: "H", 4: "I", 8: "Q"},
    _BOOL: {1: "?", 2: "H", 4: "I", 8: "Q"},
    _FLOAT: {2: "e", 4: "f", 8: "d"},
}
_INDIRECT = {_INDIRECT_INT: _INT, _INDIRECT_UINT: _UINT, _INDIRECT_FLOAT: _FLOAT}


Scalar = int | float | bool | str | None


def read_flexbuffer_map(data: bytes) -> dict[str, Scalar]:
    """Parse a flexbuffer whose root is a map.

    Args:
        data: The whole flexbuffer.

    Returns:
        Values by key: numbers, booleans, strings and null. Values of other types (maps, vectors, blobs) are omitted.

    Raises:
        ValueError: If the root is not a map, or an offset leaves the data.
    """
    if len(data) < 3:
        raise ValueError(f"a flexbuffer of {len(data)} bytes")
    width, packed = data[-1], data[-2]
    if width not in (1, 2, 4, 8) or packed >> 2 != _MAP:
        raise ValueError("the root of the flexbuffer is not a map")
    start = _indirect(data, len(data) - 2 - width, width)
    width = 1 << (packed & 3)
    count = _uint(data, start - width, width)
    keys = _indirect(data, start - 3 * width, width)
    key_width = _uint(data, start - 2 * width, width)
    if key_width not in (1, 2, 4, 8):
        raise ValueError(f"keys of {key_width} bytes")
    if count * (width + 1) > len(data):
        raise ValueError(f"{count} values in {len(data)} bytes")
    result: dict[str, Scalar] = {}
    for index in range(count):
        key = _text(data, _indirect(data, keys + index * key_width, key_width))
        kind = _uint(data, start + count * width + index, 1)
        with suppress(_OtherTypeError):
            result[key] = _value(data, start + index * width, width, kind)
    return result


class _OtherTypeError(Exception):
    """The value is not a scalar."""


def _value(data: bytes, position: int, width: int, packed: int) -> Scalar:
    kind, own_width = packed >> 2, 1 << (packed & 3)
    if kind == _NULL:
        return None
    if kind in _INDIRECT:
        position, width, kind = _indirect(data, position, width), own_width, _INDIRECT[kind]
    if kind in _FORMATS:
        form = _FORMATS[kind].get(width)
        if form is None:
            raise ValueError(f"a number of {width} bytes")
        number: int | float = struct.unpack(f"<{form}", _slice(data, position, width))[0]
        return bool(number) if kind == _BOOL else number
    if kind == _KEY:
        return _text(data, _indirect(data, position, width))
    if kind == _STRING:
        start = _indirect(data, position, width)
        return _slice(data, start, _uint(data, start - own_width, own_width)).decode(errors="replace")
    raise _OtherTypeError


def _slice(data: bytes, position: int, length: int) -> bytes:
    if position < 0 or position + length > len(data):
        raise ValueError(f"byte {position + length} of {len(data)}")
    return data[position : position + length]


def _uint(data: bytes, position: int, width: int) -> int:
    return int.from_bytes(_slice(data, position, width), "little")


def _indirect(data: bytes, position: int, width: int) -> int:
    return position - _uint(data, position, width)


def _text(data: bytes, position: int) -> str:
    end = data.find(b"\0", position) if position >= 0 else -1
    if end < 0:
        raise ValueError("a key without a terminator")
    return data[position:end].decode(errors="replace")
