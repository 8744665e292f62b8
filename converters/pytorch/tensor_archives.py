"""Read the tensors of PyTorch's zip archives without PyTorch: what torch.save writes, and TorchScript (torch.jit.save).

OpenAI publishes CLIP as TorchScript. Such an archive holds code, which this module never looks at. Its ``data.pkl`` is a
pickle. Here it is interpreted by an unpickler that knows nothing but containers and tensors: a name of any class or function
becomes an inert object or an error. Every size is checked against the file before memory is allocated.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf.errors import BddError

#: Largest accepted size of ``data.pkl`` in bytes; CLIP's has 0.2 MB.
_PICKLE_LIMIT = 64 * 2**20
#: Deepest nesting of modules.
_DEPTH = 64
#: Torch's storages: NumPy type of the stored numbers. bfloat16 is the upper half of a float32.
_STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}


@dataclass(frozen=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    elements: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor that has not been read: a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Module:
    """An instance of a TorchScript class; its attributes are those of the pickle."""


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor's description is damaged")
    if len(shape) != len(strides) or len(shape) > 8:
        raise pickle.UnpicklingError(
            "a tensor's shape and strides differ in length, or it has more than 8 axes"
        )
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


def _typed(value: Any, *rest: Any) -> Any:
    return value


#: Names that the pickle may refer to. All functions are inert.
_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.jit._pickle", "restore_type_tag"): _typed,
    **{("torch.jit._pickle", f"build_{kind}list"): _typed for kind in ("int", "double", "bool", "tensor")},
}


# The implementation in Python: the one in C allocates memory for any index of its memo that a file states.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        raise pickle.UnpicklingError(f"it refers to {module[:80]}.{name[:80]}")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("a storage's description is damaged")
        _, kind, key, _, elements = pid[:5]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or type(elements) is not int:
            raise pickle.UnpicklingError("a storage's description is damaged")
        return _Storage(kind.dtype, key, elements)


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of torch.jit.save."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of an archive.

    Args:
        path: A zip archive written by torch.save (a state dict, or a dict that holds one as ``state_dict`` or ``model``) or
            by torch.jit.save (a module). Its members must not be compressed.

    Returns:
        Arrays by name: floats as float32, integers as int64. Of a module, parameters and buffers by their path.

    Raises:
        BddError: If the file is damaged, refers to anything but tensors and containers, or holds no tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except pickle.UnpicklingError as error:
        raise BddError(
            f"{path} cannot be read without executing code: {error}. Nothing was executed."
        ) from error
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        RecursionError,
        OverflowError,
    ) as error:
        raise BddError(f"{path} is damaged: {error or type(error).__name__}.") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, RuntimeError) as error:
        raise BddError(f"{path} is not a PyTorch checkpoint, or is damaged: {str(error)[:200]!r}.") from error


def _read(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise BddError(f"{path} is a zip archive without PyTorch's data.pkl.")
    root = pickles[0].partition("/")[0]
    if members[pickles[0]].file_size > _PICKLE_LIMIT:
        raise BddError(f"{path} is damaged: its data.pkl has more than {_PICKLE_LIMIT:,} bytes.")
    order = members.get(f"{root}/byteorder")
    if order is not None and archive.read(order)[:8] != b"little":
        raise BddError(f"{path} was written on a big-endian machine; save it again on a usual one.")
    content = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
    tensors = _named_tensors(content)
    if not tensors:
        raise BddError(f"{path} is not a state dict: it holds no tensors by name.")
    total = sum(math.prod(t.shape) * _itemsize(t.storage.dtype) for t in tensors.values())
    if total > path.stat().st_size:
        raise BddError(f"{path} describes tensors of {total:,} bytes, more than it has; it is damaged.")
    return {name: _array(archive, members, root, name, tensor) for name, tensor in tensors.items()}


def _named_tensors(content: Any) -> dict[str, _Tensor]:
    """Find the tensors of a state dict or of a TorchScript module, by name."""
    if isinstance(content, _Module):
        found: dict[str, _Tensor] = {}
        _walk(content, "", found, set(), 0)
        return found
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    strange = [str(key)[:80] for key, value in content.items() if not isinstance(value, _Tensor)]
    if strange or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{len(strange)} entries are not plain tensors: {', '.join(strange[:5])}")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _walk(module: _Module, prefix: str, found: dict[str, _Tensor], seen: set[int], depth: int) -> None:
    if depth > _DEPTH or id(module) in seen:
        raise ValueError("its modules are nested in a cycle or too deeply")
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, _Tensor):
            found[f"{prefix}{name}"] = value
        elif isinstance(value, _Module):
            _walk(value, f"{prefix}{name}.", found, seen, depth + 1)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _array(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str, name: str, tensor: _Tensor
) -> np.ndarray:
    storage = tensor.storage
    info = members.get(f"{root}/data/{storage.key}")
    if info is None:
        raise BddError(f"{archive.filename} is damaged: the numbers of {name[:80]} are missing.")
    size = storage.elements * _itemsize(storage.dtype)
    if info.file_size != size or info.compress_type != zipfile.ZIP_STORED:
        raise BddError(
            f"{archive.filename} is damaged: the numbers of {name[:80]} take {info.file_size:,} bytes instead of {size:,}, "
            "or are compressed."
        )
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and last >= storage.elements:
        raise BddError(f"{archive.filename} is damaged: {name[:80]} exceeds its storage.")
    flat = numbers(archive.read(info), storage.dtype)
    strides = [s * flat.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(tensor.shape)


def numbers(content: bytes, dtype: str) -> np.ndarray:
    """Decode stored numbers.

    Args:
        content: Little-endian numbers.
        dtype: A NumPy type, or ``"bfloat16"``.

    Returns:
        float32 [n] for floats, int64 [n] for integers and booleans.
    """
    if dtype == "bfloat16":
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    found = np.frombuffer(content, dtype)
    return found.astype(np.float32 if found.dtype.kind == "f" else np.int64)
