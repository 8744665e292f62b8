"""Backbones by name: their strides and their functions. No TensorFlow until one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bdd_tf import entry_points
from bdd_tf.errors import UsageError
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.models.vision_sizes import RESNETS, STEM_STRIDE, TRANSFORMERS

#: Resolutions below this get the backbone's smallest stem stride.
SMALL_IMAGE = 96
#: Suffix of the int8 version of a float network, in benchmarks.
INT8 = "-int8"


@dataclass(frozen=True)
class Backbone:
    """A backbone.

    Attributes:
        name: Its name on the command line.
        stem_strides: Possible strides of its stem: the published one first, the one for small images last.
        stage_stride: Product of all other strides.
        build: ``build(x, stem_stride)``: features [N, C] of a Keras tensor [N, H, W, 3].
        normalisation: Of its input, by name (:mod:`bdd_tf.models.normalisation`), unless an experiment names another one.
    """

    name: str
    stem_strides: tuple[int, ...]
    stage_stride: int
    build: Callable[[Any, int], Any]
    normalisation: str = "imagenet"


def _bnext(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.bnext import bnext

    return bnext(x, name, stem_stride=stem_stride)


def _quicknet(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.quicknet import quicknet

    return quicknet(x, name)


def _baseline(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.float_baselines import baseline

    return baseline(x, name, stem_stride=stem_stride)


def _residual(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.residual_baselines import residual_baseline

    return residual_baseline(x, name, stem_stride)


def _transformer(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.vision_transformer import vision_transformer

    return vision_transformer(x, TRANSFORMERS[name])


def _resnet(name: str, x: Any, stem_stride: int) -> Any:
    from bdd_tf.models.bottleneck_resnet import bottleneck_resnet

    return bottleneck_resnet(x, RESNETS[name], stem_stride)


#: Small float networks on residuals, baselines for photographs: strides as below.
_RESIDUAL_STRIDES = {"tiny-ladeda": ((2, 1), 1), "ferretnet": ((2, 1), 8)}
#: Float baselines: strides of the stem with its max pool, and the product of the others.
_BASELINE_STRIDES = {
    "resnet50": ((4, 1), 8),
    "vgg16": ((2, 1), 16),
    "densenet121": ((4, 1), 8),
    "mobilenetv2": ((2, 1), 16),
    "mobilenetv3-small": ((2, 1), 16),
    "mobilenetv3-large": ((2, 1), 16),
    "efficientnet-b0": ((2, 1), 16),
}
#: Networks with published PyTorch weights, in the paper's comparison.
VISION = (*TRANSFORMERS, *RESNETS)
BASELINES = (*_BASELINE_STRIDES, *VISION)


def _backbones(
    build: Callable[[str, Any, int], Any], strides: Mapping[str, tuple[tuple[int, ...], int]]
) -> dict[str, Backbone]:
    return {
        name: Backbone(name, stems, stage, partial(build, name)) for name, (stems, stage) in strides.items()
    }


def vision_backbone(name: str) -> Backbone:
    """Describe a vision transformer or a residual network of :mod:`bdd_tf.models.vision_sizes`."""
    if name in TRANSFORMERS:
        size = TRANSFORMERS[name]
        return Backbone(name, (size.patch,), 1, partial(_transformer, name), size.normalisation)
    resnet = RESNETS[name]
    stems = (STEM_STRIDE,) if resnet.is_clip else (STEM_STRIDE, 1)
    stage = 2 ** (len(resnet.blocks) - 1)
    return Backbone(name, stems, stage, partial(_resnet, name), resnet.normalisation)


BACKBONES = {
    **_backbones(_bnext, {name: (size.stem_strides, size.stride) for name, size in BNEXT.items()}),
    **_backbones(_quicknet, dict.fromkeys(("quicknet-small", "quicknet", "quicknet-large"), ((4,), 8))),
    **_backbones(_baseline, _BASELINE_STRIDES),
    **_backbones(_residual, _RESIDUAL_STRIDES),
    **{name: vision_backbone(name) for name in VISION},
}


def backbone(name: str) -> Backbone:
    """Look up a backbone.

    Raises:
        UsageError: For an unknown name; lists the possible ones.
    """
    entry_points.check_known("backbone", name, entry_points.BACKBONES, lambda: tuple(BACKBONES))
    return BACKBONES[name]


def stem_stride(name: str, resolution: int, requested: int | None = None) -> int:
    """Choose or check the stem's stride for a backbone at a resolution.

    Args:
        name: Backbone name.
        resolution: Side of the square input in pixels.
        requested: A stride; None: the smallest one below :data:`SMALL_IMAGE` px, else the published one.

    Returns:
        The stride.

    Raises:
        UsageError: If the backbone has no such stem, or its strides do not divide the resolution; lists the nearest
            possible resolutions.
    """
    entry = backbone(name)
    if requested is not None and requested not in entry.stem_strides:
        raise UsageError(
            f"{name} has no stem of stride {requested}; possible: {', '.join(map(str, entry.stem_strides))}."
        )
    stride = requested or _default_stem(entry, resolution)
    total = stride * entry.stage_stride
    if resolution < total or resolution % total:
        raise UsageError(
            f"resolution {resolution} does not fit {name} with stem stride {stride}: it must be a multiple of "
            f"{total}; nearest: {', '.join(map(str, _nearest(resolution, total)))}."
        )
    return stride


def fitting_resolution(name: str, resolution: int) -> int:
    """Return the resolution nearest to the given one that a backbone accepts with its default stem.

    Raises:
        UsageError: For an unknown backbone.
    """
    entry = backbone(name)
    total = _default_stem(entry, resolution) * entry.stage_stride
    if resolution >= total and resolution % total == 0:
        return resolution
    return min(_nearest(resolution, total), key=lambda side: abs(side - resolution))


def _default_stem(entry: Backbone, resolution: int) -> int:
    return entry.stem_strides[-1] if resolution < SMALL_IMAGE else entry.stem_strides[0]


def _nearest(resolution: int, total: int) -> list[int]:
    """Multiples of `total` on both sides of a resolution that is not one; none is below `total`."""
    below = max(resolution // total * total, total)
    return sorted({below, below + total}) if resolution > total else [total]
