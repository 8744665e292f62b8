"""Detectors of a few kilobytes, as `bdd convert` writes them: an image of bytes in, one probability out."""

import json

from bdd_tf.legacy_keras import tf  # isort: skip

#: Side and channels.
CASES = {
    "rgb": (16, ("rgb",)),
    "lbp": (32, ("rgb", "lbp")),
    "haar": (16, ("rgb", "haar")),
    "quick": (32, ("rgb",)),
    # Without binary operators, so that the delegate leaves everything to the interpreter.
    "mobile": (32, ("rgb",)),
    "channels": (16, ("rgb", "sobel", "fft")),
}


def _binary(x):
    import larq

    return larq.layers.QuantConv2D(
        16, 3, padding="same", pad_values=1, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )(x)


def _bnext_like(x):
    layers = tf.keras.layers
    x = layers.Conv2D(16, 3, strides=2, padding="same", bias_initializer="normal")(x)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(layers.Add()([x, _binary(x)]))


def _quicknet_like(x):
    """Float layers on both sides of binary ones, as in QuickNet's stem and transitions."""
    layers = tf.keras.layers
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", bias_initializer="normal")(x)
    x = layers.Conv2D(16, 1)(x)
    x = layers.Add()([x, _binary(x)])
    x = layers.MaxPool2D(3, 1, padding="same")(layers.ReLU()(x))
    x = layers.Conv2D(16, 1)(layers.DepthwiseConv2D(3, strides=2, padding="same")(x))
    return layers.ReLU()(layers.Add()([x, _binary(x)]))


def _mobilenet_like(x):
    """Inverted residuals with hard swish and a gate, and operators of other float networks."""
    layers = tf.keras.layers

    def hard_swish(y):
        return y * tf.nn.relu6(y + 3.0) / 6.0

    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(hard_swish(layers.Conv2D(12, 1)(x)))
    gate = layers.Conv2D(12, 1, activation="relu6")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    x = layers.Add()([x, layers.Conv2D(8, 1)(layers.Multiply()([y, gate]))])
    x = layers.Concatenate()([x, layers.AveragePooling2D(3, 1, padding="same")(x)])
    x = layers.Conv2D(8, 3, strides=2)(layers.ZeroPadding2D(1)(x))
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(layers.MaxPool2D(2)(x))


def _plain(x):
    return tf.keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)


_BODIES = {"quick": _quicknet_like, "mobile": _mobilenet_like, "channels": _plain}


def build(name):
    """A .tflite file with metadata."""
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
    x = layers.GlobalAveragePooling2D()(_BODIES.get(name, _bnext_like)(x))
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
