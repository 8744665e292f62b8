"""Native crops of an image: the network sees pixels as they are stored, never a photograph that was shrunk.

Traces of generation live in single pixels. A rule ``views`` in a file's metadata (format 2) therefore names a crop
size and a number of crops. Every choice is made with integers, so that another language finds the same boxes:

1. An image with a side below ``size`` is padded on that axis by reflection, ``(size - side) // 2`` pixels in front.
2. Candidates lie on a grid. An axis of length L holds ``n = min(8, 1 + ceil(2 (L - size) / size))`` of them; the
   j-th starts at ``(L - size) j // (n - 1)``, a single one at ``(L - size) // 2``. Candidates are numbered row by row.
3. Luma is ``(77 R + 150 G + 29 B + 128) >> 8``. A candidate's energy is the sum of absolute differences between
   horizontal and between vertical neighbours inside it. It is *flat* if the energy is below ``size * size``, and
   *saturated* if more than a quarter of its luma values are at most 2 or at least 253.
4. The order of preference is: the central candidate (row ``(rows - 1) // 2``, column ``(columns - 1) // 2``), the four
   corners (top left, top right, bottom left, bottom right), then all others from the middle of the ranking by energy
   outwards (rank r before rank s if ``|2 r - last| < |2 s - last|``; ties: the lower rank; equal energies rank by
   number). The first ``count`` that are neither flat nor saturated are scored. If there are none, the central one is.

The image's score is the mean logit of its crops, multiplied by a factor for their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.box import Box
from bdd_tf.errors import UsageError

GRID = 8
"""The most candidates along one axis."""

MAX_COUNT = 64
MAX_SIZE = 512
_LOGIT_LIMIT = 13.8  # of a probability of 1e-6: a float32 score of exactly 0 or 1 has no logit
_DARK, _BRIGHT = 2, 253


@dataclass(frozen=True)
class ViewRule:
    """Which native crops of an image are scored, and how their scores are combined.

    Attributes:
        size: Side of a crop in pixels, 16 to 512.
        count: The most crops of one image, 1 to 64.
        scale: Factors of the mean logit of 1, 2, ... crops, each above 0; the last one also applies to more crops.
            The mean of many logits varies less than one logit does; the factors keep the score calibrated.

    Raises:
        UsageError: If a value is out of range.
    """

    size: int
    count: int = 12
    scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, low, high in (("size", 16, MAX_SIZE), ("count", 1, MAX_COUNT)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(
                    f"views: {name} is {str(value)[:80]}; it must be a whole number from {low} to {high}."
                )
        if not 1 <= len(self.scale) <= MAX_COUNT or not all(
            isinstance(x, float) and math.isfinite(x) and x > 0 for x in self.scale
        ):
            raise UsageError(
                f"views: scale is {str(self.scale)[:200]}; it must be 1 to {MAX_COUNT} positive numbers."
            )

    @classmethod
    def from_dict(cls, values: object) -> ViewRule:
        """Inverse of `to_dict`.

        Raises:
            UsageError: If keys are missing or unknown, or a value is impossible.
        """
        if not isinstance(values, dict) or set(values) != {"size", "count", "scale"}:
            raise UsageError(f"views: {str(values)[:200]} is not a mapping with the keys size, count, scale.")
        scale = values["scale"]
        if not isinstance(scale, list) or any(
            isinstance(x, bool) or not isinstance(x, (int, float)) for x in scale
        ):
            raise UsageError(f"views: scale is {str(scale)[:200]}; it must be a list of numbers.")
        try:
            factors = tuple(float(x) for x in scale)
        except OverflowError:
            raise UsageError(f"views: scale is {str(scale)[:200]}; a factor is too large.") from None
        return cls(values["size"], values["count"], factors)

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain JSON values."""
        return {"size": self.size, "count": self.count, "scale": list(self.scale)}

    def combine(self, scores: Sequence[float] | NDArray[np.float32]) -> float:
        """Combine the scores of an image's crops.

        Args:
            scores: Probabilities [K] in [0, 1], K at least 1.

        Returns:
            ``sigmoid(scale[K] * mean(logit(scores)))``, in [0, 1].
        """
        clipped = np.asarray(scores, np.float64)
        with np.errstate(divide="ignore"):
            logits = np.log(clipped) - np.log1p(-clipped)
        mean = float(np.mean(np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)))
        logit = self.scale[min(len(clipped), len(self.scale)) - 1] * mean
        # exp() of a large positive number overflows.
        odds = math.exp(-abs(logit))
        return (1.0 if logit >= 0 else odds) / (1.0 + odds)


class NativeViews(NamedTuple):
    """The crops of one image.

    Attributes:
        images: uint8 [K, size, size, 3], RGB, K at least 1.
        boxes: Their places in the image; a box of a padded image ends at the image's border.
        padded: Whether the image was smaller than a crop and padded by reflection.
        featureless: Whether every candidate was flat or saturated, so that the first one stands in.
    """

    images: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    padded: bool
    featureless: bool


