"""ResNet50 in the form of PyTorch's weights, and the modified ResNet50 of CLIP.

``resnet50-v1.5`` is He et al.'s network (arXiv 1512.03385) with the stride of a stage in its first 3x3 convolution, as in
torchvision and timm; Keras' own form (:mod:`bdd_tf.models.float_baselines`) has it in the 1x1 convolution before.

``clip-resnet50`` (Radford et al., arXiv 2103.00020, section 2.4; ResNet-D, arXiv 1812.01187): a stem of three 3x3
convolutions, anti-aliasing average pools in place of strides, and attention pooling: the mean of the map is the query of one
multi-head attention over the map with learnt positions.
"""

from __future__ import annotations

from bdd_tf.legacy_keras import tf
from bdd_tf.models.attention import (
    MeanTokenFirst,
    PositionEmbedding,
    ScaledDotProductAttention,
    TokenDense,
    initializer,
)
from bdd_tf.models.bnext import MOMENTUM
from bdd_tf.models.vision_sizes import EXPANSION, ResNetSize

layers = tf.keras.layers
#: PyTorch's epsilon of batch normalisation; Keras' is 1e-3.
_EPSILON = 1e-5


def bottleneck_resnet(x: tf.Tensor, size: ResNetSize, stem_stride: int) -> tf.Tensor:
    """Build a residual network without classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W are multiples of 32 (of 8 with a stem of stride 1).
        size: Its size.
        stem_stride: 1: the plain network's form for small images, without stride and pool in the stem. Else 4.

    Returns:
        Features [N, C] float32.
    """
    x = _clip_stem(x, size.width) if size.is_clip else _plain_stem(x, size.width, stem_stride)
    for stage, blocks in enumerate(size.blocks):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _bottleneck(
                x, size.width * 2**stage, stride, f"feature.layer{stage + 1}.{block}", size.is_clip
            )
    if size.is_clip:
        return _attention_pool(x, size)
    return layers.GlobalAveragePooling2D(name="feature.mean")(x)


def _convolved(
    x: tf.Tensor, filters: int, kernel: int, stride: int, name: str, norm: str, relu: bool = True
) -> tf.Tensor:
    """Convolve with PyTorch's symmetric padding, normalise, and apply a ReLU."""
    if kernel > 1 and stride > 1:
        # TensorFlow's SAME would pad less on the left than on the right.
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}.padding")(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(
        filters,
        kernel,
        stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=_EPSILON, name=norm)(x)
    return layers.ReLU(name=f"{norm}.relu")(x) if relu else x


def _plain_stem(x: tf.Tensor, width: int, stride: int) -> tf.Tensor:
    x = _convolved(x, width, 7, min(stride, 2), "feature.conv1", "feature.bn1")
    if stride == 1:
        return x
    # Zeros serve as padding of a maximum, since nothing behind a ReLU is negative.
    x = layers.ZeroPadding2D(1, name="feature.pool.padding")(x)
    return layers.MaxPooling2D(3, 2, name="feature.pool")(x)


def _clip_stem(x: tf.Tensor, width: int) -> tf.Tensor:
    for number, (filters, stride) in enumerate(((width // 2, 2), (width // 2, 1), (width, 1)), start=1):
        x = _convolved(x, filters, 3, stride, f"feature.conv{number}", f"feature.bn{number}")
    return layers.AveragePooling2D(2, name="feature.pool")(x)


def _bottleneck(x: tf.Tensor, width: int, stride: int, name: str, anti_aliased: bool) -> tf.Tensor:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut. Anti-aliased: average pools halve the map, no convolution does."""
    inner = 1 if anti_aliased else stride
    y = _convolved(x, width, 1, 1, f"{name}.conv1", f"{name}.bn1")
    y = _convolved(y, width, 3, inner, f"{name}.conv2", f"{name}.bn2")
    if stride > inner:
        y = layers.AveragePooling2D(stride, name=f"{name}.pool")(y)
        x = layers.AveragePooling2D(stride, name=f"{name}.downsample.pool")(x)
    y = _convolved(y, EXPANSION * width, 1, 1, f"{name}.conv3", f"{name}.bn3", relu=False)
    if stride > 1 or x.shape[-1] != EXPANSION * width:
        x = _convolved(
            x, EXPANSION * width, 1, inner, f"{name}.downsample.0", f"{name}.downsample.1", relu=False
        )
    return layers.ReLU(name=f"{name}.relu")(layers.Add(name=f"{name}.add")([x, y]))


def _attention_pool(x: tf.Tensor, size: ResNetSize) -> tf.Tensor:
    x = PositionEmbedding(False, name="feature.pool_tokens")(MeanTokenFirst(name="feature.mean_token")(x))
    parts = {
        part: TokenDense(size.map_width, kernel_initializer=initializer(), name=f"feature.attnpool.{part}")
        for part in ("query", "key", "value")
    }
    query, key, value = parts["query"](x[:, :1]), parts["key"](x), parts["value"](x)
    x = ScaledDotProductAttention(size.heads, name="feature.attnpool")([query, key, value])
    return layers.Dense(size.projection, kernel_initializer=initializer(), name="feature.attnpool.out")(
        x[:, 0]
    )
