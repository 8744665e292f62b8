"""Whether an image is of the kind that a model was trained on, as far as size and pixels tell.

A network answers about anything. Trained on pictures of 32 pixels, it calls a photograph of 12 megapixels REAL or FAKE
with the same confidence, after a shrinking that leaves nothing of what gives a generated image away. Two signs are cheap
and can be checked: the size of the image file, beside the sizes of the training images, and contrast and detail of what
the network is shown, beside their range in training. Neither tells that an image *is* familiar, only that one is not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.errors import BddError

SIZE_FACTOR = 2.0
"""An image is of another size when its shorter side is more than so many times the largest of the training images, or
less than the smallest by that factor."""

RANGE = (0.0005, 0.9995)
"""Quantiles of the training images that bound contrast and detail: one image in a thousand lies outside of each."""

MEASURES = ("contrast", "detail")


class UnfamiliarImageWarning(UserWarning):
    """An image is unlike those that the model was trained on; its score says little."""


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on; ``trained_on`` in a file's metadata.

    Attributes:
        dataset: Name of the data set.
        images: How many images the training split holds.
        sides: Smallest and largest shorter side of the training images' files, in pixels.
        contrast: Range of `measure`'s contrast, in grey levels (see `RANGE`).
        detail: Likewise of its detail.
    """

    dataset: str
    images: int
    sides: tuple[int, int]
    contrast: tuple[float, float]
    detail: tuple[float, float]

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> TrainedOn | None:
        """What a file's metadata tell; None if they do not.

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
        """In words: ``cifake, 32 px``."""
        low, high = self.sides
        return f"{self.dataset}, {low} px" if low == high else f"{self.dataset}, {low} to {high} px"

    def strangeness(
        self, width: int, height: int, seen: NDArray[np.uint8] | None = None
    ) -> Strangeness | None:
        """How an image differs from the training images.

        Args:
            width: Of the image itself, before resizing, in pixels.
            height: Likewise.
            seen: uint8 [S, S, 3], the whole image as the network is shown it; None: its size alone is judged.

        Returns:
            The difference that says most; None if there is none.
        """
        low, high = self.sides
        short = min(width, height)
        if not low / SIZE_FACTOR <= short <= high * SIZE_FACTOR:
            kind = "larger" if short > high else "smaller"
            return Strangeness(kind, f"much {kind} than the training images: {width}x{height} px")
        if seen is not None:
            for name, value in zip(MEASURES, measure(seen[None])[:, 0], strict=True):
                least, most = getattr(self, name)
                if not least <= value <= most:
                    return Strangeness(
                        name, f"its {name} is {value:.1f}, of the training images {least:.1f} to {most:.1f}"
                    )
        return None


@dataclass(frozen=True)
class Strangeness:
    """A difference from the training images.

    Attributes:
        kind: ``larger``, ``smaller``, ``contrast`` or ``detail``.
        note: In words, about one image.
    """

    kind: str
    note: str


def measure(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast and detail of images, from green, the channel that carries most of the brightness.

    Args:
        images: uint8 [N, H, W, 3], H and W at least 2.

    Returns:
        [2, N] in grey levels: the standard deviation, and the mean difference of neighbours, across and down.
    """
    green = images[..., 1].astype(np.int16)
    across, down = (np.abs(np.diff(green, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    return np.stack([green.std(axis=(1, 2)), (across + down) / 2])


def ranges(images: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    """`MEASURES` with their range over training images, uint8 [N, S, S, 3]."""
    low, high = np.quantile(measure(images), RANGE, axis=1)
    return {name: (float(a), float(b)) for name, a, b in zip(MEASURES, low, high, strict=True)}


def summary(kinds: Iterable[str], total: int, trained_on: TrainedOn, noun: str = "image") -> str | None:
    """One sentence about a whole run, or None if nothing was strange.

    Args:
        kinds: `Strangeness.kind` of each strange image.
        total: How many images were scored.
        trained_on: What the model was trained on.
        noun: What they are called.

    Example:
        >>> summary(["larger"], 3, TrainedOn("cifake", 10, (32, 32), (0, 99), (0, 99)))
        '1 of 3 images is unlike what this model was trained on (cifake, 32 px): 1 much larger. Its verdict says little.'
    """
    counts = Counter(kinds)
    strange = sum(counts.values())
    if not strange:
        return None
    words = {"larger": "much larger", "smaller": "much smaller"}
    parts = [f"{count} {words.get(kind, f'of unusual {kind}')}" for kind, count in counts.most_common()]
    return (
        f"{strange} of {total} {noun}{'s' if total != 1 else ''} {'is' if strange == 1 else 'are'} unlike what this "
        f"model was trained on ({trained_on.describe()}): {', '.join(parts)}. "
        + ("Its verdict says little." if strange == 1 else "Their verdicts say little.")
    )


def _pair(values: Any) -> Any:
    low, high = values
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(value)
    if not 0 <= low <= high:
        raise ValueError(values)
    return low, high
