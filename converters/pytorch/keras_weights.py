"""Import PyTorch weights as a run (`bdd convert --from-torch`) and export a run (`--to-torch`).

Supported checkpoints: BNext trained on ImageNet (initial weights for `bdd train --init`), the reference detector of
Lanzino et al., which becomes a complete run, checkpoints of :mod:`bdd_tf.pytorch.train`, and the vision networks of
:mod:`converters.pytorch.vision_layouts`. The conversion preserves the
network's function exactly; :mod:`converters.pytorch.state_dict` defines it for each tensor.
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

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import write_atomically
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.models.channel_names import parse_channels
from bdd_tf.presets import experiment
from bdd_tf.runs import RUNS_DIR, Run, existing_run, run_named
from bdd_tf.training.history import HISTORY, write_history
from bdd_tf.training.weights import build, load_trained, save_weights
from converters.pytorch.checkpoint_files import KERAS_PREFIX, Checkpoint, read_checkpoint, write_checkpoint
from converters.pytorch.state_dict import (
    check_state,
    detector_entries,
    dump_state,
    imagenet_entries,
    load_state,
    size_of,
)

#: Hyper-parameters of the reference detector and our names of their channels, in the order of concatenation.
CHANNEL_FLAGS = {"add_magnitude_channel": "sobel", "add_fft_channel": "fft", "add_lbp_channel": "lbp"}
#: Prefixes of the reference checkpoints' file names (cifake_T_unfrozen.ckpt) and the data sets they stand for.
_DATASETS = {"cifake": "cifake", "dffd": "dffd", "cocofake": "cocofake", "coco": "cocofake"}
#: Hyper-parameters of our own checkpoints: experiment, history and trainer, all JSON.
_EXPERIMENT = "bdd_tf"
_HISTORY = "bdd_tf_history"
_TRAINER = "bdd_tf_trainer"


def import_checkpoint(
    path: str | Path,
    name: str,
    runs_dir: Path = Path(RUNS_DIR),
    *,
    channels: tuple[str, ...] | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    origin: Mapping[str, object] | None = None,
) -> Run:
    """Create a run from a checkpoint.

    Args:
        path: The checkpoint.
        name: Name of the new run.
        runs_dir: Folder of the runs.
        channels: Channels of a detector whose checkpoint has no hyper-parameters.
        dataset: Training data set, if neither the hyper-parameters nor the file name contain it.
        backbone: Name of the backbone, where the file does not determine it (:mod:`converters.pytorch.vision_layouts`).
        origin: Values that ``imported.json`` of a vision network gets in addition.

    Returns:
        The run, with ``config.yaml`` and ``model.weights.h5``.

    Raises:
        UsageError: If the run exists, or the options contradict the file.
        BddError: If the file is not a supported checkpoint. Nothing is written then.
    """
    run = run_named(name, runs_dir)
    if run.path.exists():
        raise UsageError(f"{run.path} exists; choose another name with --run.")
    checkpoint = read_checkpoint(path)
    tensors, kind = checkpoint.tensors, checkpoint.kind
    notes = _notes(checkpoint)
    if kind == "keras":
        return _import_keras(checkpoint, run, path)
    if kind == "detector":
        size = size_of(tensors, "base_model.")
        config = _detector_config(checkpoint, size, Path(path).name, channels, dataset)
        entries = detector_entries(size, len(config.channels) - 1)
    elif kind == "vision":
        return _import_vision(checkpoint, run, Path(path), (backbone, channels, dataset), origin or {})
    else:
        size = size_of(tensors)
        if channels not in (None, ("rgb",)):
            raise UsageError(
                "this checkpoint is a BNext backbone without an adapter for channels: import it without --channels, and "
                "give the channels to `bdd train --init`."
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
        _tell_untrained(run, config)
    return run


def _tell_untrained(run: Run, config: Experiment) -> None:
    say(
        f"the file is a backbone, so the run's classifier is untrained: bdd train --init {run.name} --backbone "
        f"{config.backbone} (add --freeze 1 to train the classifier only)."
    )


def _import_vision(
    checkpoint: Checkpoint,
    run: Run,
    path: Path,
    options: tuple[str | None, tuple[str, ...] | None, str | None],
    origin: Mapping[str, object],
) -> Run:
    """Import CLIP, a ViT or a ResNet50 with `options` --backbone, --channels and --dataset."""
    from converters.pytorch.vision_import import import_vision

    backbone, channels, dataset = options
    if channels not in (None, ("rgb",)):
        raise UsageError(
            "this checkpoint is a backbone without an adapter for channels: import it without --channels."
        )
    found = import_vision(checkpoint.tensors, path, backbone, dataset)
    _write(run, found.config, found.model, _Notes([], {}), {**found.about, **origin})
    say(f"{run.path}: weights of {found.config.backbone} from {path}")
    _tell_untrained(run, found.config)
    return run


def _import_keras(checkpoint: Checkpoint, run: Run, path: str | Path) -> Run:
    """Import a network that was trained as a graph (:mod:`bdd_tf.pytorch.graph_net`), with weights in Keras' layout."""
    from bdd_tf.pytorch.keras_graph import load_arrays

    config = stored_experiment(checkpoint, path)
    if config.backbone in BNEXT:
        raise BddError(
            f"the settings of {path} name {config.backbone}, but its tensors are those of a baseline."
        )
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
        raise BddError(f"{path} has NaN or infinity in {', '.join(unfinite[:8])}.")
    model = build(config)
    load_arrays(model, {layer: [found[i] for i in sorted(found)] for layer, found in arrays.items()})
    _write(run, config, model, _notes(checkpoint))
    say(f"{run.path}: {len(checkpoint.tensors)} weights of {config.backbone} from {path}")
    return run


