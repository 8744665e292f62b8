"""`bdd convert --from-torch`: published PyTorch weights as a run folder; `--to-torch`: a run as a PyTorch state dict.

Two kinds of checkpoint are known: BNext trained on ImageNet (a start for ``INIT=``), and the reference detector of
Lanzino et al., which becomes a whole run. The function is carried over exactly; what decides that stands with each
tensor in :mod:`converters.torch_state`.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bdd_tf.channels import parse_channels
from bdd_tf.config import Experiment, experiment, write_atomically
from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.sizes import BNEXT
from bdd_tf.runs import RUNS_DIR, Run, existing_run, run_named
from bdd_tf.training import HISTORY, build, load_trained, save_weights, say, write_history
from converters.torch_files import Checkpoint, read_checkpoint, write_checkpoint
from converters.torch_state import (
    check_state,
    detector_entries,
    dump_state,
    imagenet_entries,
    load_state,
    size_of,
)

#: Hyper-parameter of the reference detector: our channel, in the order of concatenation.
CHANNEL_FLAGS = {"add_magnitude_channel": "sobel", "add_fft_channel": "fft", "add_lbp_channel": "lbp"}
#: How the reference's checkpoints are named (cifake_T_unfrozen.ckpt).
_DATASETS = {"cifake": "cifake", "dffd": "dffd", "cocofake": "cocofake", "coco": "cocofake"}
_OURS = "bdd_tf"
_HISTORY = "bdd_tf_history"
_TRAINER = "bdd_tf_trainer"
#: In front of layer and index of a weight that lies as Keras has it.
KERAS_PREFIX = "keras."


def import_checkpoint(
    path: str | Path,
    name: str,
    runs_dir: Path = Path(RUNS_DIR),
    *,
    channels: tuple[str, ...] | None = None,
    dataset: str | None = None,
) -> Run:
    """Make a run folder from a checkpoint.

    Args:
        path: The checkpoint.
        name: Name of the new run.
        runs_dir: Where runs lie.
        channels: For a detector's checkpoint without hyper-parameters: its channels.
        dataset: What it was trained on, where neither its hyper-parameters nor its name tell.

    Returns:
        The run: ``config.yaml`` and ``model.weights.h5``.

    Raises:
        UsageError: If the run exists, or the options contradict the file.
        BddError: If the file does not hold what it should; nothing is written then.
    """
    run = run_named(name, runs_dir)
    if run.path.exists():
        raise UsageError(f"{run.path} exists; choose another name with --run.")
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors
    notes = _notes(checkpoint)
    if any(key.startswith(KERAS_PREFIX) for key in tensors):
        return _import_keras(checkpoint, run, path)
    if any(key.startswith("base_model.") for key in tensors):
        size = size_of(tensors, "base_model.")
        config = _detector_config(checkpoint, size, Path(path).name, channels, dataset)
        entries = detector_entries(size, len(config.channels) - 1)
    else:
        size = size_of(tensors)
        if channels not in (None, ("rgb",)):
            raise UsageError(
                "a checkpoint of BNext alone has no adapter for channels: import it without --channels, and give "
                "the channels to `bdd train --init`."
            )
        config = experiment("paper", backbone=size, channels=("rgb",), dataset=dataset or "cifake")
        entries = imagenet_entries(size)
    for remark in check_state(tensors, entries):
        say(f"warning: {remark}")
    model = build(config)
    assigned = load_state(model, tensors, entries)
    _write(run, config, model, notes)
    say(f"{run.path}: {assigned} weights of {config.backbone} from {path}")
    if entries[-1].key != "fc.bias" or entries[-1].layer is None:
        say(
            f"its classifier is untrained, since the file is BNext alone: train with --init {run.name} "
            f"--backbone {config.backbone} (--freeze 1 keeps the backbone)."
        )
    return run


def _import_keras(checkpoint: Checkpoint, run: Run, path: str | Path) -> Run:
    """A network that was trained as a graph (:mod:`converters.torch_graph`): its weights lie as Keras has them."""
    from converters.keras_graph import load_arrays

    if _OURS not in checkpoint.hyper_parameters:
        raise BddError(f"{path} does not say what it is: it has no {_OURS} settings.")
    config = _exported_config(checkpoint.hyper_parameters[_OURS])
    if config.backbone in BNEXT:
        raise BddError(f"{path} calls itself {config.backbone}, but its tensors are named as a rival's.")
    arrays: dict[str, dict[int, np.ndarray]] = {}
    for key, tensor in checkpoint.tensors.items():
        layer, _, index = key.removeprefix(KERAS_PREFIX).rpartition(".")
        if not key.startswith(KERAS_PREFIX) or not layer or not index.isdigit():
            raise BddError(f"{path} holds an unexpected tensor {key}.")
        arrays.setdefault(layer, {})[int(index)] = tensor.astype(np.float32)
    unfinite = [
        layer for layer, found in arrays.items() if not all(np.isfinite(a).all() for a in found.values())
    ]
    if unfinite:
        raise BddError(f"{path}: NaN or infinity in {', '.join(unfinite[:8])}.")
    model = build(config)
    load_arrays(model, {layer: [found[i] for i in sorted(found)] for layer, found in arrays.items()})
    _write(run, config, model, _notes(checkpoint))
    say(f"{run.path}: {len(checkpoint.tensors)} weights of {config.backbone} from {path}")
    return run


@dataclass(frozen=True)
class _Notes:
    """What :mod:`converters.torch_training` notes in its checkpoints; empty elsewhere."""

    history: list[dict]
    trainer: dict


def _notes(checkpoint: Checkpoint) -> _Notes:
    try:
        history, trainer = (
            json.loads(str(checkpoint.hyper_parameters.get(key, empty)))
            for key, empty in ((_HISTORY, "[]"), (_TRAINER, "{}"))
        )
        rows = [
            {
                key: None if row[key] is None else (int if key in ("epoch", "images") else float)(row[key])
                for key in HISTORY
            }
            for row in history
        ]
        return _Notes(rows, {str(key): str(value) for key, value in trainer.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BddError(f"the file's {_HISTORY} or {_TRAINER} is damaged: {error!r}") from error


def _write(run: Run, config: Experiment, model: object, notes: _Notes) -> None:
    """The whole folder or none of it."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Run(Path(tempfile.mkdtemp(dir=run.path.parent, prefix=f".{run.name}.")))
    try:
        config.save(temporary.config)
        save_weights(model, temporary.weights)
        if notes.history:
            write_history(temporary.history, notes.history)
        if notes.trainer:
            write_atomically(temporary.trainer, (json.dumps(notes.trainer, indent=1) + "\n").encode())
        temporary.path.chmod(0o755)
        temporary.path.rename(run.path)
    finally:
        shutil.rmtree(temporary.path, ignore_errors=True)


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() == "true"


