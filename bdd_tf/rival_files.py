"""Files to compare a binary network with: its float twin, and what a user would pick instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdd_tf.config import Experiment, experiment, write_atomically
from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.operations import flat_layers, is_binary

#: Name on the command line: class in keras.applications.
APPLICATIONS = {
    "mobilenetv2": "MobileNetV2",
    "mobilenetv3-small": "MobileNetV3Small",
    "mobilenetv3-large": "MobileNetV3Large",
    "resnet50": "ResNet50",
}
INT8 = "-int8"
_SAMPLES = 8  # images that int8 ranges are taken from: speed does not depend on them


def cache_folder() -> Path:
    """Where converted files are kept: ``BDD_CACHE/benchmark``, or ``data/cache/benchmark`` here."""
    return Path(os.environ.get("BDD_CACHE") or Path("data") / "cache") / "benchmark"


#: To be raised when a change makes files that were kept stale.
_EDITION = 2


def _cached(name: str, make: Callable[[], bytes]) -> Path:
    path = cache_folder() / str(_EDITION) / f"{name}.tflite"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = make()
        tf.keras.backend.clear_session()
        write_atomically(path, content)
    return path


def _convert(model: tf.keras.Model, dtype: tf.DType, samples: np.ndarray | None = None) -> bytes:
    signature = [tf.TensorSpec([1, *model.input_shape[1:]], dtype, name="image")]
    traced = tf.function(lambda image: model(image, training=False), signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], model)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([s[None]] for s in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def rival(name: str, resolution: int) -> Path:
    """A network of keras.applications with one output and random weights, as a .tflite file.

    Args:
        name: A key of `APPLICATIONS`, with ``-int8`` behind it for the quantized one.
        resolution: Side of its input, at least 32.

    Returns:
        The file, made once and kept.

    Raises:
        UsageError: For an unknown name.
    """
    base = name.removesuffix(INT8)
    if base not in APPLICATIONS:
        raise one_of("rival", name, [r + end for r in APPLICATIONS for end in ("", INT8)])

    def make() -> bytes:
        from converters.keras_to_tflite import photographs

        tf.keras.utils.set_random_seed(0)
        options = {"include_preprocessing": False} if base.startswith("mobilenetv3") else {}
        network = getattr(tf.keras.applications, APPLICATIONS[base])(
            weights=None,
            input_shape=(resolution, resolution, 3),
            classes=1,
            classifier_activation="sigmoid",
            **options,
        )
        samples = photographs(_SAMPLES, resolution).astype(np.float32) / 255
        return _convert(network, tf.float32, samples if name.endswith(INT8) else None)

    return _cached(f"{name}-{resolution}", make)


def float_twin(config: Experiment) -> Path:
    """The same network with float weights and activations in place of signs, as a .tflite file.

    Args:
        config: What the binary file was made from: backbone, channels, resolution.

    Returns:
        The file, made once and kept.
    """

    def make() -> bytes:
        from bdd_tf.training import build
        from converters.keras_to_tflite import calibrate, photographs

        tf.keras.utils.set_random_seed(0)
        model = build(config)
        for layer in flat_layers(model):
            if is_binary(layer):
                layer.input_quantizer = layer.kernel_quantizer = None
        calibrate(model, photographs(4, config.resolution))
        return _convert(model, tf.uint8)

    return _cached(f"float-{config.backbone}-{config.resolution}-{'-'.join(config.channels)}", make)


def untrained(backbone: str, resolution: int, channels: tuple[str, ...]) -> Path:
    """A binary network with random, calibrated weights, as `bdd convert --untrained` writes it; made once and kept."""
    from converters.keras_to_tflite import calibrate, metadata, photographs, to_flatbuffer
    from converters.shrink import shrink

    def make() -> bytes:
        import json

        from bdd_tf.edge.tflite_file import METADATA_NAME, embed_metadata
        from bdd_tf.training import build

        config = experiment(backbone=backbone, resolution=resolution, channels=channels)
        model = build(config)
        calibrate(model, photographs(16, resolution, seed=1))
        about = metadata(config, 0.5, None, trained=False)
        return embed_metadata(shrink(to_flatbuffer(model)), METADATA_NAME, json.dumps(about).encode())

    return _cached(f"{backbone}-{resolution}-{'-'.join(channels)}", make)
