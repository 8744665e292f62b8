"""Detectors of a few kilobytes, as `bdd convert` writes them: an image of bytes in, one probability out."""

import json

from bdd_tf.legacy_keras import tf  # isort: skip

#: Side and channels.
CASES = {"rgb": (16, ("rgb",)), "lbp": (32, ("rgb", "lbp")), "haar": (16, ("rgb", "haar"))}


def build(name):
    """A .tflite file with metadata."""
    import larq
    import larq_compute_engine

    from bdd_tf.edge.images.resize import ResizeRule
    from bdd_tf.edge.images.rules import rule_entries
    from bdd_tf.edge.images.views import ViewRule
    from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata
    from bdd_tf.models.detector import NormaliseChannels
    from bdd_tf.models.forensic_channels import ForensicChannels

    side, channels = CASES[name]
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    image = tf.keras.Input((side, side, 3), batch_size=1, dtype="uint8")
    x = ForensicChannels(channels, "stable")(image)
    x = NormaliseChannels(channels)(x) if "haar" in channels else layers.Conv2D(3, 3, padding="same")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", bias_initializer="normal")(x)
    y = larq.layers.QuantConv2D(
        16, 3, padding="same", pad_values=1, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1, activation="sigmoid", bias_initializer="normal", name="fake_probability")(x)
    content = larq_compute_engine.convert_keras_model(tf.keras.Model(image, x))
    trained_on = {
        "dataset": "x",
        "images": 9,
        "sides": [8, 64],
        "contrast": [2.5, 99.5],
        "detail": [1.0, 80.0],
    }
    rule = ViewRule(side, 3, (1.0, 1.5)) if "haar" in channels else ResizeRule.reference(side)
    metadata = {"labels": ["REAL", "FAKE"], "threshold": 0.5, "trained_on": trained_on, **rule_entries(rule)}
    return embed_metadata(content, METADATA_NAME, json.dumps(metadata).encode())
