"""Small detectors with known evidence (a corner, a channel), as Keras networks and as .tflite files."""

from __future__ import annotations

import numpy as np

from bdd_tf.edge.images.resize import ResizeRule
from tests.edge.small_models import metadata, with_metadata

SIDE = 16


def tf():
    from bdd_tf.legacy_keras import tf

    return tf


def corner_network(side: int = SIDE, turned: bool = False):
    """Its logit is the mean brightness of the upper left quarter, divided by 25; ``turned``: of an image rotated by 180°."""
    from bdd_tf.models.bnext import Rotate180

    layers = tf().keras.layers
    image = tf().keras.Input((side, side, 3), dtype="uint8")
    x = layers.Lambda(lambda t: tf().cast(t, "float32") / 25.0, name="channels")(image)
    if turned:
        x = Rotate180()(x)
    weights = np.zeros((side // 4, side // 4), np.float32)
    weights[: side // 8, : side // 8] = 4.0
    x = layers.AveragePooling2D(4, name="cells")(x)
    weights = weights[::-1, ::-1] if turned else weights
    x = layers.Lambda(lambda t: t * weights[None, :, :, None], name="weighted")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1, kernel_initializer=tf().keras.initializers.Constant(1 / 3), name="logit")(x)
    return tf().keras.Model(image, layers.Activation("sigmoid")(x))


def channel_network(silent: str = "fft", side: int = SIDE):
    """Reads RGB, FFT and LBP through an adapter whose weights for ``silent`` are 0."""
    from bdd_tf.models.forensic_channels import ForensicChannels

    tf().keras.utils.set_random_seed(1)
    layers = tf().keras.layers
    image = tf().keras.Input((side, side, 3), dtype="uint8")
    x = ForensicChannels(("rgb", "fft", "lbp"), "stable", name="channels")(image)
    adapter = layers.Conv2D(3, 3, padding="same", name="adapter")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="body")(adapter(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1, kernel_initializer=tf().keras.initializers.RandomNormal(0, 3), name="logit")(x)
    model = tf().keras.Model(image, layers.Activation("sigmoid")(x))
    kernel, bias = adapter.get_weights()
    kernel[:, :, {"rgb": slice(0, 3), "fft": 3, "lbp": 4}[silent]] = 0
    adapter.set_weights([kernel, bias])
    return model


def file_of(model, channels=("rgb",)) -> bytes:
    from converters.convert import to_flatbuffer

    side = model.input_shape[1]
    assert metadata()["channels"] == ["rgb"]
    return with_metadata(
        to_flatbuffer(model),
        channels=list(channels),
        resolution=side,
        resize=ResizeRule.native(side).to_dict(),
    )
