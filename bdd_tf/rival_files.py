"""Files to compare a binary network with: its float twin, and what a user would pick instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.config import Experiment, experiment, write_atomically
from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.registry import RIVALS, stem_stride

INT8 = "-int8"
_SAMPLES = 8  # images that int8 ranges are taken from: speed does not depend on them


def cache_folder() -> Path:
    """Where converted files are kept: ``BDD_CACHE/benchmark``, or ``data/cache/benchmark`` here."""
    return Path(os.environ.get("BDD_CACHE") or Path("data") / "cache") / "benchmark"


#: To be raised when a change makes files that were kept stale.
_EDITION = 4


def _cached(name: str, make: Callable[[], bytes]) -> Path:
    path = cache_folder() / str(_EDITION) / f"{name}.tflite"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = make()
        tf.keras.backend.clear_session()
        write_atomically(path, content)
    return path


def rival(name: str, resolution: int) -> Path:
    """A rival's detector on RGB alone with random, calibrated weights, as a .tflite file.

    Args:
        name: One of `RIVALS` of the registry, with ``-int8`` behind it for the quantized one.
        resolution: Side of its input.

    Returns:
        The file, made once and kept.

    Raises:
        UsageError: For an unknown name, or a resolution that its strides do not divide.
    """
    base = name.removesuffix(INT8)
    if base not in RIVALS:
        raise one_of("rival", name, [r + end for r in RIVALS for end in ("", INT8)])
    stem_stride(base, resolution)

    def make() -> bytes:
        from converters import stock
        from converters.keras_to_tflite import photographs

        model = _calibrated(experiment(backbone=base, resolution=resolution, channels=("rgb",)))
        if name.endswith(INT8):
            return stock.int8_file(model, photographs(_SAMPLES, resolution))
        return stock.float_file(model)

    return _cached(f"{name}-{resolution}", make)


def float_twin(config: Experiment) -> Path:
    """A binary network's float twin (`bdd convert --twin float`) with random, calibrated weights.

    Args:
        config: What the binary file was made from: backbone, channels, resolution.

    Returns:
        The file, made once and kept.
    """

    def make() -> bytes:
        from converters import stock

        return stock.float_file(_calibrated(config))

    return _cached(f"float-{config.backbone}-{config.resolution}-{'-'.join(config.channels)}", make)


def _calibrated(config: Experiment) -> tf.keras.Model:
    from bdd_tf.training import build
    from converters.keras_to_tflite import calibrate, photographs

    model = build(config)
    calibrate(model, photographs(16, config.resolution, seed=1))
    return model


def vary_vectors(model: tf.keras.Model, seed: int = 0) -> tf.keras.Model:
    """Give a fresh model vectors no two of which are equal, as training leaves them.

    A file holds equal constants once, so that one of an untrained network is smaller than any that a user has.

    Args:
        model: Changed in place: each number of a vector by at most 5 %, by 0.005 where it is near 0.
        seed: Of the random numbers.

    Returns:
        The model.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.shape.rank == 1 and "steps" not in weight.name:
            values = weight.numpy()
            weight.assign(values + rng.uniform(0, 0.05, values.shape) * np.maximum(np.abs(values), 0.1))
    return model


def untrained(backbone: str, resolution: int, channels: tuple[str, ...]) -> Path:
    """A binary network with random weights, in a file of the size and the nodes that a trained one has.

    Its vectors differ (`vary_vectors`), and its constants are stored as `bdd convert --weights narrow` does.

    Args:
        backbone: Name of a BNext or of QuickNet.
        resolution: Side of its input.
        channels: Of its input.

    Returns:
        The file, made once and kept.
    """

    def make() -> bytes:
        import json

        from bdd_tf.edge.tflite_file import METADATA_NAME, embed_metadata
        from bdd_tf.runs import Validated
        from converters.keras_to_tflite import metadata, to_flatbuffer
        from converters.narrow import narrow

        config = experiment(backbone=backbone, resolution=resolution, channels=channels)
        about = metadata(config, Validated(), None, trained=False)
        content = narrow(to_flatbuffer(vary_vectors(_calibrated(config))))
        return embed_metadata(content, METADATA_NAME, json.dumps(about).encode())

    return _cached(f"{backbone}-{resolution}-{'-'.join(channels)}", make)
