"""`bdd info` of a PyTorch checkpoint: which network it holds, and the command that imports it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdd_tf.commands.info_costs import costs_of, weight_kind
from bdd_tf.errors import BddError

if TYPE_CHECKING:
    import numpy as np

    from bdd_tf.models.operation_counts import Operations
    from converters.pytorch.checkpoint_files import Checkpoint
    from converters.pytorch.vision_layouts import VisionCheckpoint


def checkpoint_contents(file: Path) -> dict[str, Any]:
    """Examine a checkpoint.

    Args:
        file: A checkpoint that `bdd convert --from-torch` reads: a BNext, a network of :mod:`bdd_tf.pytorch.train`, CLIP,
            ViT-B/32 or ResNet50.

    Returns:
        The keys of :func:`bdd_tf.commands.info.inform`, and ``import``, the commands that import it: several if nothing tells
        which of them is right. Of a vision network also ``layout`` in words, ``normalisation`` (its name), ``left_out``
        (parts that are not imported), ``file_parameters`` (with them) and ``sha256``; ``parameters`` are those of the image
        network.

    Raises:
        BddError: If it is no supported network, or is damaged.
    """
    try:
        from converters.pytorch.checkpoint_files import read_checkpoint
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "converters":
            raise
        raise BddError("reading checkpoints needs the source tree: run this command in a clone.") from error
    checkpoint = read_checkpoint(file)
    examine = {"vision": _vision, "keras": _graph}.get(checkpoint.kind, _bnext)
    return examine(file, checkpoint)


def normalisation_in_words(name: str) -> str:
    """Return a normalisation with its numbers."""
    from bdd_tf.models.normalisation import NORMALISATIONS

    mean, deviation = (", ".join(f"{value:.4g}" for value in values) for values in NORMALISATIONS[name])
    return f"{name}: mean {mean}; deviation {deviation}"


def _bnext(file: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Examine a BNext, alone or in a detector."""
    from converters.pytorch.state_dict import is_parameter, size_of

    tensors = checkpoint.tensors
    size = size_of(tensors, "base_model." if checkpoint.kind == "detector" else "")
    adapter = tensors.get("adapter.weight")
    return {
        "kind": "checkpoint",
        "backbone": size,
        "channels": None if adapter is None else ["rgb", *["?"] * (adapter.shape[1] - 3)],
        "resolution": 224,
        "views": None,
        "parameters": sum(
            a.size for k, a in tensors.items() if a.dtype.kind == "f" and "temperature" not in k
        ),
        "torch_parameters": sum(a.size for k, a in tensors.items() if is_parameter(k)),
        **_costs(size, 224),
        **_bytes(file, tensors),
        "operators": {},
        "metadata": {
            k: v for k, v in checkpoint.hyper_parameters.items() if isinstance(v, str | int | float)
        },
        "import": [_command(file, size)],
    }


def _graph(file: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Examine a network in Keras' layout, which :mod:`bdd_tf.pytorch.train` writes with its settings."""
    from converters.pytorch.keras_weights import stored_experiment

    config = stored_experiment(checkpoint, file)
    return {
        "kind": "checkpoint",
        "backbone": config.backbone,
        "channels": list(config.channels),
        "resolution": config.resolution,
        "views": None,
        "parameters": sum(a.size for a in checkpoint.tensors.values()),
        "torch_parameters": None,
        **_costs(config.backbone, config.resolution, config.channels),
        **_bytes(file, checkpoint.tensors),
        "operators": {},
        "metadata": config.to_dict(),
        "import": [_command(file, config.backbone)],
    }


def _vision(file: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Examine CLIP, a ViT or a ResNet50."""
    from converters.pytorch.state_dict import check_state, is_parameter
    from converters.pytorch.vision_import import file_digest

    found, names = _recognised(file, checkpoint)
    check_state(found.tensors, found.entries)
    # Without the counter of batches, which is no weight.
    numbers = {e.key: found.tensors[e.key] for e in found.entries if e.layer}
    several = len(names) > 1
    return {
        "kind": "checkpoint",
        "backbone": " or ".join(names),
        "channels": ["rgb"],
        "resolution": found.resolution,
        "views": None,
        "layout": "; ".join(part for part in (found.layout, found.reason) if part)
        + ("; nothing tells QuickGELU from GELU" if several else ""),
        "normalisation": found.normalisation,
        "parameters": sum(a.size for a in numbers.values()),
        "torch_parameters": sum(a.size for k, a in numbers.items() if is_parameter(k)),
        "left_out": found.left_out,
        "file_parameters": sum(a.size for a in checkpoint.tensors.values() if a.dtype.kind == "f"),
        **_costs(found.backbone, found.resolution),
        "bytes": file.stat().st_size,
        # Numbers are read as float32, whatever their type in the file (OpenAI's archives are half precision).
        "bytes_by_kind": {},
        "operators": {},
        "metadata": {},
        "sha256": file_digest(file),
        "import": [_command(file, name, f" --backbone {name}" * several) for name in names],
    }


def _recognised(file: Path, checkpoint: Checkpoint) -> tuple[VisionCheckpoint, list[str]]:
    """Return the network, and the names of the backbones that fit: several if nothing tells the activation."""
    from converters.pytorch.vision_layouts import UnknownActivation, recognise

    try:
        found = recognise(checkpoint.tensors, file)
    except UnknownActivation as error:
        return recognise(checkpoint.tensors, file, error.fitting[0]), error.fitting
    return found, [found.backbone]


def _command(file: Path, run: str, options: str = "") -> str:
    return f"bdd convert --from-torch {shlex.quote(str(file))}{options} --run {run}"


def _costs(backbone: str, resolution: int, channels: Sequence[str] = ("rgb",)) -> dict[str, Any]:
    from bdd_tf.models.detector import build_detector
    from bdd_tf.models.operation_counts import count_operations

    counts: Operations = count_operations(build_detector(backbone, resolution, channels))
    return costs_of(counts.binary_macs, counts.float_macs, backbone)


def _bytes(file: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Return the file's size and, by kind of tensor, the bytes of its numbers as they are imported."""
    sizes: dict[str, int] = {}
    for key, array in tensors.items():
        # [1, C, 1, 1] and [C] alike: one number per channel.
        rank = sum(side > 1 for side in array.shape)
        kind = weight_kind(2 if rank > 1 else 1, key.endswith("binary_conv.weight"))
        sizes[kind] = sizes.get(kind, 0) + array.nbytes
    total = file.stat().st_size
    sizes["structure"] = total - sum(sizes.values())
    return {"bytes": total, "bytes_by_kind": sizes}
