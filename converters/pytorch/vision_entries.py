"""The tensors of published vision networks, in each library's names and layout, and their Keras weights.

Names and shapes follow OpenAI's CLIP and open_clip, timm, torchvision, and the original ViT (``.npz``).
"""

from __future__ import annotations

from collections.abc import Iterator

from bdd_tf.models.vision_sizes import EXPANSION, ResNetSize, TransformerSize
from converters.pytorch.state_dict import KERNEL, Entry, Layout

#: [out, in] <-> [in, out].
MATRIX = Layout(lambda t: t.T, lambda k, _: k.T)
#: [1, tokens, width] or [1, 1, width] <-> without the axes of length one in front.
TOKENS = Layout(lambda t: t.reshape(t.shape[-2:]), lambda k, shape: k.reshape(shape))
TOKEN = Layout(lambda t: t.reshape(-1), lambda k, shape: k.reshape(shape))

#: Names of a transformer's parts: of a block's (``{}`` is its number), and of the rest.
_TIMM = {
    "patch": "patch_embed.proj",
    "token": "cls_token",
    "positions": "pos_embed",
    "norm1": "blocks.{}.norm1",
    "qkv": "blocks.{}.attn.qkv.",
    "out": "blocks.{}.attn.proj",
    "norm2": "blocks.{}.norm2",
    "hidden": "blocks.{}.mlp.fc1",
    "mlp": "blocks.{}.mlp.fc2",
    "norm": "norm",
}
_TORCHVISION = {
    "patch": "conv_proj",
    "token": "class_token",
    "positions": "encoder.pos_embedding",
    "norm1": "encoder.layers.encoder_layer_{}.ln_1",
    "qkv": "encoder.layers.encoder_layer_{}.self_attention.in_proj_",
    "out": "encoder.layers.encoder_layer_{}.self_attention.out_proj",
    "norm2": "encoder.layers.encoder_layer_{}.ln_2",
    "hidden": "encoder.layers.encoder_layer_{}.mlp.0",
    "mlp": "encoder.layers.encoder_layer_{}.mlp.3",
    "norm": "encoder.ln",
}
_CLIP = {
    "patch": "visual.conv1",
    "token": "visual.class_embedding",
    "positions": "visual.positional_embedding",
    "norm1": "visual.transformer.resblocks.{}.ln_1",
    "qkv": "visual.transformer.resblocks.{}.attn.in_proj_",
    "out": "visual.transformer.resblocks.{}.attn.out_proj",
    "norm2": "visual.transformer.resblocks.{}.ln_2",
    "hidden": "visual.transformer.resblocks.{}.mlp.c_fc",
    "mlp": "visual.transformer.resblocks.{}.mlp.c_proj",
    "norm": "visual.ln_post",
}
NAMES = {"timm": _TIMM, "torchvision": _TORCHVISION, "clip": _CLIP}


def _dense(key: str, layer: str, out: int, into: int) -> Iterator[Entry]:
    """``key`` ends where ``weight`` and ``bias`` begin."""
    yield Entry(f"{key}weight", (out, into), layer, 0, MATRIX)
    yield Entry(f"{key}bias", (out,), layer, 1)


def _norm(key: str, layer: str, width: int) -> Iterator[Entry]:
    yield Entry(f"{key}.weight", (width,), layer, 0)
    yield Entry(f"{key}.bias", (width,), layer, 1)


