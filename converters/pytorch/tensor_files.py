"""Read safetensors files and NumPy archives without PyTorch. Nothing in them is code; every size is checked before use."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf.errors import BddError
from converters.pytorch.tensor_archives import numbers

#: Largest accepted header of a safetensors file in bytes, as the format's own library has it.
_HEADER_LIMIT = 100_000_000
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "<u1",
}
_SIZES = {name: 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize for name, dtype in _TYPES.items()}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: The file.

    Returns:
        Arrays by name (floats as float32, integers as int64), and the metadata.

    Raises:
        BddError: If the file is damaged.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_HEADER_LIMIT, size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
            about = header.pop("__metadata__", {})
            places = {name: _place(name, entry, size - 8 - length) for name, entry in header.items()}
            if sum(stop - start for start, stop, _, _ in places.values()) > size - 8 - length:
                raise ValueError("its tensors overlap")
            tensors = {}
            for name, (start, stop, dtype, shape) in places.items():
                file.seek(8 + length + start)
                tensors[name] = numbers(file.read(stop - start), dtype).reshape(shape)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BddError(f"{path} is not a safetensors file, or is damaged: {str(error)[:200]}.") from error
    if not tensors:
        raise BddError(f"{path} holds no tensors.")
    return tensors, {str(key): str(value) for key, value in about.items()}


def _place(name: str, entry: dict[str, Any], available: int) -> tuple[int, int, str, list[int]]:
    """Check the description of a tensor; return its first and last byte, type and shape."""
    dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _TYPES:
        raise ValueError(f"{name[:80]} has the type {str(dtype)[:20]}")
    if len(shape) > 8 or not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
        raise ValueError(f"the shape or place of {name[:80]} is impossible")
    if stop > available or stop - start != math.prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{name[:80]} does not fit its place in the file")
    return start, stop, _TYPES[dtype], shape


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read a NumPy archive whose members are not compressed, as the original ViT is published.

    Args:
        path: The file.

    Returns:
        Arrays by name: floats as float32, integers as int64.

    Raises:
        BddError: If the file is damaged, or holds anything but numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if any(info.compress_type != zipfile.ZIP_STORED for info in members):
                raise ValueError("it is compressed, which numpy.savez never does")
            found = {info.filename.removesuffix(".npy"): _npy(archive.read(info)) for info in members}
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        ValueError,
        TypeError,
        SyntaxError,
    ) as error:
        raise BddError(f"{path} is not a NumPy archive, or is damaged: {str(error)[:200]}.") from error
    if not found:
        raise BddError(f"{path} holds no arrays.")
    return found


def _npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    rest = content[file.tell() :]
    if dtype.kind not in "fiub" or dtype.hasobject or fortran or dtype.byteorder == ">":
        raise ValueError(f"an array of type {dtype} or in Fortran order")
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"an array of shape {shape} has {len(rest)} bytes")
    return numbers(rest, dtype.str).reshape(shape)
