"""Out-of-distribution (OOD) check: compare an image with statistics of the training images.

A network produces a score for any input. One that was trained on images of 32 pixels labels a photograph of 12
megapixels with the same confidence, although resizing has removed every trace of generation. Two properties are cheap
to compare with the training set: the size of the image file, and the contrast and detail of the network's input. The
check is one-sided: an image that passes may still be out of distribution.

A model that sees native crops is indifferent to the size of the file. There the crops are judged instead: by their median
contrast and detail, which a few unusual crops do not move.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bdd_tf.errors import BddError

SIZE_FACTOR = 2.0
"""Tolerance of the size check: the shorter side may exceed the largest training image, or fall below the smallest,
by this factor."""

RANGE = (0.0005, 0.9995)
"""Quantiles of the training images that bound contrast and detail: each range excludes one image in a thousand."""

MEASURES = ("contrast", "detail")

_PART = 1024  # images that are measured at a time


class OutOfDistributionWarning(UserWarning):
    """An image differs from the images that the model was trained on; its score is unreliable."""


UnfamiliarImageWarning = OutOfDistributionWarning
"""Former name of `OutOfDistributionWarning`, kept for existing programs."""


class TrainingStatistics(NamedTuple):
    """Statistics of a model's training images; ``trained_on`` in a file's metadata.

    Attributes:
        dataset: Name of the data set.
        images: Number of images in the training split.
        sides: Minimum and maximum length of the shorter side of the training images, in pixels.
        contrast: Range of the contrast in grey levels, as `measure` defines it (see `RANGE`).
        detail: Range of the detail in grey levels, as `measure` defines it (see `RANGE`).
    """

    dataset: str
    images: int
    sides: tuple[int, int]
    contrast: tuple[float, float]
    detail: tuple[float, float]

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> TrainingStatistics | None:
        """Read the statistics from a file's metadata; None if it has no ``trained_on``.

        Raises:
            BddError: If the entry is damaged.
        """
        values = metadata.get("trained_on")
        if values is None:
            return None
        try:
            made = cls(
                str(values["dataset"]),
                int(values["images"]),
                _pair(values["sides"]),
                _pair(values["contrast"]),
                _pair(values["detail"]),
            )
        except (TypeError, ValueError, KeyError, OverflowError):
            raise BddError(f"its metadata is damaged: trained_on is {str(values)[:200]}.") from None
        return made

    def to_dict(self) -> dict[str, Any]:
        """Inverse of `from_metadata`: plain JSON values."""
        return {
            "dataset": self.dataset,
            "images": self.images,
            "sides": list(self.sides),
            "contrast": [round(value, 3) for value in self.contrast],
            "detail": [round(value, 3) for value in self.detail],
        }

    def describe(self) -> str:
        """Return data set and image size in words: ``cifake, 32 px``."""
        low, high = self.sides
        return f"{self.dataset}, {low} px" if low == high else f"{self.dataset}, {low} to {high} px"

    def check(self, width: int, height: int, seen: NDArray[np.uint8] | None = None) -> Deviation | None:
        """Compare an image with the training images.

        Args:
            width: Width of the original image, before resizing, in pixels.
            height: Height of the original image, in pixels.
            seen: uint8 [S, S, 3], the network's input, if it shows the whole image; None to check the size alone.

        Returns:
            The most significant deviation, or None if all values are within the training range.
        """
        low, high = self.sides
        short = min(width, height)
        if not low / SIZE_FACTOR <= short <= high * SIZE_FACTOR:
            kind = "larger" if short > high else "smaller"
            return Deviation(kind, f"much {kind} than the training images: {width}x{height} px")
        if seen is not None:
            for name, value in zip(MEASURES, measure(seen[None])[:, 0], strict=True):
                least, most = getattr(self, name)
                if not least <= value <= most:
                    note = (
                        f"its {name} is {value:.1f}, outside the training range of {least:.1f} to {most:.1f}"
                    )
                    return Deviation(name, note)
        return None

    def check_crops(self, crops: NDArray[np.uint8]) -> Deviation | None:
        """Compare the native crops of an image with the crops of the training images.

        Args:
            crops: uint8 [K, S, S, 3], K at least 1.

        Returns:
            The first of `MEASURES` whose median over the crops lies outside the range of single training crops; None
            if there is none.
        """
        for name, value in zip(MEASURES, _medians(measure(crops)), strict=True):
            least, most = getattr(self, name)
            if not least <= value <= most:
                note = f"the {name} of its crops is {value:.1f}, outside the training range of {least:.1f} to {most:.1f}"
                return Deviation(name, note)
        return None


class Deviation(NamedTuple):
    """A property of an image that lies outside the training range.

    Attributes:
        kind: ``larger``, ``smaller``, ``contrast`` or ``detail``; of native crops also ``featureless`` or ``padded``.
        note: Description of the deviation, for people.
    """

    kind: str
    note: str


def check_crops(
    crops: NDArray[np.uint8], trained_on: TrainingStatistics | None, *, padded: bool, featureless: bool
) -> Deviation | None:
    """Judge an image by its native crops.

    Args:
        crops: uint8 [K, S, S, 3], K at least 1.
        trained_on: Statistics of the training crops; None if there are none.
        padded: Whether the image is smaller than a crop.
        featureless: Whether every candidate for a crop was flat or saturated.

    Returns:
        The most significant deviation: no texture at all, a measure outside the training range, padding; or None.
    """
    if featureless:
        return Deviation("featureless", "it has no texture: every part is flat, black or white")
    found = None if trained_on is None else trained_on.check_crops(crops)
    if found is None and padded:
        side = crops.shape[1]
        return Deviation(
            "padded", f"smaller than the network's crops of {side}x{side} px: padded by reflection"
        )
    return found


def measure(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute contrast and detail of images from the green channel, which carries most of the luminance.

    Args:
        images: uint8 [N, H, W, 3], H and W at least 2.

    Returns:
        float64 [2, N], in grey levels. Row 0 is the contrast, the standard deviation; row 1 is the detail, the mean
        absolute difference of horizontal and vertical neighbours.
    """
    green = images[..., 1].astype(np.int16)
    across, down = (np.abs(np.diff(green, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    return np.stack([green.std(axis=(1, 2)), (across + down) / 2])


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each row of [M, N]; `np.median` imports `numpy.ma`, which takes longer than all that is computed here."""
    ordered, count = np.sort(rows, axis=1), rows.shape[1]
    middle: NDArray[np.float64] = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return middle


def ranges(images: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    """Return the training range of each of `MEASURES` (see `RANGE`).

    Args:
        images: uint8 [N, S, S, 3], N at least 1: network inputs, whole images or native crops as training gets them.
    """
    # In parts: the intermediate floats of 20,000 crops would take gigabytes.
    parts = [measure(images[first : first + _PART]) for first in range(0, len(images), _PART)]
    low, high = np.quantile(np.concatenate(parts, axis=1), RANGE, axis=1)
    return {name: (float(a), float(b)) for name, a, b in zip(MEASURES, low, high, strict=True)}


def summary(
    kinds: Iterable[str], total: int, trained_on: TrainingStatistics, noun: str = "image"
) -> str | None:
    """Summarise the deviations of all images in one note, or return None if there are none.

    Args:
        kinds: `Deviation.kind` of each image that deviates.
        total: Number of images scored.
        trained_on: Statistics that the images were compared with.
        noun: Noun for one of the inputs, in the singular.

    Example:
        >>> summary(["larger"], 3, TrainingStatistics("faces", 10, (32, 32), (0, 99), (0, 99)))
        '1 of 3 images is out of distribution for this model (trained on faces, 32 px): 1 much larger. Its verdict is unreliable.'
    """
    counts = Counter(kinds)
    deviating = sum(counts.values())
    if not deviating:
        return None
    words = {
        "larger": "much larger",
        "smaller": "much smaller",
        "featureless": "without texture",
        "padded": "smaller than a crop",
    }
    parts = [f"{count} {words.get(kind, f'of unusual {kind}')}" for kind, count in counts.most_common()]
    return (
        f"{deviating} of {total} {noun}{'s' if total != 1 else ''} {'is' if deviating == 1 else 'are'} "
        f"out of distribution for this model (trained on {trained_on.describe()}): {', '.join(parts)}. "
        + ("Its verdict is unreliable." if deviating == 1 else "Their verdicts are unreliable.")
    )


def _pair(values: Any) -> Any:
    low, high = values
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(value)
    if not 0 <= low <= high:
        raise ValueError(values)
    return low, high
