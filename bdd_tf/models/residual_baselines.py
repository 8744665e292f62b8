"""Small float networks on residuals, in the manner of published detectors of generated images.

``tiny-ladeda``: after Tiny-LaDeDa (Cavia et al., arXiv 2406.07398): differences of diagonal neighbours, three
convolutions with a receptive field of 9x9 pixels, and the mean of the patches' scores. The original is distilled and has
1,297 parameters; this one is trained directly.

``ferretnet``: after FerretNet (arXiv 2509.20890): the image minus its 3x3 median, then about a million parameters in
residual blocks of depthwise-separable and dilated convolutions.

Both follow the idea and the size of the originals, not every layer: they are baselines that see the same images as this
project's networks.
"""

from __future__ import annotations

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import MOMENTUM
from bdd_tf.models.channels.median import median_filter

layers = tf.keras.layers
RESIDUAL_BASELINES = ("tiny-ladeda", "ferretnet")
#: Residuals of normalised images are small; this brings them to about unit deviation.
_GAIN = 8.0


def residual_baseline(x: tf.Tensor, name: str, stem_stride: int) -> tf.Tensor:
    """Build a network without its classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB.
        name: One of :data:`RESIDUAL_BASELINES`.
        stem_stride: Of the first strided convolution: 1 or 2.

    Returns:
        Features [N, C] float32: 6 of ``tiny-ladeda``, 256 of ``ferretnet``.

    Raises:
        UsageError: For an unknown name.
    """
    if name == "tiny-ladeda":
        return _tiny_ladeda(x, stem_stride)
    if name == "ferretnet":
        return _ferretnet(x, stem_stride)
    raise one_of("backbone", name, RESIDUAL_BASELINES)


def _convolved(x: tf.Tensor, filters: int, name: str, kernel: int = 3, stride: int = 1) -> tf.Tensor:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}.conv")(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}.norm")(x)


def _tiny_ladeda(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Diagonal differences, then convolutions of 8, 8 and 6 filters."""
    x = (x[:, :-1, :-1] - x[:, 1:, 1:]) * _GAIN
    for i, (filters, step) in enumerate(((8, 1), (8, stride), (6, 1))):
        x = layers.ReLU(name=f"patch{i}.relu")(_convolved(x, filters, f"patch{i}", stride=step))
    return layers.GlobalAveragePooling2D(name="feature.mean")(x)


def _ferretnet(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Median residual, a stem of 32 filters, then stages of residual blocks."""
    x = (x - median_filter(x)) * _GAIN
    x = layers.ReLU(name="stem.relu")(_convolved(x, 32, "stem", stride=stride))
    for stage, (filters, blocks) in enumerate(((64, 2), (128, 2), (256, 4))):
        x = layers.ReLU(name=f"stage{stage}.relu")(_convolved(x, filters, f"stage{stage}", stride=2))
        for block in range(blocks):
            x = _block(x, filters, f"stage{stage}.block{block}")
    return layers.GlobalAveragePooling2D(name="feature.mean")(x)


def _block(x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    """Two depthwise convolutions side by side, one of them dilated, mixed by 1x1 convolutions, with a shortcut."""
    sides = []
    for dilation in (1, 2):
        side = layers.DepthwiseConv2D(
            3, padding="same", dilation_rate=dilation, use_bias=False, name=f"{name}.depthwise{dilation}"
        )(x)
        side = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}.depthwise{dilation}.norm")(side)
        sides.append(side)
    y = layers.ReLU(name=f"{name}.relu")(layers.Concatenate(name=f"{name}.sides")(sides))
    y = _convolved(y, filters, f"{name}.mix", kernel=1)
    return layers.ReLU(name=f"{name}.out")(layers.Add(name=f"{name}.add")([x, y]))
