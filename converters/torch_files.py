"""Reads PyTorch checkpoints and safetensors without running anything that is in them; the one place that needs torch."""

from __future__ import annotations

import itertools
import os
import pickle
import pickletools
import re
import tempfile
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bdd_tf.errors import BddError, UsageError

#: Larger files are refused; the largest published BNext takes 1.3 GB.
SIZE_LIMIT = 8 * 2**30
_LISTED = 5
_LINE = 200
#: Pickle instructions that are searched for what a file would call.
_SEARCHED = 1000


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: Arrays by key, as in the file, without the prefix that DataParallel adds; float32, or int64
            where the file has integers.
        hyper_parameters: Lightning's, or the metadata of a safetensors file; plain values by name.
    """

    tensors: dict[str, np.ndarray]
    hyper_parameters: dict[str, object] = field(default_factory=dict)


def _torch():  # noqa: ANN202 (a module)
    try:
        import safetensors.torch
        import torch
    except ImportError as error:
        raise BddError(
            f"reading PyTorch weights needs {error.name}, which is not installed: pip install 'bdd_tf[torch]'."
        ) from error
    return torch, safetensors.torch


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: A file of torch.save (a state dict, or a dict with ``state_dict``, as Lightning writes it), or of
            safetensors.

    Returns:
        Its tensors and hyper-parameters.

    Raises:
        UsageError: If there is no such file.
        BddError: If it is damaged, holds other things than tensors, or cannot be read without running code in it.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no such checkpoint: {path}")
    if not path.is_file():
        raise UsageError(
            f"{path} is no file; give the checkpoint itself (.pth.tar, .pt, .ckpt, .safetensors)."
        )
    size = path.stat().st_size
    if not size:
        raise BddError(f"{path} is empty (0 bytes); download it again.")
    if size > SIZE_LIMIT:
        raise BddError(f"{path} has {size:,} bytes, more than any BNext ({SIZE_LIMIT:,} are read at most).")
    torch, safetensors = _torch()
    if path.suffix == ".safetensors":
        return _from_safetensors(path, torch, safetensors)
    _check_zip(path, size)
    values = _load(path, torch)
    hyper_parameters = {}
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        found = values.get("hyper_parameters")
        hyper_parameters = dict(found) if isinstance(found, dict) else {}
        values = values["state_dict"]
    if not isinstance(values, dict):
        raise BddError(f"{path} holds a {type(values).__name__}, not a state dict (tensors by name).")
    return Checkpoint(_arrays(path, values, torch), hyper_parameters)


def _check_zip(path: Path, size: int) -> None:
    """torch stores its archives uncompressed: whatever unpacks to more than the file is no checkpoint."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BddError(f"{path} is damaged: {error}") from error
    unpacked = sum(m.file_size for m in members)
    if unpacked > size or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise BddError(
            f"{path} is a compressed archive ({unpacked:,} bytes unpacked from {size:,}); torch.save writes none. "
            f"Give the checkpoint itself."
        )


def _load(path: Path, torch: object) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of pickle protocols: either it can be read or the error says why
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand)):? `?([\w.]+)", str(error))
        if named:
            what = named.group(1)
            if what.isdigit():  # a pickle instruction that torch's reader does not know
                what = _first_global(path) or f"pickle instruction {what}"
            raise BddError(
                f"{path} cannot be read without running code: it names {what}. Nothing was run. Save the "
                f"state dict alone (torch.save(model.state_dict(), ...)) where you trust the file, and import that."
            ) from error
        raise BddError(f"{path} is no PyTorch checkpoint, or is damaged: {_first_line(error)}") from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OSError,
    ) as error:
        raise BddError(f"{path} is no PyTorch checkpoint, or is damaged: {_first_line(error)}") from error


def _first_global(path: Path) -> str | None:
    """What a bare pickle would look up first, read from its instructions without following them."""
    texts: list[str] = []
    try:
        with path.open("rb") as file:
            for instruction, value, _ in itertools.islice(pickletools.genops(file), _SEARCHED):
                if instruction.name == "GLOBAL":
                    return str(value).replace(" ", ".")
                if instruction.name == "STACK_GLOBAL":
                    return ".".join(texts[-2:])
                if isinstance(value, str):
                    texts.append(value[:_LINE])
    except (ValueError, OSError):
        pass
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    if not text:
        return type(error).__name__
    line = text.splitlines()[0]
    # torch says much; whole sentences, as many as fit.
    return line if len(line) <= _LINE else line[:_LINE].rpartition(". ")[0] or line[:_LINE]


def _from_safetensors(path: Path, torch: object, safetensors: object) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BddError(f"{path} is no safetensors file, or is damaged: {_first_line(error)}") from error
    return Checkpoint(_arrays(path, tensors, torch), about)


def _arrays(path: Path, values: dict, torch: object) -> dict[str, np.ndarray]:
    strange = [
        f"{key!s:.80} ({type(value).__name__})"
        for key, value in values.items()
        if not isinstance(key, str) or not isinstance(value, torch.Tensor)
    ]
    strange += [
        f"{key} ({value.dtype}, {value.layout})"
        for key, value in values.items()
        if isinstance(value, torch.Tensor)
        and (
            value.layout != torch.strided
            or value.is_quantized
            or value.is_complex()
            or value.device.type != "cpu"
        )
    ]
    if strange or not values:
        listed = ", ".join(strange[:_LISTED]) + (", ..." if len(strange) > _LISTED else "")
        what = f"{len(strange)} entries are no plain tensors: {listed}" if strange else "it is empty"
        raise BddError(f"{path} does not hold a state dict of plain tensors: {what}.")
    elements = sum(value.numel() for value in values.values())
    if 4 * elements > SIZE_LIMIT:  # a view may repeat one element without end
        raise BddError(f"{path} describes {elements:,} numbers, more than any BNext has.")
    return {
        key.removeprefix("module."): value.to(
            torch.float32 if value.is_floating_point() else torch.int64
        ).numpy()
        for key, value in values.items()
    }


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a state dict with hyper-parameters, atomically: safetensors by suffix, else as Lightning lays it out.

    Args:
        path: ``.safetensors``, or any other name for torch.save.
        checkpoint: Arrays and plain values; a safetensors file takes the values as text.
    """
    torch, safetensors = _torch()
    tensors = {key: torch.from_numpy(value.copy()) for key, value in checkpoint.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        if path.suffix == ".safetensors":
            about = {key: str(value) for key, value in checkpoint.hyper_parameters.items()}
            safetensors.save_file(tensors, temporary, metadata=about)
        else:
            values = {"state_dict": tensors, "hyper_parameters": dict(checkpoint.hyper_parameters)}
            torch.save(values, temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