def stored_experiment(checkpoint: Checkpoint, path: str | Path) -> Experiment:
    """Return the experiment that :mod:`bdd_tf.pytorch.train` stored in a checkpoint.

    Raises:
        BddError: If there is none, or it is damaged.
    """
    if _EXPERIMENT not in checkpoint.hyper_parameters:
        raise BddError(f"{path} has no {_EXPERIMENT} settings, which name the network.")
    return _exported_config(checkpoint.hyper_parameters[_EXPERIMENT])


@dataclass(frozen=True)
class _Notes:
    """History and trainer that :mod:`bdd_tf.pytorch.train` stores in its checkpoints; empty for other checkpoints."""

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
        raise BddError(f"the checkpoint's {_HISTORY} or {_TRAINER} is damaged: {error!r}") from error


def _write(run: Run, config: Experiment, model: object, notes: _Notes, about: dict | None = None) -> None:
    """Write a run's folder, all of it or nothing; `about` becomes ``imported.json``."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Run(Path(tempfile.mkdtemp(dir=run.path.parent, prefix=f".{run.name}.")))
    try:
        config.save(temporary.config)
        save_weights(model, temporary.weights)
        if notes.history:
            write_history(temporary.history, notes.history)
        if notes.trainer:
            write_atomically(temporary.trainer, (json.dumps(notes.trainer, indent=1) + "\n").encode())
        if about:
            write_atomically(temporary.imported, (json.dumps(about, indent=1) + "\n").encode())
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
    if _EXPERIMENT in about:
        config = _exported_config(about[_EXPERIMENT])
        if config.backbone != size:
            raise BddError(
                f"the settings of {filename} name {config.backbone}, but its tensors are those of {size}."
            )
        return config
    stated = _stated_channels(about)
    if stated and channels and parse_channels(channels) != stated:
        raise UsageError(
            f"--channels {','.join(channels)} contradicts the hyper-parameters of {filename}: {','.join(stated)}."
        )
    adapter = checkpoint.tensors.get("adapter.weight")
    extra = adapter.shape[1] - 3 if adapter is not None and adapter.ndim == 4 else 0
    found = stated or (parse_channels(channels) if channels else ("rgb",) if adapter is None else None)
    if found is None:
        found = ("rgb", *CHANNEL_FLAGS.values()) if extra == len(CHANNEL_FLAGS) else None
    if found is None:
        raise UsageError(
            f"{filename} has {extra} channels in addition to RGB and no hyper-parameters that name them; name them with "
            f"--channels, e.g. rgb,fft,lbp."
        )
    named = about.get("backbone")
    if named is not None and str(named).lower() != size:
        raise BddError(
            f"the hyper-parameters of {filename} name {named}, but its tensors are those of {size}."
        )
    guess = next(
        (ours for word, ours in _DATASETS.items() if re.match(rf"{word}([^a-z]|$)", filename.lower())), None
    )
    if dataset is None and guess is None:
        say(f"{filename} does not name its data set; recording cifake (use --dataset to name another one).")
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
    # The published class adds each channel by default.
    return ("rgb", *(ours for flag, ours in CHANNEL_FLAGS.items() if _flag(about.get(flag, True))))


def _exported_config(text: object) -> Experiment:
    """Return the experiment stored by :func:`export_run` or :mod:`bdd_tf.pytorch.train`."""
    try:
        values = json.loads(str(text))
    except ValueError as error:
        raise BddError(f"the checkpoint's {_EXPERIMENT} settings are damaged: {error}") from error
    if not isinstance(values, dict):
        raise BddError(f"the checkpoint's {_EXPERIMENT} settings are not a mapping.")
    return Experiment.from_dict(values, f"the checkpoint's {_EXPERIMENT} settings")


def export_run(name: str, path: str | Path, runs_dir: Path = Path(RUNS_DIR)) -> Path:
    """Export a trained run in the layout of the reference detector's checkpoints.

    Args:
        name: The run.
        path: File to write; see :func:`converters.pytorch.checkpoint_files.write_checkpoint`.
        runs_dir: Folder of the runs.

    Returns:
        The path.

    Raises:
        UsageError: If there is no such run, or its backbone is not a BNext.
    """
    run = existing_run(name, runs_dir)
    config = Experiment.load(run.config)
    if config.backbone not in BNEXT:
        raise UsageError(
            f"{run.name} is a {config.backbone}; PyTorch's layout is known for {', '.join(BNEXT)} only."
        )
    model = load_trained(run, config)
    entries = detector_entries(config.backbone, len(config.channels) - 1)
    about: dict[str, object] = {
        "num_classes": 2,
        "backbone": "BNext-" + config.backbone[-1].upper(),
        "freeze_backbone": config.freeze,
        **{flag: ours in config.channels for flag, ours in CHANNEL_FLAGS.items()},
        _EXPERIMENT: json.dumps(replace(config, init=None).to_dict()),
    }
    tensors: dict[str, np.ndarray] = dump_state(model, entries)
    write_checkpoint(Path(path), Checkpoint(tensors, about))
    return Path(path)
