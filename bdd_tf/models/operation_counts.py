"""Count the multiply-accumulates and parameters of a Keras model, separately for binary and float layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf
from bdd_tf.models.attention import ScaledDotProductAttention
from bdd_tf.models.forensic_channels import FUNCTIONS, ForensicChannels

BINARY_LAYERS = (lq.layers.QuantConv2D,)


@dataclass(frozen=True)
class Operations:
    """Counts for one image.

    Attributes:
        binary_macs: Multiply-accumulates (MACs) of two binary operands.
        float_macs: MACs of float convolutions, dense layers (for each token, of transformers) and the two products of
            attention, including adapter and classifier.
        channel_macs: MACs of the channel layers (grey conversion, DFT, Sobel, Haar).
        binary_weights: Weights of which only the sign is used.
        parameters: All trainable and non-trainable weights, including latent binary weights.
    """

    binary_macs: int
    float_macs: int
    channel_macs: int
    binary_weights: int
    parameters: int

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


def flat_layers(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Iterate over the layers of a model and of its nested models, in order."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def is_binary(layer: tf.keras.layers.Layer) -> bool:
    """Return whether a layer multiplies signs by signs, and is converted to LceBconv2d."""
    return isinstance(layer, BINARY_LAYERS) and bool(layer.kernel_quantizer) and bool(layer.input_quantizer)


def _channel_macs(layer: ForensicChannels, height: int, width: int) -> int:
    macs = 3 * height * width if FUNCTIONS.keys() & set(layer.channels) else 0
    if "haar" in layer.channels:
        macs += 4 * 4 * 3 * 6 * height * width
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
            # None for the batch; a layer that is used for each token has one more axis.
            real += int(np.prod(layer.output_shape[1:-1])) * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, ScaledDotProductAttention):
            real += layer.macs()
    return Operations(binary, real, channels, binary_weights, model.count_params())
