"""Detectors of a few kilobytes, as `bdd convert` writes them: an image of bytes in, one probability out."""

import json

from bdd_tf.legacy_keras import tf  # isort: skip

#: Side and channels.
CASES = {"rgb": (16, ("rgb",)), "lbp": (32, ("rgb", "lbp")), "haar": (16, ("rgb", "haar"))}


def build(name):
    """A .tflite file with metadata."""
    import larq
    import larq_compute_engine

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
    return embed_metadata(content, METADATA_NAME, json.dumps({"format": 1, "resolution": side}).encode())
