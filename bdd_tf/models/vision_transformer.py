"""Vision transformers: ViT (Dosovitskiy et al., arXiv 2010.11929) and the image tower of CLIP (arXiv 2103.00020).

    patches -> embedding -> class token, positions -> (CLIP: norm) -> pre-norm blocks -> norm of the class token
            -> (CLIP: projection)

A block adds self-attention of its normalised input, then an MLP of its normalised input. There is no dropout. The features
of CLIP are the projected embedding, which is not scaled to unit length.
"""

from __future__ import annotations

from bdd_tf.legacy_keras import tf
from bdd_tf.models.attention import (
    ACTIVATIONS,
    LayerNorm,
    PositionEmbedding,
    ScaledDotProductAttention,
    TokenDense,
    initializer,
)
from bdd_tf.models.vision_sizes import TransformerSize

layers = tf.keras.layers
#: Width of the MLP's hidden layer, as a multiple of the tokens' width.
MLP_RATIO = 4


def vision_transformer(x: tf.Tensor, size: TransformerSize) -> tf.Tensor:
    """Build a vision transformer without classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W are multiples of the patch.
        size: Its size.

    Returns:
        Features [N, C] float32: the normalised class token, or CLIP's projection of it.
    """
    x = layers.Conv2D(
        size.width,
        size.patch,
        strides=size.patch,
        use_bias=not size.is_clip,
        kernel_initializer=initializer(),
        name="feature.patch_embedding",
    )(x)
    _, height, width, channels = x.shape
    x = layers.Reshape((height * width, channels), name="feature.patches")(x)
    x = PositionEmbedding(name="feature.tokens")(x)
    if size.is_clip:
        x = LayerNorm(size.epsilon, name="feature.embedding_norm")(x)
    for number in range(size.depth):
        x = _block(x, size, f"feature.block{number}")
    x = LayerNorm(size.epsilon, name="feature.norm")(x[:, 0])
    if size.is_clip:
        x = layers.Dense(
            size.projection, use_bias=False, kernel_initializer=initializer(), name="feature.projection"
        )(x)
    return x


def _block(x: tf.Tensor, size: TransformerSize, name: str) -> tf.Tensor:
    y = LayerNorm(size.epsilon, name=f"{name}.norm1")(x)
    qkv = TokenDense(3 * size.width, kernel_initializer=initializer(), name=f"{name}.attention.qkv")(y)
    y = ScaledDotProductAttention(size.heads, name=f"{name}.attention")(tf.split(qkv, 3, -1))
    y = TokenDense(size.width, kernel_initializer=initializer(), name=f"{name}.attention.out")(y)
    x = layers.Add(name=f"{name}.attention.add")([x, y])
    y = LayerNorm(size.epsilon, name=f"{name}.norm2")(x)
    y = TokenDense(MLP_RATIO * size.width, kernel_initializer=initializer(), name=f"{name}.mlp.hidden")(y)
    y = layers.Activation(ACTIVATIONS[size.activation], name=f"{name}.mlp.activation")(y)
    y = TokenDense(size.width, kernel_initializer=initializer(), name=f"{name}.mlp.out")(y)
    return layers.Add(name=f"{name}.mlp.add")([x, y])
