"""Recognise the layout of a published vision network by the names and shapes of its tensors.

Supported: CLIP of OpenAI and open_clip (ResNet50, ViT-B/32), ViT-B/32 of timm, torchvision and the original ``.npz``, and
ResNet50 of timm and torchvision. Text towers and classifiers are left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf.errors import BddError, UsageError
from bdd_tf.models.vision_sizes import RESNETS, TRANSFORMERS
from converters.pytorch.state_dict import Entry
from converters.pytorch.vision_entries import NAMES, resnet_entries, transformer_entries

#: Beginnings of the names of CLIP's other tensors: the text tower, the temperature, and three settings that OpenAI stores.
_TEXT = (
    "transformer.",
    "text.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "attn_mask",
)
_SETTINGS = ("input_resolution", "context_length", "vocab_size")
#: Beginnings of the names of classifiers.
_CLASSIFIERS = ("head.", "heads.", "fc.", "pre_logits.")
#: Words in file names of weights that were trained with QuickGELU, and with GELU.
_QUICK = re.compile(r"quickgelu|laion400m|openai|metaclip|dfn2b")
_EXACT = re.compile(r"laion-?2b|datacomp|commonpool")
#: Layouts of the same networks that are not read: a tensor's name, and advice.
_OTHERS = {
    "vision_model.embeddings.class_embedding": "the layout of transformers; give the file of open_clip or OpenAI",
    "visual.trunk.patch_embed.proj.weight": "an open_clip model around a network of timm, which is none of the supported ones",
    "norm_pre.weight": "timm's form of CLIP's image tower; give open_clip_model.safetensors of the same repository",
}
#: Name of the tensor that identifies a layout, and of the one with the positions.
_TOKEN_OF = {"cls_token": "timm", "class_token": "torchvision", "visual.class_embedding": "clip"}


class UnknownActivation(UsageError):
    """A CLIP ViT-B/32 of which nothing tells the activation.

    Args:
        message: For the user.
        fitting: Names of the backbones that fit.
    """

    def __init__(self, message: str, fitting: list[str]):
        super().__init__(message)
        self.fitting = fitting


@dataclass(frozen=True)
class VisionCheckpoint:
    """A recognised checkpoint.

    Attributes:
        backbone: A key of :data:`bdd_tf.models.registry.BACKBONES`.
        layout: Library and network, for messages.
        resolution: Side of the input in pixels, which the position embedding determines; 224 without one.
        normalisation: Of the input, by name.
        tensors: The image network's tensors, in the names of ``entries``.
        entries: The tensors that the network has.
        left_out: Parts of the file that are not imported, with their number of tensors.
        reason: The activation, and where it is stated, if the tensors alone fit another backbone as well; else empty.
    """

    backbone: str
    layout: str
    resolution: int
    normalisation: str
    tensors: dict[str, np.ndarray]
    entries: list[Entry]
    left_out: list[str]
    reason: str = ""


def recognise(tensors: Mapping[str, np.ndarray], path: Path, backbone: str | None = None) -> VisionCheckpoint:
    """Recognise a checkpoint.

    Args:
        tensors: Arrays by name.
        path: The file; its name, and ``open_clip_config.json`` beside it, tell the activation of a CLIP ViT-B/32.
        backbone: Name of the backbone, if the user gave it.

    Returns:
        The checkpoint. Shapes of single tensors are not checked.

    Raises:
        UsageError: If the backbone does not fit; :class:`UnknownActivation` if nothing tells that of CLIP's ViT-B/32.
        BddError: If the tensors are those of no supported network, of an unsupported size, or of a layout that is not read.
    """
    for name, what in _OTHERS.items():
        if name in tensors:
            raise BddError(f"{path} has {what}.")
    if "embedding/kernel" in tensors and "cls" in tensors:
        try:
            tensors = _from_npz(tensors)
        except (ValueError, TypeError, IndexError) as error:
            raise BddError(f"{path} is damaged: an array has an impossible shape ({error}).") from error
    kept, left_out = _split(tensors)
    library = next((name for token, name in _TOKEN_OF.items() if token in kept), None)
    if library:
        found = _transformer(kept, library, path, backbone, _is_openai(tensors, path))
    elif "visual.attnpool.positional_embedding" in kept or "layer1.0.conv1.weight" in kept:
        found = _resnet(kept, path)
    else:
        listed = ", ".join(sorted(tensors)[:3]) + (", ..." if len(tensors) > 3 else "")
        raise BddError(
            f"{path} is not a BNext, CLIP (OpenAI, open_clip), ViT-B/32 (timm, torchvision, .npz) or ResNet50 (timm, "
            f"torchvision): it holds {listed} ({len(tensors)} tensors)."
        )
    if backbone not in (None, found.backbone):
        raise UsageError(f"{path} holds a {found.backbone}, not the {backbone} of --backbone.")
    found.left_out.extend(left_out)
    return found


def _split(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Separate the image network from text tower and classifier."""
    is_clip = any(key.startswith("visual.") for key in tensors)
    parts = {"text tower": _TEXT, "settings": _SETTINGS} if is_clip else {"classifier": _CLASSIFIERS}
    kept, left = dict(tensors), []
    for what, names in parts.items():
        keys = [key for key in kept if key.startswith(names)]
        if keys:
            left.append(f"{what} ({len(keys)} tensor{'s' * (len(keys) > 1)})")
        for key in keys:
            del kept[key]
    return kept, left