def transformer_entries(size: TransformerSize, library: str, tokens: int) -> Iterator[Entry]:
    """Yield the tensors of a vision transformer without its classifier.

    Args:
        size: Its size.
        library: A key of :data:`NAMES`.
        tokens: Number of tokens, the class token included.
    """
    names, width = NAMES[library], size.width
    batch = () if size.is_clip else (1,)
    patch = "feature.patch_embedding"
    yield Entry(f"{names['patch']}.weight", (width, 3, size.patch, size.patch), patch, 0, KERNEL)
    if not size.is_clip:
        yield Entry(f"{names['patch']}.bias", (width,), patch, 1)
    yield Entry(names["positions"], (*batch, tokens, width), "feature.tokens", 0, TOKENS)
    token = (width,) if size.is_clip else (1, 1, width)
    yield Entry(names["token"], token, "feature.tokens", 1, TOKEN)
    if size.is_clip:
        yield from _norm("visual.ln_pre", "feature.embedding_norm", width)
    for number in range(size.depth):
        key = {part: name.format(number) for part, name in names.items()}
        layer = f"feature.block{number}"
        yield from _norm(key["norm1"], f"{layer}.norm1", width)
        yield from _dense(key["qkv"], f"{layer}.attention.qkv", 3 * width, width)
        yield from _dense(f"{key['out']}.", f"{layer}.attention.out", width, width)
        yield from _norm(key["norm2"], f"{layer}.norm2", width)
        yield from _dense(f"{key['hidden']}.", f"{layer}.mlp.hidden", 4 * width, width)
        yield from _dense(f"{key['mlp']}.", f"{layer}.mlp.out", width, 4 * width)
    yield from _norm(names["norm"], "feature.norm", width)
    if size.projection:
        yield Entry("visual.proj", (width, size.projection), "feature.projection", 0)


def _convolution(key: str, norm: str, layer: str, shape: tuple[int, ...]) -> Iterator[Entry]:
    """A convolution without bias and its batch normalisation; ``layer`` is the prefix of both Keras layers."""
    yield Entry(f"{key}.weight", shape, f"{layer}{key}", 0, KERNEL)
    for index, part in enumerate(("weight", "bias", "running_mean", "running_var")):
        yield Entry(f"{norm}.{part}", shape[:1], f"{layer}{norm}", index)
    yield Entry(f"{norm}.num_batches_tracked", (), required=False)


def resnet_entries(size: ResNetSize, tokens: int) -> Iterator[Entry]:
    """Yield the tensors of a residual network without its classifier; names as in torchvision, timm, and below ``visual.``.

    Args:
        size: Its size.
        tokens: Number of tokens of CLIP's attention pooling, the mean included; ignored for the plain network.
    """
    for entry in _resnet_entries(size, tokens):
        key = f"visual.{entry.key}" if size.is_clip else entry.key
        yield Entry(key, entry.shape, entry.layer, entry.index, entry.layout, entry.required)


def _resnet_entries(size: ResNetSize, tokens: int) -> Iterator[Entry]:
    width, half = size.width, size.width // 2
    stem = ((3, half, 3), (half, half, 3), (half, width, 3)) if size.is_clip else ((3, width, 7),)
    for number, (into, out, kernel) in enumerate(stem, start=1):
        yield from _convolution(f"conv{number}", f"bn{number}", "feature.", (out, into, kernel, kernel))
    into = width
    for stage, blocks in enumerate(size.blocks, start=1):
        inner, out = width * 2 ** (stage - 1), EXPANSION * width * 2 ** (stage - 1)
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            shapes = ((inner, into, 1, 1), (inner, inner, 3, 3), (out, inner, 1, 1))
            for number, shape in enumerate(shapes, start=1):
                yield from _convolution(f"{key}.conv{number}", f"{key}.bn{number}", "feature.", shape)
            if not block:
                yield from _convolution(
                    f"{key}.downsample.0", f"{key}.downsample.1", "feature.", (out, into, 1, 1)
                )
            into = out
    if size.projection:
        yield Entry("attnpool.positional_embedding", (tokens, into), "feature.pool_tokens", 0)
        for part, name in (("q", "query"), ("k", "key"), ("v", "value")):
            yield from _dense(f"attnpool.{part}_proj.", f"feature.attnpool.{name}", into, into)
        yield from _dense("attnpool.c_proj.", "feature.attnpool.out", size.projection, into)
