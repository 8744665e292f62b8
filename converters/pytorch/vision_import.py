"""Turn a recognised checkpoint of a vision network into a detector with an untrained classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.models import registry
from bdd_tf.presets import experiment
from bdd_tf.training.weights import build
from converters.pytorch.state_dict import check_state, load_state
from converters.pytorch.vision_layouts import VisionCheckpoint, recognise

#: Bytes that are hashed at a time.
_PART = 2**22


@dataclass(frozen=True)
class Imported:
    """A network with the weights of a file.

    Attributes:
        config: Its experiment.
        model: The detector; its classifier has random weights.
        about: Values for ``imported.json``: file, size, SHA-256, layout, parts that were left out.
    """

    config: Experiment
    model: Any
    about: dict


def import_vision(
    tensors: Mapping[str, np.ndarray], path: Path, backbone: str | None, dataset: str | None
) -> Imported:
    """Import a vision network.

    Args:
        tensors: Arrays by name.
        path: The file that they come from.
        backbone: Value of ``--backbone``; None: by the file.
        dataset: Data set that the run names.

    Returns:
        The network.

    Raises:
        UsageError: As :func:`converters.pytorch.vision_layouts.recognise`.
        BddError: As that function, or if tensors are missing, unexpected, misshapen or not finite.
    """
    found = recognise(tensors, path, backbone)
    check_state(found.tensors, found.entries)
    own = registry.backbone(found.backbone).normalisation
    config = experiment(
        "paper",
        backbone=found.backbone,
        channels=("rgb",),
        dataset=dataset or "cifake",
        resolution=found.resolution,
        normalisation=None if found.normalisation == own else found.normalisation,
    )
    model = build(config)
    load_state(model, found.tensors, found.entries)
    _tell(found, config, path)
    about = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": file_digest(path),
        "layout": found.layout,
        "left_out": found.left_out,
    }
    return Imported(config, model, about)


def _tell(found: VisionCheckpoint, config: Experiment, path: Path) -> None:
    if found.reason:
        say(f"{path.name}: {found.reason}, so {found.backbone}; --backbone selects another one")
    used = sum(entry.layer is not None for entry in found.entries)
    say(
        f"{path.name}: {used} tensors of {found.layout} for {found.backbone} at {found.resolution} px, normalisation "
        f"{config.statistics}" + (f"; left out: {', '.join(found.left_out)}" if found.left_out else "")
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