def _transformer(
    tensors: dict[str, np.ndarray], library: str, path: Path, backbone: str | None, openai: bool
) -> VisionCheckpoint:
    names = NAMES[library]
    positions, patch = tensors.get(names["positions"]), tensors.get(f"{names['patch']}.weight")
    if positions is None or patch is None or patch.ndim != 4 or positions.ndim not in (2, 3):
        raise BddError(
            f"{path} is damaged: {names['positions']} or {names['patch']}.weight is missing or misshapen."
        )
    if library == "torchvision":  # before 2022 its MLP had other names
        tensors = {
            re.sub(r"\.mlp\.linear_([12])\.", lambda m: f".mlp.{3 * int(m[1]) - 3}.", k): v
            for k, v in tensors.items()
        }
    tokens, width = positions.shape[-2:]
    block = re.compile(re.escape(names["norm1"]).replace(r"\{\}", r"(\d+)") + r"\.weight")
    depth = sum(block.fullmatch(key) is not None for key in tensors)
    projection = (
        tensors["visual.proj"].shape[-1] if "visual.proj" in tensors and tensors["visual.proj"].ndim else None
    )
    given = (width, depth, patch.shape[-1], projection)
    fitting = [n for n, s in TRANSFORMERS.items() if (s.width, s.depth, s.patch, s.projection) == given]
    if not fitting:
        raise BddError(
            f"{path} holds a transformer of width {width}, {depth} blocks, patches of {patch.shape[-1]} px and "
            f"{'no' if projection is None else projection} projected features, which is no ViT-B/32 (768, 12, 32; CLIP: 512)."
        )
    name, reason = (fitting[0], "") if len(fitting) == 1 else _by_activation(fitting, path, backbone, openai)
    size, layout = (
        TRANSFORMERS[name],
        {"clip": "CLIP", "timm": "ViT of timm"}.get(library, "ViT of torchvision"),
    )
    normalisation = "imagenet" if library == "torchvision" else size.normalisation
    return VisionCheckpoint(
        name, layout, size.patch * _grid(tokens, path), normalisation, tensors,
        list(transformer_entries(size, library, tokens)), [], reason,
    )  # fmt: skip


def _grid(tokens: int, path: Path) -> int:
    side = math.isqrt(max(tokens - 1, 0))
    if not side or side * side != tokens - 1:
        raise BddError(f"{path} has {tokens} positions, which are not one token and a square grid.")
    return side


def _is_openai(tensors: Mapping[str, np.ndarray], path: Path) -> bool:
    return "input_resolution" in tensors or _torchscript_of_clip(path)


def _torchscript_of_clip(path: Path) -> bool:
    """Whether the file is TorchScript: of CLIP, only OpenAI publishes it."""
    from converters.pytorch.tensor_archives import is_torchscript

    return path.is_file() and is_torchscript(path)


def _by_activation(fitting: list[str], path: Path, backbone: str | None, openai: bool) -> tuple[str, str]:
    """Choose between networks that differ only in their activation, which no tensor tells; return name and reason."""
    by_activation = {TRANSFORMERS[name].activation: name for name in fitting}
    if backbone is not None:
        if backbone not in fitting:
            raise UsageError(f"{path} holds one of {', '.join(fitting)}, not the {backbone} of --backbone.")
        return backbone, ""
    quick, why = True, "OpenAI's layout"
    if not openai:
        stated = _config_beside(path)
        # The folder's name counts: downloads from a hub have the same file name for all weights.
        named = f"{path.parent.name}/{path.name}".lower()
        if stated is not None:
            quick, why = stated, "open_clip_config.json beside it"
        elif _QUICK.search(named) or _EXACT.search(named):
            quick, why = _QUICK.search(named) is not None, "its name"
        else:
            raise UnknownActivation(
                f"the tensors of {path} do not tell their activation: give --backbone {by_activation['quick_gelu']} for weights "
                f"of OpenAI or LAION-400M (QuickGELU), or --backbone {by_activation['gelu']} for LAION-2B or DataComp (GELU).",
                fitting,
            )
    return by_activation["quick_gelu" if quick else "gelu"], f"{'QuickGELU' if quick else 'GELU'} by {why}"


