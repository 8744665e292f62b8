"""Map the PyTorch tensors of the published BNext to Keras weights and back.

Names and shapes follow the published code (hpi-xnor/BNext, ``src/bnext.py``) and the reference detector that contains it
(Lanzino et al.). This module does not import torch: tensors are NumPy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import SQUEEZE_RATIO
from bdd_tf.models.bnext_sizes import BNEXT

#: Below this temperature T the published convolution binarizes its weights; above it, it clips weight / T.
SIGN_TEMPERATURE = 1e-7
#: Number of tensors that an error message lists.
_LISTED = 8


@dataclass(frozen=True)
class Layout:
    """A lossless change of layout and its inverse. A change of sign is lossless as well."""

    to_keras: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


PLAIN = Layout(lambda t: t, lambda k, _: k)
#: [1, C, 1, 1] or [C] <-> the same numbers in the same order in Keras' shape.
RESHAPED = Layout(lambda t: t.reshape(-1), lambda k, shape: k.reshape(shape))
SLOPE = Layout(lambda t: t.reshape(1, 1, -1), lambda k, shape: k.reshape(shape))
#: [out, in, height, width] <-> [height, width, in, out].
KERNEL = Layout(lambda t: t.transpose(2, 3, 1, 0), lambda k, _: k.transpose(3, 2, 0, 1))
#: The same, rotated by 180 degrees: the backbone runs on the rotated image (see bdd_tf/models/bnext.py).
ROTATED_KERNEL = Layout(
    lambda t: t.transpose(2, 3, 1, 0)[::-1, ::-1], lambda k, _: k[::-1, ::-1].transpose(3, 2, 0, 1)
)
#: The positive class of the reference detector is REAL, ours is FAKE: the logit changes its sign.
NEGATED_MATRIX = Layout(lambda t: -t.T, lambda k, _: -k.T)
NEGATED = Layout(lambda t: -t, lambda k, _: -k)


@dataclass(frozen=True)
class Entry:
    """One tensor of a state dict.

    Attributes:
        key: Name of the tensor, without any prefix.
        shape: Shape in torch.
        layer: Name of the Keras layer with this weight; None if the published forward pass never reads the tensor.
        index: Position among that layer's weights.
        layout: Change of layout between the two.
        required: Whether a state dict without the tensor is incomplete.
        initial: Value that an export writes if there is no Keras weight.
    """

    key: str
    shape: tuple[int, ...]
    layer: str | None = None
    index: int = 0
    layout: Layout = PLAIN
    required: bool = True
    initial: float = 0.0


def _norm(key: str, layer: str, width: int) -> Iterator[Entry]:
    for index, part in enumerate(("weight", "bias", "running_mean", "running_var")):
        yield Entry(f"{key}.{part}", (width,), layer, index)
    yield Entry(f"{key}.num_batches_tracked", (), required=False)


def _unit(key: str, layer: str, width: int, kernel: int, attention: bool) -> Iterator[Entry]:
    squeezed = width // SQUEEZE_RATIO
    yield Entry(f"{key}.scale", (1, width, 1, 1), f"{layer}.mix", 0, RESHAPED)
    yield Entry(f"{key}.move.bias", (1, width, 1, 1), f"{layer}.move", 0, RESHAPED)
    yield Entry(f"{key}.binary_activation.temperature", (1,))
    yield Entry(
        f"{key}.binary_conv.weight", (width, width, kernel, kernel), f"{layer}.conv", 0, ROTATED_KERNEL
    )
    yield Entry(f"{key}.binary_conv.temperature", (1,))
    yield from _norm(f"{key}.norm1", f"{layer}.norm1", width)
    yield from _norm(f"{key}.norm2", f"{layer}.norm2", width)
    residual = f"{layer}.residual_prelu" if attention else None
    yield Entry(f"{key}.activation1.weight", (width,), residual, 0, SLOPE, initial=0.25)
    yield Entry(f"{key}.activation2.weight", (width,), f"{layer}.prelu", 0, SLOPE)
    for number, (name, out, into) in {1: ("reduce", squeezed, width), 3: ("expand", width, squeezed)}.items():
        yield Entry(f"{key}.se.se.{number}.weight", (out, into, 1, 1), f"{layer}.{name}", 0, KERNEL)
        yield Entry(f"{key}.se.se.{number}.bias", (out,), f"{layer}.{name}", 1)


def backbone_entries(size: str) -> Iterator[Entry]:
    """Yield the tensors of a published BNext without its classifier.

    Args:
        size: A key of :data:`bdd_tf.models.bnext_sizes.BNEXT`.
    """
    widths, kernel = BNEXT[size].widths, BNEXT[size].stem_kernel
    yield Entry("feature.0.conv1.weight", (widths[0], 3, kernel, kernel), "feature.0.conv", 0, ROTATED_KERNEL)
    yield from _norm("feature.0.bn1", "feature.0.norm", widths[0])
    yield Entry("feature.0.prelu.weight", (widths[0],), initial=0.25)
    for block in BNEXT[size].blocks:
        key = layer = f"feature.{block.number}"
        yield from _unit(f"{key}.Attention", f"{layer}.attention", block.into, 3, block.attention)
        for torch_name, name in (
            (("FFN_1", "ffn_1"), ("FFN_2", "ffn_2")) if block.doubles else (("FFN", "ffn"),)
        ):
            yield from _unit(f"{key}.{torch_name}", f"{layer}.{name}", block.into, 1, False)
    yield Entry("prelu.weight", (widths[-1],), "feature.prelu", 0, SLOPE)


def imagenet_entries(size: str) -> list[Entry]:
    """Return the tensors of a published ImageNet checkpoint: the backbone, and a classifier that is not imported."""
    width = BNEXT[size].widths[-1]
    return [*backbone_entries(size), Entry("fc.weight", (1000, width)), Entry("fc.bias", (1000,))]


def detector_entries(size: str, extra_channels: int) -> list[Entry]:
    """Return the tensors of a reference detector: adapter (if there are extra channels), backbone, logit of REAL."""
    entries = [
        Entry(f"base_model.{e.key}", e.shape, e.layer, e.index, e.layout, e.required, e.initial)
        for e in backbone_entries(size)
    ]
    if extra_channels:
        entries.append(Entry("adapter.weight", (3, 3 + extra_channels, 3, 3), "adapter", 0, KERNEL))
        entries.append(Entry("adapter.bias", (3,), "adapter", 1))
    width = BNEXT[size].widths[-1]
    entries.append(Entry("fc.weight", (1, width), "logit", 0, NEGATED_MATRIX))
    entries.append(Entry("fc.bias", (1,), "logit", 1, NEGATED))
    return entries


def is_parameter(key: str) -> bool:
    """Whether PyTorch counts a tensor as a parameter; statistics and temperatures are buffers."""
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked", "temperature"))


def parameter_count(size: str, extra_channels: int) -> int:
    """Count a detector's parameters as PyTorch does, including slopes that are never read (the paper's column)."""
    return sum(math.prod(e.shape) for e in detector_entries(size, extra_channels) if is_parameter(e.key))


def size_of(tensors: Mapping[str, np.ndarray], prefix: str = "") -> str:
    """Return the size of the BNext in a state dict, from its number of blocks and the width of its stem.

    Args:
        tensors: Arrays by key.
        prefix: Prefix of the backbone's keys, before ``feature``.

    Returns:
        A key of :data:`bdd_tf.models.bnext_sizes.BNEXT`.

    Raises:
        BddError: If the state dict is not one of these networks.
    """
    start = f"{prefix}feature."
    numbers = {key[len(start) :].partition(".")[0] for key in tensors if key.startswith(start)}
    stem = tensors.get(f"{start}0.conv1.weight")
    if not numbers or stem is None or stem.ndim != 4:
        found = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise BddError(
            f"not a BNext: {start}0.conv1.weight is missing or not a 4-D kernel; the file holds {found}"
            f"{', ...' if len(tensors) > 3 else ''} ({len(tensors)} tensors)."
        )
    for size, bnext in BNEXT.items():
        if (len(numbers), stem.shape[0]) == (len(bnext.widths), bnext.widths[0]):
            return size
    known = "; ".join(f"{n}: {len(b.widths)} and {b.widths[0]}" for n, b in BNEXT.items())
    raise BddError(
        f"unknown size of BNext: {len(numbers)} entries in `feature` and a stem of {stem.shape[0]} channels; known "
        f"sizes: {known}."
    )


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest


def check_state(tensors: Mapping[str, np.ndarray], entries: list[Entry]) -> list[str]:
    """Compare a state dict with the expected tensors.

    Args:
        tensors: Arrays by key, without prefix.
        entries: The expected tensors.

    Returns:
        Warnings about deviations that do not prevent an import.

    Raises:
        BddError: If tensors are missing, unexpected, of another shape or not finite, or if the network is not binary
            yet. The message lists all problems.
    """
    expected = {e.key: e for e in entries}
    both = [k for k in expected if k in tensors]
    findings = {
        "missing": [k for k, e in expected.items() if e.required and k not in tensors],
        "unexpected": sorted(k for k in tensors if k not in expected),
        "of another shape": [
            f"{k} {list(tensors[k].shape)} instead of {list(expected[k].shape)}"
            for k in both
            if tensors[k].shape != expected[k].shape
        ],
        "with NaN or infinity": [
            k for k in both if tensors[k].dtype.kind == "f" and not np.isfinite(tensors[k]).all()
        ],
        "with a negative variance": [k for k in both if k.endswith("running_var") and (tensors[k] < 0).any()],
    }
    wrong = [f"{what} ({len(names)}): {_some(names)}" for what, names in findings.items() if names]
    soft = [] if wrong else [k for k in both if k.endswith("binary_conv.weight") and _soft(tensors, k)]
    if soft:
        wrong.append(
            f"not binary yet ({len(soft)}): {_some(soft)}; their temperature is {SIGN_TEMPERATURE:g} or more and larger "
            "than some weights, which are therefore not binarized: finish the training or use a later checkpoint"
        )
    if wrong:
        raise BddError("the state dict does not fit: " + "; ".join(wrong) + ".")
    zeros = sum(int((tensors[k] == 0).sum()) for k in both if k.endswith("binary_conv.weight"))
    if zeros:
        return [
            f"{zeros} binary weights are exactly 0: PyTorch multiplies by 0 and a binary convolution by +1, so the "
            "imported network differs slightly."
        ]
    return []


def _soft(tensors: Mapping[str, np.ndarray], key: str) -> bool:
    temperature = float(tensors[key.removesuffix("weight") + "temperature"].reshape(-1)[0])
    weights = np.abs(tensors[key])
    # Weights of exactly 0 are not binary at any temperature; check_state counts them separately.
    return temperature >= SIGN_TEMPERATURE and bool(((weights < temperature) & (weights > 0)).any())


def load_state(model: tf.keras.Model, tensors: Mapping[str, np.ndarray], entries: list[Entry]) -> int:
    """Assign a checked state dict to a Keras model.

    Args:
        model: A detector or backbone with the layer names of :mod:`bdd_tf.models.bnext`.
        tensors: Arrays by key.
        entries: The tensors to assign.

    Returns:
        Number of assigned weights.
    """
    assigned = 0
    for entry in entries:
        if entry.layer is not None:
            value = entry.layout.to_keras(tensors[entry.key].astype(np.float32))
            if entry.key.endswith(".scale") and ".FFN" in entry.key:
                # The published 1x1 unit clips its mixing weights in every forward pass, the 3x3 unit in training only.
                value = np.clip(value, 0.0, 1.0)
            model.get_layer(entry.layer).weights[entry.index].assign(value)
            assigned += 1
    return assigned


def dump_state(model: tf.keras.Model, entries: list[Entry]) -> dict[str, np.ndarray]:
    """Return a Keras model's weights as a state dict, the inverse of :func:`load_state`.

    Args:
        model: The Keras model.
        entries: The tensors of the state dict.

    Returns:
        Contiguous float32 arrays by key (``num_batches_tracked`` is int64). Temperatures are 0, which means binary.
    """
    state = {}
    for entry in entries:
        if entry.layer is not None:
            weight = model.get_layer(entry.layer).weights[entry.index].numpy()
            value = entry.layout.to_torch(weight, entry.shape)
        elif entry.key.endswith("num_batches_tracked"):
            value = np.zeros((), np.int64)
        else:
            value = np.full(entry.shape, entry.initial, np.float32)
        state[entry.key] = np.ascontiguousarray(value).reshape(entry.shape)
    return state
