"""The detector: forensic channels -> 3x3 adapter -> normalisation -> backbone -> fake probability.

Architecture of Lanzino et al. (arXiv 2406.04932, section 3), with the opposite sign of the logit, so that 1 means FAKE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.models import registry
from bdd_tf.models.channel_names import REGISTERED, check_stem, depth, parse_channels
from bdd_tf.models.forensic_channels import ForensicChannels
from bdd_tf.models.imagenet import MEAN, STD
from bdd_tf.models.normalisation import NORMALISATIONS, check_normalisation

#: Layers around the backbone, which stay trainable when it is frozen.
HEAD_LAYERS = ("adapter", "logit")


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Normalise(tf.keras.layers.Layer):
    """Normalises RGB by mean and standard deviation per channel.

    Args:
        statistics: Their name in :data:`bdd_tf.models.normalisation.NORMALISATIONS`.

    Shape:
        [N, H, W, 3] float32 in [0, 1] -> [N, H, W, 3] float32
    """

    def __init__(self, statistics: str = "imagenet", **kwargs: Any):
        super().__init__(**kwargs)
        self.statistics = check_normalisation(statistics)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Compute (x - mean) / std."""
        mean, deviation = NORMALISATIONS[self.statistics]
        scale = 1.0 / np.array(deviation, np.float32)
        return x * scale - np.array(mean, np.float32) * scale

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "statistics": self.statistics}


#: Mean and scale of the ``stable`` channels beside RGB, rounded from photographs; they need not be exact.
_STABLE_SCALES = {
    "sobel": (0.4, 5.0),
    "fft": (0.4, 5.0),
    "lbp": (0.5, 2.0),
    "haar": (0.5, 8.0),
    "median": (0.5, 8.0),
}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class NormaliseChannels(tf.keras.layers.Layer):
    """Brings RGB and every ``stable`` channel to about zero mean and unit deviation, for a stem that sees all of them.

    Args:
        channels: Names, in the order of concatenation.

    Shape:
        [N, H, W, C] float32 in [0, 1] -> [N, H, W, C] float32
    """

    def __init__(self, channels: Sequence[str] = ("rgb",), **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = parse_channels(channels)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Compute (x - mean) * scale."""
        means, scales = list(MEAN), [1 / deviation for deviation in STD]
        for name in self.channels[1:]:
            own = REGISTERED.get(name)
            mean, scale = (own.mean, own.scale) if own else _STABLE_SCALES[name]
            means += [mean] * depth([name])
            scales += [scale] * depth([name])
        factor = np.array(scales, np.float32)
        return x * factor - np.array(means, np.float32) * factor

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "channels": list(self.channels)}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class _AdapterInitializer(tf.keras.initializers.Initializer):
    """Identity on RGB and small random weights on the other channels: a pretrained backbone initially sees the image."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: tf.DType | None = None, **kwargs: Any) -> tf.Tensor:
        kernel = np.random.default_rng(self.seed).normal(0.0, 0.05, shape).astype(np.float32)
        kernel[:, :, :3] = 0
        kernel[shape[0] // 2, shape[1] // 2, :3] = np.eye(3)
        return tf.constant(kernel, dtype or tf.float32)

    def get_config(self) -> dict:
        return {"seed": self.seed}


# AutoGraph would rewrite the source of each layer to find Python control flow that depends on tensors. There is none, and
# without it a detector is built in three quarters of the time, and leaves no files in the temporary folder.
@tf.autograph.experimental.do_not_convert
def build_detector(
    backbone: str = "bnext-n",
    resolution: int = 32,
    channels: str | tuple[str, ...] = ("rgb", "fft", "lbp"),
    variant: str = "stable",
    stem_stride: int | None = None,
    stem: str = "adapter",
    normalisation: str | None = None,
) -> tf.keras.Model:
    """Build a detector with fresh weights.

    Args:
        backbone: A key of :data:`bdd_tf.models.registry.BACKBONES`.
        resolution: Side of the square input in pixels.
        channels: Names of the input channels; see :func:`bdd_tf.models.channel_names.parse_channels`.
        variant: Channel formulas, ``"stable"`` (the default of `bdd train`) or ``"paper"``.
        stem_stride: Stride of the stem; None: chosen by the resolution.
        stem: ``"adapter"``: a 3x3 convolution reduces all channels to three, as in the paper. ``"direct"``: the
            backbone's own stem sees every channel (BNext, ``stable`` channels).
        normalisation: Statistics behind the adapter, a key of :data:`bdd_tf.models.normalisation.NORMALISATIONS`; None:
            the backbone's own.

    Returns:
        A Keras model: uint8 RGB [N, resolution, resolution, 3] -> float32 ``fake_probability`` [N, 1].
        :func:`logits` returns the same network with the logit as output.

    Raises:
        UsageError: For an unknown backbone, channel or variant, or a resolution that the strides do not divide; for a direct
            stem of another backbone or of the ``paper`` variant.
    """
    stride = registry.stem_stride(backbone, resolution, stem_stride)
    image = tf.keras.Input((resolution, resolution, 3), dtype=tf.uint8, name="image")
    # Traces in the pixels are small: with mixed precision everything in front of the backbone, and the end, is computed with
    # the precision of the weights.
    precise = tf.keras.mixed_precision.global_policy().variable_dtype
    front = ForensicChannels(channels, variant, name="channels", dtype=precise)
    x = front(image)
    check_stem(stem, backbone, front.variant)
    if stem == "direct":
        x = NormaliseChannels(front.channels, name="normalise", dtype=precise)(x)
    elif len(front.channels) > 1:
        x = tf.keras.layers.Conv2D(
            3, 3, padding="same", kernel_initializer=_AdapterInitializer(), name="adapter", dtype=precise
        )(x)
    if stem == "adapter":
        statistics = normalisation or registry.backbone(backbone).normalisation
        x = Normalise(statistics, name="normalise", dtype=precise)(x)
    x = registry.backbone(backbone).build(x, stride)
    logit = tf.keras.layers.Dense(1, name="logit", dtype=precise)(x)
    probability = tf.keras.layers.Activation("sigmoid", name="fake_probability", dtype=precise)(logit)
    return tf.keras.Model(image, probability, name=backbone.replace("-", "_"))


def logits(model: tf.keras.Model) -> tf.keras.Model:
    """Return the same network, sharing its weights, with the logit [N, 1] of ``fake_probability`` as output."""
    return tf.keras.Model(model.input, model.get_layer("logit").output, name=f"{model.name}_logits")


def fold_temperature(model: tf.keras.Model, temperature: float) -> None:
    """Divide the last layer by a temperature, so that the model outputs calibrated scores.

    :mod:`bdd_tf.metrics.calibration` explains why the temperature is folded into the weights.

    Args:
        model: A detector with its trained weights; changed in place.
        temperature: Above 0.
    """
    layer = model.get_layer("logit")
    layer.set_weights([np.asarray(w / temperature, w.dtype) for w in layer.get_weights()])


def freeze_backbone(model: tf.keras.Model) -> None:
    """Make only adapter and classifier trainable. Frozen batch normalisation keeps its statistics."""
    for layer in model.layers:
        layer.trainable = layer.name in HEAD_LAYERS


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and thereby the initial weights of the next model."""
    tf.keras.utils.set_random_seed(seed)