def _detector_config(
    checkpoint: Checkpoint, size: str, filename: str, channels: tuple[str, ...] | None, dataset: str | None
) -> Experiment:
    about = checkpoint.hyper_parameters
    if _OURS in about:
        config = _exported_config(about[_OURS])
        if config.backbone != size:
            raise BddError(f"the file calls itself {config.backbone}, but its tensors are those of {size}.")
        return config
    stated = _stated_channels(about)
    if stated and channels and parse_channels(channels) != stated:
        raise UsageError(
            f"--channels {','.join(channels)} contradicts the file's hyper-parameters: {','.join(stated)}."
        )
    adapter = checkpoint.tensors.get("adapter.weight")
    extra = adapter.shape[1] - 3 if adapter is not None and adapter.ndim == 4 else 0
    found = stated or (parse_channels(channels) if channels else ("rgb",) if adapter is None else None)
    if found is None:
        found = ("rgb", *CHANNEL_FLAGS.values()) if extra == len(CHANNEL_FLAGS) else None
    if found is None:
        raise UsageError(
            f"{filename} has {extra} channels beside RGB and no hyper-parameters that name them; say which with "
            f"--channels, e.g. rgb,fft,lbp."
        )
    named = about.get("backbone")
    if named is not None and str(named).lower() != size:
        raise BddError(f"{filename} calls itself {named}, but its tensors are those of {size}.")
    guess = next(
        (ours for word, ours in _DATASETS.items() if re.match(rf"{word}([^a-z]|$)", filename.lower())), None
    )
    if dataset is None and guess is None:
        say(f"{filename} does not tell its data set; noted as cifake (--dataset says otherwise).")
    return experiment(
        "paper",
        backbone=size,
        channels=found,
        dataset=dataset or guess or "cifake",
        freeze=_flag(about.get("freeze_backbone", False)),
    )


def _stated_channels(about: Mapping[str, object]) -> tuple[str, ...] | None:
    if not any(flag in about for flag in CHANNEL_FLAGS):
        return None
    # The published class adds each channel unless told otherwise.
    return ("rgb", *(ours for flag, ours in CHANNEL_FLAGS.items() if _flag(about.get(flag, True))))


def _exported_config(text: object) -> Experiment:
    """The experiment of a run that :func:`export_run` wrote."""
    try:
        values = json.loads(str(text))
    except ValueError as error:
        raise BddError(f"the file's {_OURS} settings are damaged: {error}") from error
    if not isinstance(values, dict):
        raise BddError(f"the file's {_OURS} settings are no mapping.")
    return Experiment.from_dict(values, f"the file's {_OURS} settings")


def export_run(name: str, path: str | Path, runs_dir: Path = Path(RUNS_DIR)) -> Path:
    """Write a trained run in the layout of the reference detector's checkpoints.

    Args:
        name: The run.
        path: ``.safetensors``, or another name for a file of torch.save.
        runs_dir: Where runs lie.

    Returns:
        The path.

    Raises:
        UsageError: If there is no such run, or its backbone is no BNext.
    """
    run = existing_run(name, runs_dir)
    config = Experiment.load(run.config)
    if config.backbone not in BNEXT:
        raise UsageError(
            f"{run.name} is a {config.backbone}; PyTorch's layout is known for {', '.join(BNEXT)}."
        )
    model = load_trained(run, config)
    entries = detector_entries(config.backbone, len(config.channels) - 1)
    about: dict[str, object] = {
        "num_classes": 2,
        "backbone": "BNext-" + config.backbone[-1].upper(),
        "freeze_backbone": config.freeze,
        **{flag: ours in config.channels for flag, ours in CHANNEL_FLAGS.items()},
        _OURS: json.dumps(replace(config, init=None).to_dict()),
    }
    tensors: dict[str, np.ndarray] = dump_state(model, entries)
    write_checkpoint(Path(path), Checkpoint(tensors, about))
    return Path(path)
