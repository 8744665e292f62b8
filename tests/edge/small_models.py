"""Small real models: one with binary operators, one without, as `bdd convert` would write them."""

from __future__ import annotations

import json

from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.rules import rule_entries
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.tflite.metadata import METADATA_FORMAT, METADATA_NAME, embed_metadata

SIZE = 8
CROP = 16
"""Side of the views model's crops."""
TRAINED_ON = {"dataset": "small", "images": 99, "sides": [16, 32], "contrast": [5, 60], "detail": [2, 30]}


def metadata(**changes):
    values = {
        "format": METADATA_FORMAT,
        "backbone": "test",
        "channels": ["rgb"],
        "resolution": SIZE,
        "resize": ResizeRule.reference(SIZE).to_dict(),
        "labels": ["REAL", "FAKE"],
        "threshold": 0.25,
        "temperature": 1.0,
        "dataset": None,
        "metrics": None,
        "version": "0",
    }
    return {**values, **changes}


def with_metadata(model: bytes, **changes) -> bytes:
    return embed_metadata(model, METADATA_NAME, json.dumps(metadata(**changes)).encode())


def with_views(model: bytes, rule: ViewRule, **changes) -> bytes:
    """The model as a file of format 2, which scores native crops."""
    values = {**metadata(resolution=rule.size), **rule_entries(rule), **changes}
    del values["resize"]
    return embed_metadata(model, METADATA_NAME, json.dumps(values).encode())


class BuiltModel:
    """A Keras network and the .tflite bytes (without metadata) that LCE made of it."""

    def __init__(self, network, content):
        self.network = network
        self.content = content

    def keras_scores(self, images):
        return self.network.predict(images, verbose=0).reshape(-1)


def build(
    *, pool: int = 1, binary: bool = True, pad_values: int = 0, dtype: str = "uint8", size: int = SIZE
) -> BuiltModel:
    """Float convolution, optional pooling, binary convolution, mean, sigmoid; weights chosen so that scores differ."""
    from bdd_tf.legacy_keras import tf  # isort: skip
    import larq
    import larq_compute_engine

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(3)
    entry = tf.keras.Input((size, size, 3), batch_size=1, dtype=dtype)
    x = layers.Lambda(lambda t: tf.cast(t, tf.float32) / 255.0 - 0.5)(entry)
    x = layers.Conv2D(32, 3, padding="same", kernel_initializer="he_normal")(x)
    if pool > 1:
        x = layers.AveragePooling2D(pool)(x)
    if binary:
        quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
        x = larq.layers.QuantConv2D(
            32, 3, padding="same", pad_values=pad_values, use_bias=False, **quantizers
        )(x)
        x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1, activation="sigmoid", kernel_initializer=tf.keras.initializers.RandomNormal(0, 0.3))(
        x
    )
    network = tf.keras.Model(entry, x)
    content = larq_compute_engine.convert_keras_model(network)
    free = tf.keras.Input((size, size, 3), dtype=dtype)
    return BuiltModel(tf.keras.Model(free, network(free)), content)