def _config_beside(path: Path) -> bool | None:
    """Whether open_clip's configuration in the same folder names QuickGELU; None without one."""
    config = path.with_name("open_clip_config.json")
    if not config.is_file():
        return None
    try:
        if config.stat().st_size > 2**20:
            raise ValueError("it is too large")
        return bool(json.loads(config.read_text())["model_cfg"].get("quick_gelu", False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BddError(
            f"{config} is damaged ({error}); download it again, or remove it and give --backbone."
        ) from error


def _resnet(tensors: dict[str, np.ndarray], path: Path) -> VisionCheckpoint:
    positions = tensors.get("visual.attnpool.positional_embedding")
    is_clip, prefix = positions is not None, "visual." if positions is not None else ""
    stem = tensors.get(f"{prefix}layer1.0.conv1.weight")
    if stem is None or stem.ndim != 4 or (positions is not None and positions.ndim != 2):
        raise BddError(
            f"{path} is damaged: {prefix}layer1.0.conv1.weight or the positions are missing or misshapen."
        )
    stages = [
        sum(re.fullmatch(rf"{prefix}layer{stage}\.\d+\.conv3\.weight", key) is not None for key in tensors)
        for stage in range(1, 10)
    ]
    blocks, width = tuple(n for n in stages if n), stem.shape[0]
    name = next(
        (n for n, s in RESNETS.items() if (s.width, s.blocks, s.is_clip) == (width, blocks, is_clip)), None
    )
    if name is None:
        raise BddError(
            f"{path} holds a residual network of width {width} with {'+'.join(map(str, blocks)) or 'no'} bottlenecks, which "
            "is no ResNet50 (64, 3+4+6+3)."
        )
    size, tokens = RESNETS[name], 0 if positions is None else len(positions)
    side = 7 if positions is None else _grid(tokens, path)
    return VisionCheckpoint(
        name, "CLIP" if is_clip else "ResNet50 of torchvision and timm", 32 * side, size.normalisation, tensors,
        list(resnet_entries(size, tokens)), [],
    )  # fmt: skip


def _from_npz(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and reshape the arrays of the original ViT to timm's layout. Unknown ones keep their name."""
    found: dict[str, np.ndarray] = {}
    parts: dict[str, dict[str, np.ndarray]] = {}
    simple = {
        "cls": "cls_token", "embedding/bias": "patch_embed.proj.bias",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
        "Transformer/encoder_norm/scale": "norm.weight", "Transformer/encoder_norm/bias": "norm.bias",
    }  # fmt: skip
    for key, value in tensors.items():
        block = re.fullmatch(
            r"Transformer/encoderblock_(\d+)/(\w+?)(?:_[0-3])?/(\w+/)?(kernel|bias|scale)", key
        )
        if key in simple:
            found[simple[key]] = value
        elif key == "embedding/kernel" and value.ndim == 4:
            found["patch_embed.proj.weight"] = value.transpose(3, 2, 0, 1)
        elif key.startswith(("head/", "pre_logits/")):
            found[key.replace("/", ".")] = value
        elif block is None:
            found[key] = value
        else:
            _npz_block(key, value, found, parts)
    for key, qkv in parts.items():
        if set(qkv) == {"query", "key", "value"}:
            found[key] = np.concatenate([qkv[part] for part in ("query", "key", "value")])
    return found


def _npz_block(
    key: str, value: np.ndarray, found: dict[str, np.ndarray], parts: dict[str, dict[str, np.ndarray]]
) -> None:
    """Add an array of a block: kernels [in, out] (or with heads as axes of their own) become [out, in]."""
    _, block, *names = key.split("/")
    prefix, end = (
        f"blocks.{block.removeprefix('encoderblock_')}.",
        "bias" if names[-1] == "bias" else "weight",
    )
    kind, part = names[0], names[1] if len(names) > 2 else ""
    if kind.startswith("LayerNorm"):
        found[f"{prefix}norm{1 if kind.endswith('_0') else 2}.{end}"] = value
    elif kind.startswith("MlpBlock"):
        found[f"{prefix}mlp.fc{1 if part == 'Dense_0' else 2}.{end}"] = value.T
    elif part == "out":
        found[f"{prefix}attn.proj.{end}"] = value.reshape(-1, value.shape[-1]).T if end == "weight" else value
    else:
        flat = value.reshape(len(value), -1).T if end == "weight" else value.reshape(-1)
        parts.setdefault(f"{prefix}attn.qkv.{end}", {})[part] = flat
