"""Sizes of the vision transformers and of the residual networks with published PyTorch weights. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass


class _Tower:
    """What the sizes have in common."""

    projection: int | None

    @property
    def is_clip(self) -> bool:
        """Whether this is the image tower of CLIP."""
        return self.projection is not None


@dataclass(frozen=True)
class TransformerSize(_Tower):
    """A vision transformer (ViT, arXiv 2010.11929), or the image tower of CLIP (arXiv 2103.00020).

    Attributes:
        width: Numbers per token.
        depth: Number of blocks.
        heads: Attention heads per block; a divisor of ``width``.
        patch: Side of a patch in pixels.
        activation: ``gelu``, or ``quick_gelu``, x * sigmoid(1.702 x), with which OpenAI trained CLIP.
        epsilon: Added to the variance in layer normalisation.
        projection: Outputs of CLIP's projection; None for a ViT, whose features are the normalised class token. With a
            projection the network also normalises the embedded tokens, and its patch embedding has no bias.
        normalisation: Of the input, by name (:mod:`bdd_tf.models.normalisation`).
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 32
    activation: str = "gelu"
    epsilon: float = 1e-6
    projection: int | None = None
    normalisation: str = "half"


@dataclass(frozen=True)
class ResNetSize(_Tower):
    """A residual network of bottlenecks as PyTorch builds it: the stride is in the 3x3 convolution.

    Attributes:
        width: Channels of the stem; the first bottlenecks have as many.
        blocks: Bottlenecks per stage.
        projection: Outputs of CLIP's attention pooling; None for the plain network, which ends in the mean over the map.
            With a projection the network has CLIP's form: a stem of three convolutions, and average pools in place of
            strides (arXiv 2103.00020, section 2.4).
        normalisation: Of the input, by name.
    """

    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    projection: int | None = None
    normalisation: str = "imagenet"

    @property
    def map_width(self) -> int:
        """Channels of the last map."""
        return self.width * EXPANSION * 2 ** (len(self.blocks) - 1)

    @property
    def heads(self) -> int:
        """Heads of the attention pooling, of 64 numbers each, as in CLIP; at least one."""
        return max(self.map_width // 64, 1)


#: A bottleneck has this many times more channels at its ends than inside.
EXPANSION = 4
#: Stride of the stem: a strided convolution, and a pool.
STEM_STRIDE = 4

TRANSFORMERS = {
    "vit-b32": TransformerSize(),
    # OpenAI's weights and those of LAION-400M.
    "clip-vit-b32": TransformerSize(
        activation="quick_gelu", epsilon=1e-5, projection=512, normalisation="clip"
    ),
    # LAION-2B.
    "openclip-vit-b32": TransformerSize(
        activation="gelu", epsilon=1e-5, projection=512, normalisation="clip"
    ),
}
RESNETS = {
    "resnet50-v1.5": ResNetSize(),
    "clip-resnet50": ResNetSize(projection=1024, normalisation="clip"),
}
