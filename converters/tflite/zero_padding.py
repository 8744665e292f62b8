"""Exact zero padding for binary convolutions that Larq Compute Engine (LCE) computes incorrectly.

LCE's kernels miscount zero padding where a filter is larger than its feature map (a 3x3 filter on a 2x2 map, which
small images reach). They compute one-padding correctly. Let C[y, x, c] be the sum of the signs of filter c over the taps
that lie in the padding at output pixel (y, x). Then ``conv(zero padding) = conv(one padding) - C``, in integers. After a
batch normalisation with scale s the correction is the constant s C. It is subtracted there, so that the normalisation
can still be fused into the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf
from bdd_tf.models.operation_counts import flat_layers, is_binary

_LOWEST = -1e30


def needs_correction(layer: tf.keras.layers.Layer) -> bool:
    """Whether LCE would miscount a layer's zero padding: a binary convolution whose filter exceeds its map."""
    return (
        is_binary(layer)
        and layer.padding == "same"
        and layer.pad_values == 0.0
        and any(k > size for k, size in zip(layer.kernel_size, layer.input_shape[1:3], strict=True))
    )


def padding_sums(layer: lq.layers.QuantConv2D) -> np.ndarray:
    """Return the correction C (see the module docstring), float32 [H_out, W_out, filters], of a built convolution."""
    signs = np.where(layer.kernel.latent_variable.numpy() >= 0, 1.0, -1.0).sum(axis=2, keepdims=True)
    outside = np.ones((1, *layer.input_shape[1:3], 1), np.float32)
    zero_padded = tf.nn.conv2d(outside, signs.astype(np.float32), layer.strides, "SAME").numpy()[0]
    return (signs.sum(axis=(0, 1, 2)) - zero_padded).astype(np.float32)


@contextmanager
def exact_zero_padding(model: tf.keras.Model) -> Iterator[None]:
    """Temporarily replace zero padding by one-padding and a correction, which is the same function.

    Use this context manager around tracing: the traced graph holds the corrections as constants. It changes only the
    binary convolutions for which :func:`needs_correction` holds, and restores them afterwards.

    Args:
        model: A built detector whose affected convolutions ``NAME.conv`` are followed by ``NAME.norm1``.
    """
    layers = {layer.name: layer for layer in flat_layers(model)}
    affected = [layer for layer in layers.values() if needs_correction(layer)]
    norms = [layers[layer.name.removesuffix("conv") + "norm1"] for layer in affected]
    corrections = [_correction(c, n) for c, n in zip(affected, norms, strict=True)]
    try:
        for conv, norm, correction in zip(affected, norms, corrections, strict=True):
            conv.pad_values, conv._is_native_padding = 1.0, False
            norm.call = _subtract_after(norm.call, correction)
        yield
    finally:
        for conv, norm in zip(affected, norms, strict=True):
            conv.pad_values, conv._is_native_padding = 0.0, True
            norm.__dict__.pop("call", None)


def _correction(conv: lq.layers.QuantConv2D, norm: tf.keras.layers.BatchNormalization) -> np.ndarray:
    scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    return (padding_sums(conv) * scale)[None].astype(np.float32)


def _subtract_after(call: Callable, constant: np.ndarray) -> Callable:
    def corrected(inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        # LCE's converter would fuse the constant map as if it were a bias per channel, and the file would not load.
        # A maximum that never applies prevents the fusion.
        return tf.maximum(call(inputs, training=training), _LOWEST) - constant

    return corrected
