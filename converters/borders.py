"""Zero padding that stays exact where Larq Compute Engine's own kernels get it wrong.

LCE's kernels miscount zero padding where a filter is larger than its map (3x3 on 2x2: small images end
there). One-padding they do right. With C[y, x, c] = the sum of signs of filter c over the taps that lie in the
padding at (y, x), ``conv(zero padding) = conv(one padding) - C``, in integers. Behind batch normalisation with
scale s it is a constant s C to subtract, so that the normalisation still fuses into the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf
from bdd_tf.models.operations import flat_layers, is_binary

_LOWEST = -1e30


def _affected(layer: tf.keras.layers.Layer) -> bool:
    return (
        is_binary(layer)
        and layer.padding == "same"
        and layer.pad_values == 0.0
        and any(k > size for k, size in zip(layer.kernel_size, layer.input_shape[1:3], strict=True))
    )


def padding_sums(layer: lq.layers.QuantConv2D) -> np.ndarray:
    """C of the module's docstring, [H_out, W_out, filters] float32, for a built binary convolution."""
    signs = np.where(layer.kernel.latent_variable.numpy() >= 0, 1.0, -1.0).sum(axis=2, keepdims=True)
    outside = np.ones((1, *layer.input_shape[1:3], 1), np.float32)
    zero_padded = tf.nn.conv2d(outside, signs.astype(np.float32), layer.strides, "SAME").numpy()[0]
    return (signs.sum(axis=(0, 1, 2)) - zero_padded).astype(np.float32)


@contextmanager
def exact_borders(model: tf.keras.Model) -> Iterator[None]:
    """While this lasts, the model computes the same function with one-padding and a correction.

    Only binary convolutions whose filter exceeds their map are touched. Meant for tracing: a graph traced
    inside holds the corrections as constants.

    Args:
        model: A built detector whose affected convolutions ``NAME.conv`` are followed by ``NAME.norm1``.
    """
    layers = {layer.name: layer for layer in flat_layers(model)}
    affected = [layer for layer in layers.values() if _affected(layer)]
    norms = [layers[layer.name.removesuffix("conv") + "norm1"] for layer in affected]
    corrections = [_correction(c, n) for c, n in zip(affected, norms, strict=True)]
    try:
        for conv, norm, correction in zip(affected, norms, corrections, strict=True):
            conv.pad_values, conv._is_native_padding = 1.0, False
            norm.call = _minus(norm.call, correction)
        yield
    finally:
        for conv, norm in zip(affected, norms, strict=True):
            conv.pad_values, conv._is_native_padding = 0.0, True
            norm.__dict__.pop("call", None)


def _correction(conv: lq.layers.QuantConv2D, norm: tf.keras.layers.BatchNormalization) -> np.ndarray:
    scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    return (padding_sums(conv) * scale)[None].astype(np.float32)


def _minus(call: Callable, constant: np.ndarray) -> Callable:
    def corrected(inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        # LCE's converter would fuse a constant map as if it were a bias per channel, and the file would not
        # load; a maximum that changes nothing keeps the two apart.
        return tf.maximum(call(inputs, training=training), _LOWEST) - constant

    return corrected
