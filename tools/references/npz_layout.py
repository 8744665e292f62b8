"""The names and shapes of the original ViT's `.npz` files, from a state dict of timm. NumPy only: two environments use it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def npz_arrays(state: Mapping[str, np.ndarray], heads: int, depth: int) -> dict[str, np.ndarray]:
    """Rename and reshape the tensors of a ViT of timm as the original JAX code stores them."""
    width = state["cls_token"].shape[-1]
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(depth):
        theirs, ours = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for kind, word, scale in (("weight", "kernel", "scale"), ("bias", "bias", "bias")):
            for number, norm in ((0, "norm1"), (2, "norm2")):
                arrays[f"{ours}LayerNorm_{number}/{scale}"] = state[f"{theirs}{norm}.{kind}"]
            for number, layer in ((0, "fc1"), (1, "fc2")):
                arrays[f"{ours}MlpBlock_3/Dense_{number}/{word}"] = state[f"{theirs}mlp.{layer}.{kind}"].T
            attention = f"{ours}MultiHeadDotProductAttention_1/"
            parts = np.split(state[f"{theirs}attn.qkv.{kind}"], 3)
            for part, value in zip(("query", "key", "value"), parts, strict=True):
                shape = (width, heads, -1) if kind == "weight" else (heads, -1)
                arrays[f"{attention}{part}/{word}"] = value.T.reshape(shape)
            out = state[f"{theirs}attn.proj.{kind}"].T
            arrays[f"{attention}out/{word}"] = out.reshape(heads, -1, width) if kind == "weight" else out
    return {key: np.ascontiguousarray(value) for key, value in arrays.items()}
