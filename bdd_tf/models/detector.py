"""The detector: forensic channels -> 3x3 adapter -> ImageNet normalisation -> backbone -> fake probability.

Architecture of Lanzino et al. (arXiv 2406.04932, section 3), with the score turned so that 1 means FAKE.
"""

from __future__ import annotations

import numpy as np

from bdd_tf.channels import ForensicChannels, parse_channels
from bdd_tf.legacy_keras import tf
from bdd_tf.models import registry

#: Names of the layers around the backbone, which stay trainable when it is frozen.
HEAD_LAYERS = ("adapter", "logit")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class Normalise(tf.keras.layers.Layer):
    """(x - mean) / std with ImageNet's statistics per channel; [N, H, W, 3] in [0, 1] -> float32."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalise."""
        scale = 1.0 / np.array(IMAGENET_STD, np.float32)
        return x * scale - np.array(IMAGENET_MEAN, np.float32) * scale


@tf.keras.utils.register_keras_serializable("bdd_tf")
class _AdapterInitializer(tf.keras.initializers.Initializer):
    """Identity on RGB and a little of each further channel, so that a pretrained backbone starts on images."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: tf.DType | None = None, **kwargs) -> tf.Tensor:
        kernel = np.random.default_rng(self.seed).normal(0.0, 0.05, shape).astype(np.float32)
        kernel[:, :, :3] = 0
        kernel[shape[0] // 2, shape[1] // 2, :3] = np.eye(3)
        return tf.constant(kernel, dtype or tf.float32)

    def get_config(self) -> dict:
        return {"seed": self.seed}


def build_detector(
    backbone: str = "bnext-n",
    resolution: int = 32,
    channels: str | tuple[str, ...] = ("rgb", "fft", "lbp"),
    variant: str = "paper",
    stem_stride: int | None = None,
) -> tf.keras.Model:
    """Build a detector with fresh weights.

    Args:
        backbone: A key of :data:`bdd_tf.models.registry.BACKBONES`.
        resolution: Side of the square input in pixels.
        channels: Channels beside RGB; see :func:`bdd_tf.channels.parse_channels`.
        variant: Channel formulas, ``"paper"`` or ``"stable"``.
        stem_stride: Stride of the stem, or None to choose by resolution.

    Returns:
        A Keras model: uint8 RGB [N, resolution, resolution, 3] -> float32 ``fake_probability`` [N, 1].
        :func:`logits` gives the same model with the logit as output.

    Raises:
        UsageError: For an unknown backbone, channel or variant, or a resolution that the strides do not divide.
    """
    channels = parse_channels(channels)
    stride = registry.stem_stride(backbone, resolution, stem_stride)
    image = tf.keras.Input((resolution, resolution, 3), dtype=tf.uint8, name="image")
    x = ForensicChannels(channels, variant, name="channels")(image)
    if len(channels) > 1:
        x = tf.keras.layers.Conv2D(
            3, 3, padding="same", kernel_initializer=_AdapterInitializer(), name="adapter"
        )(x)
    x = Normalise(name="normalise")(x)
    x = registry.backbone(backbone).build(x, stride)
    logit = tf.keras.layers.Dense(1, name="logit")(x)
    probability = tf.keras.layers.Activation("sigmoid", name="fake_probability")(logit)
    return tf.keras.Model(image, probability, name=backbone.replace("-", "_"))


def logits(model: tf.keras.Model) -> tf.keras.Model:
    """The same network, weights shared, with the logit [N, 1] of ``fake_probability`` as output."""
    return tf.keras.Model(model.input, model.get_layer("logit").output, name=f"{model.name}_logits")


def fold_temperature(model: tf.keras.Model, temperature: float) -> None:
    """Divide the last layer by a temperature: from now on the model's scores are calibrated.

    What scores mean, and why it is done here, is written in :mod:`bdd_tf.calibration`.

    Args:
        model: A detector with its trained weights; changed in place.
        temperature: Above 0.
    """
    layer = model.get_layer("logit")
    layer.set_weights([np.asarray(w / temperature, w.dtype) for w in layer.get_weights()])


def freeze_backbone(model: tf.keras.Model) -> None:
    """Leave only adapter and classifier trainable; frozen batch normalisation keeps its statistics."""
    for layer in model.layers:
        layer.trainable = layer.name in HEAD_LAYERS


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, so that the weights of the next model built are determined."""
    tf.keras.utils.set_random_seed(seed)
