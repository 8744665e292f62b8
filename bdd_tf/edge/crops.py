"""Which parts of an image the network sees: what the file's own rule leaves, overlapping tiles, or faces.

Traces of generation live in single pixels, and the file's rule shrinks a photograph until few are left. Tiles
are therefore cut at the network's own resolution, so that nothing is resized at all, and grow only when an
image would need too many of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from bdd_tf.edge.detector import BATCH
from bdd_tf.edge.images import ImageError, ResizeRule
from bdd_tf.edge.labels import centred, uncentred
from bdd_tf.errors import UsageError, one_of

CROPS = ("center", "tiles", "faces")
"""``center``: the file's own rule, saying what it left. See `Cropper`."""

TILES_LIMIT = 1024
"""The most tiles of one image: their pixels are held in memory together."""

OVERLAP = 0.25
"""Share of a tile's side that its neighbour repeats, at least."""


class Box(NamedTuple):
    """A part of an image, in pixels of the image as it is seen (EXIF rotation applied)."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Views:
    """What the network sees of one image.

    Attributes:
        images: uint8 [K, S, S, 3], RGB, K at least 1.
        boxes: Where each was cut from; empty if nobody asked (no crop was chosen).
    """

    images: np.ndarray
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Score:
    """One image's probability, and the part of it that looks most fake.

    Attributes:
        probability: ``fake_probability`` of the whole, in [0, 1].
        box: The part with the highest probability; None if no crop was chosen.
        box_probability: That part's own probability.
        views: How many parts were scored.
        view: Which of them that part is.
    """

    probability: float
    box: Box | None = None
    box_probability: float | None = None
    views: int = 1
    view: int = 0


class PredictsBatches(Protocol):
    """What scoring needs of a `Detector`."""

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        """Fake probabilities [N] of uint8 [N, S, S, 3]."""


class Cropper:
    """Cuts images into what the network sees, and makes one probability of several.

    - None and ``center``: the file's own rule (shorter side resized, centre cut out); ``center`` also tells
      which square of the image that was.
    - ``tiles``: a grid of squares, S pixels wide (the network's own resolution; no resizing), each repeating at
      least `OVERLAP` of its neighbour; wider ones, each resized to S, where more than ``max_tiles`` would be
      needed. The probability is the mean (`bdd_tf.edge.labels.centred`) of the worst quarter of the tiles: an
      image that was altered in one place stands out, and a single odd tile among many does not decide.
    - ``faces``: the squares around faces, with a margin. The probability is the highest of them, since one
      altered face makes a fake. An image without a face is an `ImageError`.

    Args:
        rule: The model's resize rule.
        how: One of `CROPS`, or None.
        max_tiles: 1 to `TILES_LIMIT`; None: `usual_tiles`.
        middle: The model's threshold, in [0, 1]: the middle of the scale on which tiles are averaged.

    Attributes:
        rule: As given.
        how: As given.

    Raises:
        UsageError: If ``how`` is unknown or ``max_tiles`` out of range.
        BddError: If ``how`` is ``faces`` and OpenCV is not installed.
    """

    def __init__(
        self,
        rule: ResizeRule,
        how: str | None = None,
        max_tiles: int | None = None,
        middle: float = 0.5,
    ) -> None:
        if how is not None and how not in CROPS:
            raise one_of("crop", how, CROPS)
        if max_tiles is None:
            max_tiles = usual_tiles(rule.size)
        if not 1 <= max_tiles <= TILES_LIMIT:
            raise UsageError(f"--max-tiles is {max_tiles}; it must lie in 1 to {TILES_LIMIT}.")
        self.how = how
        self.rule = rule
        # A part that was cut out is seen whole: no second crop.
        self._part_rule = ResizeRule(rule.size, rule.size, rule.interpolation)
        self._max_tiles = max_tiles
        self._middle = middle
        self._faces = None
        if how == "faces":
            from bdd_tf.edge.faces import FaceFinder

            self._faces = FaceFinder()

    def __call__(self, image: np.ndarray) -> Views:
        """Cut one image.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            What the network is to see.

        Raises:
            ImageError: If there is no face in it (``faces``), or it is too long and thin for the file's rule.
        """
        height, width = image.shape[:2]
        if self.how in (None, "center"):
            seen = self.rule.apply(image)[None]
            return Views(seen, () if self.how is None else (Box(*self.rule.box(width, height)),))
        if self._faces is not None:
            boxes = self._faces(image)
            if not boxes:
                raise ImageError("no face was found (--crop center scores the whole image)")
        else:
            boxes = tile_boxes(width, height, self.rule.size, self._max_tiles)
        parts = (image[b.top : b.top + b.height, b.left : b.left + b.width] for b in boxes)
        return Views(np.stack([self._part_rule.apply(part) for part in parts]), tuple(boxes))

    def combine(self, scores: np.ndarray, boxes: Sequence[Box]) -> Score:
        """One probability of the parts'.

        Args:
            scores: float32 [K], of `Views.images`.
            boxes: `Views.boxes`.

        Returns:
            The image's score.
        """
        if not boxes:
            return Score(float(scores[0]))
        worst = int(np.argmax(scores))
        highest = float(scores[worst])
        whole = worst_quarter(scores, self._middle) if self.how == "tiles" else highest
        return Score(whole, boxes[worst], highest, len(boxes), worst)


def usual_tiles(size: int) -> int:
    """How many tiles of ``size`` pixels an image is given unless asked otherwise: the work of 64 at 224 pixels."""
    return min(TILES_LIMIT, max(64, 64 * 224**2 // size**2))


def tile_boxes(width: int, height: int, size: int, most: int) -> list[Box]:
    """An even grid of overlapping squares that covers an image.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        size: Side of the tiles if no more than ``most`` are needed; else they grow.
        most: The most tiles.

    Returns:
        At least one box, row by row. Tiles are never wider than the image's shorter side; where even those are
        too many (a very long and thin image), they are spread evenly and leave gaps.

    Example:
        >>> tile_boxes(56, 32, 32, 64)
        [Box(left=0, top=0, width=32, height=32), Box(left=24, top=0, width=32, height=32)]
    """
    short = min(width, height)

    def count(side: int) -> int:
        return _count(width, side) * _count(height, side)

    # The count never rises with the side, so the smallest side that fits is found by halving.
    low, high = min(size, short), short
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) <= most else (middle + 1, high)
    lefts, tops = (_starts(length, low, most) for length in (width, height))
    return [Box(left, top, low, low) for top in tops for left in lefts]


def worst_quarter(scores: np.ndarray, middle: float) -> float:
    """Mean of the highest quarter, at least one, of float [K].

    Args:
        scores: In [0, 1].
        middle: The middle of the scale on which the mean is taken (`bdd_tf.edge.labels.centred`).

    Returns:
        In [0, 1].
    """
    worst = np.sort(scores)[-math.ceil(len(scores) / 4) :]
    return uncentred(sum(centred(float(score), middle) for score in worst) / len(worst), middle)


def score_views(detector: PredictsBatches, several: Sequence[Views], cropper: Cropper) -> list[Score]:
    """Score the parts of several images, `bdd_tf.edge.detector.BATCH` at a time.

    Args:
        detector: What scores.
        several: One entry per image.
        cropper: What cut them.

    Returns:
        One score per image.
    """
    if not several:
        return []
    images = np.concatenate([views.images for views in several])
    scores = np.concatenate(
        [detector.predict_batch(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
    )
    ends = np.cumsum([len(views.images) for views in several])
    parts = np.split(scores, ends[:-1])
    return [cropper.combine(part, views.boxes) for part, views in zip(parts, several, strict=True)]


def _count(length: int, side: int) -> int:
    return 1 + math.ceil((length - side) / max(1, math.floor(side * (1 - OVERLAP))))


def _starts(length: int, side: int, most: int) -> list[int]:
    return [round(start) for start in np.linspace(0, length - side, min(_count(length, side), most))]
