"""Read and write PyTorch checkpoints and safetensors files without executing code from them.

Of the converters, only this module imports torch. Archives of TorchScript and NumPy are read without it, and so are the
usual formats where torch is not installed; only checkpoints older than PyTorch 1.6, bare pickles, need it.
"""

from __future__ import annotations

import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import replace_atomically
from converters.pytorch import tensor_archives, tensor_files

#: Largest accepted size of a file in bytes. The largest published BNext has 1.3 GB.
SIZE_LIMIT = 8 * 2**30
#: Number of offending entries that an error message lists.
_LISTED = 5
#: Largest number of characters of a foreign message that an error message repeats.
_LINE = 200
#: Number of pickle instructions that are searched for the first global.
_SEARCHED = 1000
#: Prefix of the key of a weight in Keras' layout, before layer and index.
KERAS_PREFIX = "keras."


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    Attributes:
        tensors: Arrays by key, without the prefix that DataParallel adds. Floats are float32, integers int64.
        hyper_parameters: Lightning's hyper-parameters, or the metadata of a safetensors file, by name.
    """

    tensors: dict[str, np.ndarray]
    hyper_parameters: dict[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The family of its names: ``keras`` (Keras' layout), ``detector`` (the reference's), ``bnext``, else ``vision``."""
        if any(key.startswith(KERAS_PREFIX) for key in self.tensors):
            return "keras"
        if any(key.startswith("base_model.") for key in self.tensors):
            return "detector"
        return "bnext" if any(key.startswith("feature.") for key in self.tensors) else "vision"


def _torch() -> tuple[Any, Any]:
    """Import torch and safetensors.torch."""
    try:
        import safetensors.torch
        import torch
    except ImportError as error:
        raise BddError(
            f"PyTorch weights need the package {error.name}, which is not installed: pip install 'bdd_tf[torch]'."
        ) from error
    return torch, safetensors.torch


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: A file written by torch.save (a state dict, or a dict with ``state_dict``, as Lightning writes it), a
            safetensors file, an archive of torch.jit.save, or one of numpy.savez (``.npz``).

    Returns:
        Its tensors and hyper-parameters.

    Raises:
        UsageError: If there is no such file.
        BddError: If the file is damaged, holds anything but tensors, or cannot be read without executing its code.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no such checkpoint: {path}")
    if not path.is_file():
        raise UsageError(
            f"{path} is not a file; give the checkpoint itself (.pth.tar, .pt, .ckpt, .safetensors)."
        )
    size = path.stat().st_size
    if not size:
        raise BddError(f"{path} is empty (0 bytes); download it again.")
    if size > SIZE_LIMIT:
        raise BddError(f"{path} has {size:,} bytes; checkpoints may have {SIZE_LIMIT:,} at most.")
    has_torch = util.find_spec("torch") is not None and util.find_spec("safetensors") is not None
    if path.suffix == ".safetensors" and not has_torch:
        tensors, about = tensor_files.read_safetensors(path)
        return Checkpoint(tensors, dict(about))
    if path.suffix == ".safetensors":
        return _from_safetensors(path, _torch()[0])
    if tensor_archives.is_torchscript(path):  # its code is compressed, its tensors are not
        return Checkpoint(tensor_archives.read_archive(path))
    _check_zip(path, size)
    if path.suffix == ".npz":
        return Checkpoint(tensor_files.read_npz(path))
    if not has_torch and zipfile.is_zipfile(path):
        return Checkpoint(tensor_archives.read_archive(path))
    torch, _ = _torch()
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
    """Refuse archives without an end, and compressed ones: torch.save never compresses, and they could unpack to any size."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                raise BddError(
                    f"{path} is damaged: it begins as a zip archive and has no end, as after an incomplete download "
                    f"({size:,} bytes); download it again."
                )
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BddError(f"{path} is damaged: {error}") from error
    unpacked = sum(m.file_size for m in members)
    if unpacked > size or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise BddError(
            f"{path} is a compressed archive ({size:,} bytes that unpack to {unpacked:,}), which torch.save never "
            "writes. Give the checkpoint itself."
        )


def _load(path: Path, torch: Any) -> object:
    try:
        with warnings.catch_warnings():
            # Warnings about pickle protocols: a file that cannot be read raises an error anyway.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand)):? `?([\w.]+)", str(error))
        if named:
            what = named.group(1)
            if what.isdigit():  # a pickle instruction that torch's unpickler does not support
                what = _first_global(path) or f"pickle instruction {what}"
            raise BddError(
                f"{path} cannot be read without executing code: it refers to {what}. Nothing was executed. On a machine "
                "where you trust the file, save the state dict alone (torch.save(model.state_dict(), ...)) and import "
                "that."
            ) from error
        raise BddError(f"{path} is not a PyTorch checkpoint, or is damaged: {_first_line(error)}") from error
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
        raise BddError(f"{path} is not a PyTorch checkpoint, or is damaged: {_first_line(error)}") from error


def _first_global(path: Path) -> str | None:
    """Return the first global that a bare pickle refers to, read from its instructions without executing them."""
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
    # torch's messages are long. Keep whole sentences as far as they fit.
    return line if len(line) <= _LINE else line[:_LINE].rpartition(". ")[0] or line[:_LINE]


def _from_safetensors(path: Path, torch: Any) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BddError(f"{path} is not a safetensors file, or is damaged: {_first_line(error)}") from error
    return Checkpoint(_arrays(path, tensors, torch), about)


def _arrays(path: Path, values: dict, torch: Any) -> dict[str, np.ndarray]:
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
        what = f"{len(strange)} entries are not plain tensors: {listed}" if strange else "it is empty"
        raise BddError(f"{path} is not a state dict of plain tensors: {what}.")
    elements = sum(value.numel() for value in values.values())
    if 4 * elements > SIZE_LIMIT:  # a strided view can repeat one element any number of times
        raise BddError(f"{path} describes tensors of {elements:,} numbers, more than any BNext has.")
    return {
        key.removeprefix("module."): value.to(
            torch.float32 if value.is_floating_point() else torch.int64
        ).numpy()
        for key, value in values.items()
    }


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The suffix ``.safetensors`` selects that format; any other name is written by torch.save in Lightning's
            layout.
        checkpoint: Its content. A safetensors file stores the hyper-parameters as text.
    """
    torch, safetensors = _torch()
    tensors = {key: torch.from_numpy(value.copy()) for key, value in checkpoint.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        if path.suffix == ".safetensors":
            about = {key: str(value) for key, value in checkpoint.hyper_parameters.items()}
            safetensors.save_file(tensors, temporary, metadata=about)
        else:
            values = {"state_dict": tensors, "hyper_parameters": dict(checkpoint.hyper_parameters)}
            torch.save(values, temporary)
