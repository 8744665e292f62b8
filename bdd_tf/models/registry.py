"""Backbones by name: what each costs in stride, and how to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bdd_tf.errors import UsageError, one_of

#: Resolutions below this get a stem of stride 1 where the backbone allows it.
SMALL_IMAGE = 96


@dataclass(frozen=True)
class Backbone:
    """A backbone's name, the strides of its stem to choose from, and the stride of all that follows."""

    name: str
    stem_strides: tuple[int, ...]
    stage_stride: int
    build: Callable


def _bnext(name: str) -> Callable:
    def build(x, stem_stride: int):  # noqa: ANN001, ANN202 (Keras tensors)
        from bdd_tf.models.bnext import bnext

        return bnext(x, name, stem_stride=stem_stride)

    return build


def _quicknet(name: str) -> Callable:
    def build(x, stem_stride: int):  # noqa: ANN001, ANN202 (Keras tensors)
        from bdd_tf.models.quicknet import quicknet

        return quicknet(x, name)

    return build


def _rival(name: str) -> Callable:
    def build(x, stem_stride: int):  # noqa: ANN001, ANN202 (Keras tensors)
        from bdd_tf.models.rivals import rival

        return rival(x, name, stem_stride=stem_stride)

    return build


#: Float networks: their stem with its max pool, and the rest.
_RIVAL_STRIDES = {
    "resnet50": ((4, 1), 8),
    "vgg16": ((2, 1), 16),
    "densenet121": ((4, 1), 8),
    "mobilenetv2": ((2, 1), 16),
    "mobilenetv3-small": ((2, 1), 16),
    "mobilenetv3-large": ((2, 1), 16),
    "efficientnet-b0": ((2, 1), 16),
}
RIVALS = tuple(_RIVAL_STRIDES)

BACKBONES = {
    **{
        n: Backbone(n, (2, 1), 16, _bnext(n)) for n in ("bnext-n", "bnext-t", "bnext-s", "bnext-m", "bnext-l")
    },
    **{n: Backbone(n, (4,), 8, _quicknet(n)) for n in ("quicknet-small", "quicknet", "quicknet-large")},
    **{n: Backbone(n, stems, stage, _rival(n)) for n, (stems, stage) in _RIVAL_STRIDES.items()},
}


def backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        UsageError: If there is none; lists the possible ones.
    """
    if name not in BACKBONES:
        raise one_of("backbone", name, tuple(BACKBONES))
    return BACKBONES[name]


def stem_stride(name: str, resolution: int, requested: int | None = None) -> int:
    """The stem's stride for a backbone at a resolution, checked.

    Args:
        name: Backbone name.
        resolution: Side of the square input in pixels.
        requested: A stride, or None to choose: 1 below :data:`SMALL_IMAGE` px where the backbone has it.

    Returns:
        The stride.

    Raises:
        UsageError: If the backbone has no such stem, or its strides do not divide the resolution; names
            the nearest sizes.
    """
    entry = backbone(name)
    if requested is not None and requested not in entry.stem_strides:
        raise UsageError(
            f"{name} has no stem of stride {requested}; possible: {', '.join(map(str, entry.stem_strides))}."
        )
    stride = requested or _usual_stem(entry, resolution)
    total = stride * entry.stage_stride
    if resolution < total or resolution % total:
        raise UsageError(
            f"resolution {resolution} does not fit {name} with stem stride {stride}: it must be a multiple of "
            f"{total}; nearest: {', '.join(map(str, _nearest(resolution, total)))}."
        )
    return stride


def fitting_resolution(name: str, resolution: int) -> int:
    """The side nearest to `resolution` that a backbone takes with its usual stem.

    Raises:
        UsageError: If there is no such backbone.
    """
    entry = backbone(name)
    total = _usual_stem(entry, resolution) * entry.stage_stride
    if resolution >= total and resolution % total == 0:
        return resolution
    return min(_nearest(resolution, total), key=lambda side: abs(side - resolution))


def _usual_stem(entry: Backbone, resolution: int) -> int:
    return entry.stem_strides[-1] if resolution < SMALL_IMAGE else entry.stem_strides[0]


def _nearest(resolution: int, total: int) -> list[int]:
    """The multiples of `total` around a side that is none."""
    below = max(resolution // total * total, total)
    return sorted({below, below + total}) if resolution > total else [total]