def starts(length: int, size: int) -> list[int]:
    """Where the candidates of one axis start.

    Args:
        length: Of the axis in pixels, at least ``size``.
        size: Side of a crop.

    Returns:
        Rising whole numbers from 0 to ``length - size``.

    Example:
        >>> starts(300, 128)
        [0, 57, 114, 172]
    """
    room = length - size
    count = min(GRID, 1 + -(-2 * room // size))
    if count == 1:
        return [room // 2]
    return [room * j // (count - 1) for j in range(count)]


def preference(energies: Sequence[int], across: int, down: int) -> list[int]:
    """The order in which candidates are preferred.

    Args:
        energies: Of the candidates, row by row; ``across * down`` of them.
        across: Candidates in a row.
        down: Rows.

    Returns:
        Each candidate's number once: the central one, the corners, the others from the middle of the ranking by
        energy outwards.

    Example:
        >>> preference([5, 9, 1, 7, 3, 8], 3, 2)
        [1, 0, 2, 3, 5, 4]
    """
    centre = (down - 1) // 2 * across + (across - 1) // 2
    corners = [0, across - 1, (down - 1) * across, down * across - 1]
    ranked = sorted(range(len(energies)), key=lambda i: (energies[i], i))
    last = len(ranked) - 1
    outwards = sorted(range(len(ranked)), key=lambda rank: (abs(2 * rank - last), rank))
    return list(dict.fromkeys([centre, *corners, *(ranked[rank] for rank in outwards)]))


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Luma as an integer: uint8 [..., 3] RGB to int16 [...] in [0, 255]."""
    weighted = [
        np.multiply(pixels[..., channel], weight, dtype=np.uint16)
        for channel, weight in enumerate((77, 150, 29))
    ]
    # At most 256 * 255 + 128, which 16 bits hold.
    levels: NDArray[np.int16] = ((weighted[0] + weighted[1] + weighted[2] + np.uint16(128)) >> 8).astype(
        np.int16
    )
    return levels


class Gradients(NamedTuple):
    """What the choice of crops looks at, of a whole image [H, W].

    Attributes:
        down: Absolute differences of luma between rows, int16 [H - 1, W].
        across: The same between columns, int16 [H, W - 1].
        saturated: Which luma values are at most 2 or at least 253, bool [H, W].
    """

    down: NDArray[np.int16]
    across: NDArray[np.int16]
    saturated: NDArray[np.bool_]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Gradients:
        """Compute them from uint8 [H, W, 3], RGB."""
        levels = luma(pixels)
        return cls(
            np.abs(levels[1:] - levels[:-1]),
            np.abs(levels[:, 1:] - levels[:, :-1]),
            (levels <= _DARK) | (levels >= _BRIGHT),
        )

    def of_part(self, rows: slice, columns: slice) -> tuple[int, int]:
        """Energy and number of saturated pixels of a part of the image; see `measure`."""
        down = self.down[rows.start : rows.stop - 1, columns].sum(dtype=np.int64)
        across = self.across[rows, columns.start : columns.stop - 1].sum(dtype=np.int64)
        return int(down) + int(across), int(np.count_nonzero(self.saturated[rows, columns]))


def measure(crop: NDArray[np.uint8]) -> tuple[int, int]:
    """Gradient energy of a crop, and its number of saturated pixels.

    Args:
        crop: uint8 [S, S, 3], RGB.

    Returns:
        The sum of absolute differences of neighbouring luma values, across and down, and the count of values that
        are at most 2 or at least 253.
    """
    return Gradients.of(crop).of_part(slice(0, crop.shape[0]), slice(0, crop.shape[1]))


def measure_grid(
    pixels: NDArray[np.uint8], lefts: Sequence[int], tops: Sequence[int], size: int
) -> list[tuple[int, int]]:
    """Measure the crops of a grid together, each pixel once: faster than `measure` where crops overlap.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        lefts: Where the columns start.
        tops: Where the rows start.
        size: Side of a crop.

    Returns:
        The result of `measure` for each crop, row by row.
    """
    found = Gradients.of(pixels)
    return [found.of_part(slice(top, top + size), slice(left, left + size)) for top in tops for left in lefts]


def native_views(image: Image.Image | NDArray[np.uint8], rule: ViewRule) -> NativeViews:
    """Cut the crops that a rule names.

    Args:
        image: A PIL image in mode RGB, of which only the candidates become arrays, or uint8 [H, W, 3] RGB.
        rule: The rule.

    Returns:
        The crops, in the order of preference.
    """
    width, height = size_of(image)
    lefts, tops = (starts(max(side, rule.size), rule.size) for side in (width, height))
    padded = min(width, height) < rule.size
    together = not padded and len(lefts) * len(tops) * rule.size**2 >= width * height
    pixels = np.asarray(image) if together else image
    crops, boxes = _cut_grid(pixels, lefts, tops, rule.size)
    found = (
        measure_grid(np.asarray(pixels), lefts, tops, rule.size) if together else list(map(measure, crops))
    )
    order = preference([energy for energy, _ in found], len(lefts), len(tops))
    return _selected(crops, boxes, found, order, rule.count, padded=padded)


def native_tiles(image: Image.Image | NDArray[np.uint8], rule: ViewRule, most: int) -> NativeViews:
    """Cut an even grid of crops that covers an image, in place of the crops that a rule names.

    Args:
        image: As for `native_views`.
        rule: The rule, of which the crop size is used.
        most: Maximum number of crops, at least 1. If covering the image with overlaps of a quarter takes more, the
            crops are spaced further apart and may leave gaps; they are never shrunk.

    Returns:
        The crops that are neither flat nor saturated, row by row; the first one if there are none.
    """
    width, height = size_of(image)
    lefts, tops = grid(max(width, rule.size), max(height, rule.size), rule.size, most)
    crops, boxes = _cut_grid(image, lefts, tops, rule.size)
    found = [measure(crop) for crop in crops]
    return _selected(crops, boxes, found, range(len(crops)), most, padded=min(width, height) < rule.size)


def grid(width: int, height: int, size: int, most: int) -> tuple[list[int], list[int]]:
    """Where the columns and rows of `native_tiles` start.

    Args:
        width: Width of the image in pixels, at least ``size``.
        height: Height of the image in pixels, at least ``size``.
        size: Side of a crop.
        most: Maximum number of crops, at least 1.

    Returns:
        Left and top edges; their product is at most ``most`` crops, a quarter of a side apart at least.

    Example:
        >>> grid(100, 64, 64, 348), grid(1000, 1000, 64, 4)
        (([0, 36], [0]), ([0, 936], [0, 936]))
    """

    def count(length: int, step: int) -> int:
        room = length - size
        return 1 if step > max(room, size) or room == 0 else 1 + -(-room // step)

    # The count never increases with the step, so bisection finds the smallest one that fits.
    low, high = max(1, size * 3 // 4), max(width, height)
    while low < high:
        middle = (low + high) // 2
        fits = count(width, middle) * count(height, middle) <= most
        low, high = (low, middle) if fits else (middle + 1, high)
    lefts, tops = (_spread(length - size, count(length, low)) for length in (width, height))
    return lefts, tops


def _spread(room: int, count: int) -> list[int]:
    return [room // 2] if count == 1 else [room * j // (count - 1) for j in range(count)]


def size_of(image: Image.Image | NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of a PIL image or an array [H, W, 3], in pixels."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def part_of(image: Image.Image | NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Cut a part out of an image, without any resizing; of a PIL image only this part becomes an array.

    Args:
        image: As for `native_views`.
        box: Place inside the image.

    Returns:
        uint8 [box.height, box.width, 3].
    """
    right, bottom = box.left + box.width, box.top + box.height
    if isinstance(image, Image.Image):
        return np.asarray(image.crop((box.left, box.top, right, bottom)))
    return image[box.top : bottom, box.left : right]


def _cut_grid(
    image: Image.Image | NDArray[np.uint8], lefts: Sequence[int], tops: Sequence[int], size: int
) -> tuple[list[NDArray[np.uint8]], list[Box]]:
    """Cut crops at all positions, row by row; on an axis shorter than a crop, its whole length and the reflection."""
    width, height = size_of(image)
    columns = [(left, size) for left in lefts] if width >= size else [(0, width)]
    rows = [(top, size) for top in tops] if height >= size else [(0, height)]
    boxes = [Box(left, top, across, down) for top, down in rows for left, across in columns]
    return [_padded(part_of(image, box), size) for box in boxes], boxes


def _selected(
    crops: Sequence[NDArray[np.uint8]],
    boxes: Sequence[Box],
    found: Sequence[tuple[int, int]],
    order: Sequence[int],
    count: int,
    *,
    padded: bool,
) -> NativeViews:
    """The first crops in an order that are neither flat nor saturated; the first one of all if there are none."""
    area = crops[0].shape[0] ** 2
    useful = [i for i in order if found[i][0] >= area and 4 * found[i][1] <= area]
    chosen = useful[:count] or order[:1]
    return NativeViews(
        np.stack([crops[i] for i in chosen]), tuple(boxes[i] for i in chosen), padded, not useful
    )


def _padded(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    for axis in (0, 1):
        length = pixels.shape[axis]
        if length < size:
            pixels = np.take(pixels, reflected(length, size), axis=axis)
    return pixels


def reflected(length: int, size: int) -> list[int]:
    """The indices that pad an axis by reflection, without repeating the border pixel.

    Args:
        length: Of the axis in pixels, at least 1 and below ``size``.
        size: Wanted length.

    Returns:
        ``size`` indices in [0, length).

    Example:
        >>> reflected(3, 8)
        [2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = max(2 * (length - 1), 1)
    front = (size - length) // 2
    return [min(k, period - k) if length > 1 else 0 for k in ((i - front) % period for i in range(size))]
