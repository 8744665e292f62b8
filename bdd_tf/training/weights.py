"""Build a detector and read, write and transfer its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import replace_atomically
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import build_detector, seed_everything
from bdd_tf.models.positions import interpolated_positions
from bdd_tf.runs import Run, check_run_folder, existing_run, run_named, trained_weights


def build(config: Experiment, *, training: bool = False) -> tf.keras.Model:
    """Build the experiment's detector with the initial weights of its seed.

    Args:
        config: The experiment.
        training: Compute in bfloat16 if the experiment says so; the weights are float32 in any case.
    """
    seed_everything(config.seed)
    mixed = training and config.mixed_precision
    policy = tf.keras.mixed_precision.global_policy()
    # bfloat16 has the range of float32, so that gradients need no scaled loss.
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if mixed else policy)
    try:
        return build_detector(
            config.backbone,
            config.resolution,
            config.channels,
            config.variant,
            config.stem_stride,
            config.stem,
            config.normalisation,
        )
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)


def load_trained(run: Run, config: Experiment | None = None) -> tf.keras.Model:
    """Load the trained detector of a run.

    Raises:
        BddError: If it has no weights yet, or they do not fit its configuration.
    """
    config = config or Experiment.load(run.config)
    path = trained_weights(run)
    model = build(config)
    load_weights(model, path)
    return model


def load_model(run_or_file: str | Path, runs_dir: Path) -> tf.keras.Model:
    """Load the trained detector of a run that is given by name, folder or weights file; see :func:`bdd_tf.load`."""
    path = Path(run_or_file)
    if path.suffix == ".tflite":
        raise UsageError(f"{path} is a converted file, not a Keras model; bdd_tf.edge.Detector runs it.")
    if path.suffix != ".h5":
        return load_trained(existing_run(str(path) if path.is_dir() else str(run_or_file), runs_dir))
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    run = Run(folder)
    if not path.is_file() or not run.config.is_file():
        missing = path if not path.is_file() else run.config
        raise UsageError(f"{missing} is missing; give a run, or the .weights.h5 file in its folder.")
    model = build(Experiment.load(run.config))
    load_weights(model, path)
    return model


def save_model(model: tf.keras.Model, run: str, like: str | Path, runs_dir: Path) -> Run:
    """Write a detector as a new run with the configuration of another one; see :func:`bdd_tf.save`."""
    if not isinstance(model, tf.keras.Model):
        raise UsageError(
            f"model is {model!r} of type {type(model).__name__}; it must be a Keras model that bdd_tf.load returned."
        )
    source = Run(Path(like)) if Path(like).is_dir() else existing_run(str(like), runs_dir)
    config = Experiment.load(source.config)
    target = run_named(run, runs_dir)
    check_run_folder(target)
    if target.path.exists() and any(target.path.iterdir()):
        raise UsageError(f"{target.path} exists already; choose another name.")
    expected = [tuple(weight.shape) for weight in build(config).weights]
    if [tuple(weight.shape) for weight in model.weights] != expected:
        raise UsageError(
            f"the model is not the {config.backbone} of run {source.name}: its weights have other shapes or another order."
        )
    save_weights(model, target.weights)
    # Last: it makes the folder a run.
    dataclasses.replace(config, init=str(source.path)).save(target.config)
    return target


def load_weights(model: tf.keras.Model, path: Path) -> None:
    """Load a ``.weights.h5`` file into a model of the same architecture.

    Raises:
        BddError: If the file is damaged or belongs to another architecture.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BddError(f"{path} does not hold weights of this {model.name}: {reason}") from error


def save_weights(model: tf.keras.Model, path: Path) -> None:
    """Write a ``.weights.h5`` file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path, ".weights.h5") as temporary:
        model.save_weights(temporary)


def initialise_from(model: tf.keras.Model, source: str, runs_dir: Path) -> int:
    """Copy the weights of equal name and shape from another run. Position embeddings of another grid are interpolated.

    Args:
        model: The new detector; changed in place.
        source: A run's name or folder, or a ``.weights.h5`` file in a folder with its ``config.yaml``.
        runs_dir: Folder in which run names are looked up.

    Returns:
        Number of copied weights.

    Raises:
        UsageError: If the source does not exist, no weight of it fits the backbone, or its backbone expects another
            normalisation.
    """
    path = Path(source)
    run = Run(path.parent) if path.suffix == ".h5" else run_named(source, runs_dir)
    if not run.config.is_file():
        raise UsageError(
            f"--init {source}: no such run ({run.config} is missing); give a run's name, its folder, or a "
            f".weights.h5 file in a folder with its config.yaml."
        )
    config = Experiment.load(run.config)
    donor = build(config)
    load_weights(donor, path if path.suffix == ".h5" else trained_weights(run))
    _check_normalisation(model, donor, source)
    have = {w.name: w for w in donor.weights}
    taken = [w for w in model.weights if w.name in have and w.shape == have[w.name].shape]
    backbone = [w for w in taken if w.name.startswith("feature") or "quick_net" in w.name]
    if not backbone:
        raise UsageError(
            f"--init {source} holds a {config.backbone}, whose weights do not fit; use the same backbone."
        )
    for weight in taken:
        weight.assign(have[weight.name])
    for weight in (w for w in model.weights if "/position_embedding" in w.name and w.name in have):
        there, tokens = have[weight.name].numpy(), int(weight.shape[0])
        if len(there) != tokens:
            weight.assign(interpolated_positions(there, tokens))
            say(f"{weight.name.split(':')[0]}: interpolated from {len(there)} to {tokens} tokens")
            taken.append(weight)
    return len(taken)


def _check_normalisation(model: tf.keras.Model, donor: tf.keras.Model, source: str) -> None:
    """Refuse weights that were trained with other statistics of the input."""
    here, there = (
        getattr(net.get_layer("normalise"), "statistics", "of a direct stem") for net in (model, donor)
    )
    if here != there:
        raise UsageError(
            f"--init {source} expects an input with the normalisation {there}, not {here}: add --set normalisation={there}."
        )
