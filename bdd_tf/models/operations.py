"""Multiply-accumulates and parameters of a Keras model, binary and float apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from bdd_tf.channels import ForensicChannels
from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf

BINARY_LAYERS = (lq.layers.QuantConv2D,)


@dataclass(frozen=True)
class Operations:
    """Counts for one image.

    Attributes:
        binary_macs: Multiply-accumulates between two binary operands.
        float_macs: Those of float convolutions and dense layers, adapter and classifier included.
        channel_macs: Those of the channel layers (grey conversion, DFT, Sobel).
        binary_weights: Weights used by their sign alone.
        parameters: All trainable and non-trainable weights of the network, latent binary weights included.
    """

    binary_macs: int
    float_macs: int
    channel_macs: int
    binary_weights: int
    parameters: int

    def to_dict(self) -> dict[str, int]:
        """Plain numbers by name."""
        return asdict(self)


def flat_layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """The layers of a model and of the models nested in it, in order."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def is_binary(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer multiplies signs by signs (and so becomes an LceBconv2d)."""
    return isinstance(layer, BINARY_LAYERS) and bool(layer.kernel_quantizer) and bool(layer.input_quantizer)


def _channel_macs(layer: ForensicChannels, height: int, width: int) -> int:
    macs = 3 * height * width if len(layer.channels) > 1 else 0
    if "fft" in layer.channels:
        rows = 2 * (height // 2 + 1)
        macs += rows * height * width + rows * width * 2 * width
    if "sobel" in layer.channels:
        macs += 2 * 14 * height * width
    return macs


def count_operations(model: tf.keras.Model) -> Operations:
    """Count a model's operations.

    Args:
        model: A built Keras model with a static input size.

    Returns:
        The counts for one image.
    """
    binary = real = channels = binary_weights = 0
    for layer in flat_layers(model):
        if isinstance(layer, ForensicChannels):
            channels += _channel_macs(layer, *layer.input_shape[1:3])
        elif isinstance(layer, tf.keras.layers.DepthwiseConv2D):
            positions = int(np.prod(layer.output_shape[1:3]))
            real += positions * int(np.prod(layer.depthwise_kernel.shape))
        elif isinstance(layer, tf.keras.layers.Conv2D):
            positions, size = int(np.prod(layer.output_shape[1:3])), int(np.prod(layer.kernel.shape))
            if is_binary(layer):
                binary += positions * size
                binary_weights += size
            else:
                real += positions * size
        elif isinstance(layer, tf.keras.layers.Dense):
            real += int(np.prod(layer.kernel.shape))
    return Operations(binary, real, channels, binary_weights, model.count_params())
