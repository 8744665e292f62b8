"""Model files for benchmarks, with random weights: binary networks, their float exports, and common baselines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.errors import one_of
from bdd_tf.files import cache_folder, write_atomically
from bdd_tf.legacy_keras import tf
from bdd_tf.models.registry import BASELINES, INT8, stem_stride
from bdd_tf.presets import experiment

#: Images for the ranges of int8 activations. The speed does not depend on their number.
_SAMPLES = 8
#: Version of the cached files. Increase it when a change makes cached files stale.
_EDITION = 4


def _cached(name: str, make: Callable[[], bytes]) -> Path:
    path = cache_folder() / "benchmark" / str(_EDITION) / f"{name}.tflite"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"building {name} (once: it is kept in {path.parent})", prefix="bdd")
        content = make()
        tf.keras.backend.clear_session()
        write_atomically(path, content)
    return path


def baseline(name: str, resolution: int) -> Path:
    """Make the .tflite file of a baseline on RGB with random weights.

    Args:
        name: One of the registry's `BASELINES`; the suffix ``-int8`` selects its quantized file.
        resolution: Side of the input in pixels.

    Returns:
        Path of the file, which is made once and cached.

    Raises:
        UsageError: For an unknown name, or a resolution that the network's strides do not divide.
    """
    base = name.removesuffix(INT8)
    if base not in BASELINES:
        raise one_of("baseline", name, [r + end for r in BASELINES for end in ("", INT8)])
    stem_stride(base, resolution)

    def make() -> bytes:
        from converters.sample_images import photographs
        from converters.tflite import builtin_ops

        model = _random_model(experiment(backbone=base, resolution=resolution, channels=("rgb",)))
        if name.endswith(INT8):
            return builtin_ops.int8_file(model, photographs(_SAMPLES, resolution))
        return builtin_ops.float_file(model)

    return _cached(f"{name}-{resolution}", make)


def float_export(config: Experiment) -> Path:
    """Make the float export (`bdd convert --twin float`) of a binary network with random weights.

    Args:
        config: Backbone, channels and resolution of the binary network.

    Returns:
        Path of the file, which is made once and cached.
    """

    def make() -> bytes:
        from converters.tflite import builtin_ops

        return builtin_ops.float_file(_random_model(config))

    return _cached(f"float-{config.backbone}-{config.resolution}-{'-'.join(config.channels)}", make)


def _random_model(config: Experiment) -> tf.keras.Model:
    """Build a network with random weights and batch norm statistics estimated on photographs."""
    from bdd_tf.training.weights import build
    from converters.sample_images import photographs, update_bn

    model = build(config)
    update_bn(model, photographs(16, config.resolution, seed=1))
    return model


def vary_vectors(model: tf.keras.Model, seed: int = 0) -> tf.keras.Model:
    """Make the vectors of an untrained model differ from each other, as training does.

    A file stores equal constants once, so that the file of an untrained model would be smaller than that of a trained one.

    Args:
        model: Changed in place. Each number of a vector changes by at most 5 %, or by at most 0.005 near 0.
        seed: Seed of the random numbers.

    Returns:
        The model.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.shape.rank == 1 and "steps" not in weight.name:
            values = weight.numpy()
            weight.assign(values + rng.uniform(0, 0.05, values.shape) * np.maximum(np.abs(values), 0.1))
    return model


def untrained(
    backbone: str,
    resolution: int,
    channels: tuple[str, ...],
    stem: str = "adapter",
    *,
    compress: bool = True,
) -> Path:
    """Make the file of a binary network with random weights, with the size and the operators of a trained one.

    The vectors differ (`vary_vectors`).

    Args:
        backbone: A BNext or QuickNet.
        resolution: Side of the input in pixels.
        channels: Input channels, e.g. ``("rgb", "fft", "lbp")``.
        stem: How they enter the network, ``"adapter"`` or ``"direct"``.
        compress: Whether constants are compressed as by `bdd convert --weights narrow`.

    Returns:
        Path of the file, which is made once and cached.
    """

    def make() -> bytes:
        import json

        from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
        from bdd_tf.runs import Validated
        from converters.convert import metadata, to_flatbuffer
        from converters.tflite.compress_vectors import compress_vectors

        config = experiment(backbone=backbone, resolution=resolution, channels=channels, stem=stem)
        about = metadata(config, Validated(), None, trained=False)
        content = to_flatbuffer(vary_vectors(_random_model(config)))
        content = compress_vectors(content) if compress else content
        return embed_metadata(content, METADATA_NAME, json.dumps(about).encode())

    suffix = ("" if stem == "adapter" else f"-{stem}") + ("" if compress else "-wide")
    return _cached(f"{backbone}-{resolution}-{'-'.join(channels)}{suffix}", make)
