"""Cut the parts of an image that the network scores: the whole image, native crops, tiles, or faces.

Generators leave traces at the level of single pixels, and resizing a photograph to the network's input removes most
of them. Tiles are therefore cut at the network's own resolution, without any resizing; they become larger only if an
image would need too many of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.checks import whole_number
from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.decode import as_array
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.out_of_distribution import Deviation, TrainingStatistics, check_crops
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.rules import Rule
from bdd_tf.edge.images.views import ViewRule, native_tiles, native_views, part_of, size_of
from bdd_tf.edge.labels import centred, uncentred
from bdd_tf.errors import one_of

CROPS = ("center", "tiles", "faces")
"""Values of ``--crop``; `Cropper` describes them."""

TILES_LIMIT = 1024
"""Maximum number of tiles per image; the pixels of all tiles are in memory at the same time."""

OVERLAP = 0.25
"""Minimum overlap of neighbouring tiles, as a fraction of their side."""


class Views(NamedTuple):
    """Network inputs cut from one image.

    Attributes:
        images: uint8 [K, S, S, 3], RGB, K at least 1.
        boxes: Position of each view in the image; empty for a resized image if no crop was selected.
        parts: Number of native crops of each face (``faces``); empty if all views show one part.
        native: Whether the views are native crops (see `bdd_tf.edge.images.views`).
        padded: Whether native crops were padded by reflection, because the image is smaller.
        featureless: Whether every candidate for a native crop was flat or saturated, so that one of them stands in.
    """

    images: NDArray[np.uint8]
    boxes: tuple[Box, ...] = ()
    parts: tuple[int, ...] = ()
    native: bool = False
    padded: bool = False
    featureless: bool = False

    def to_dict(self) -> dict[str, Any] | None:
        """Return ``crops``, ``padded`` and ``featureless`` as JSON values; None if the views are not native."""
        if not self.native:
            return None
        return {"crops": len(self.images), "padded": self.padded, "featureless": self.featureless}


class Score(NamedTuple):
    """Score of one image, and its most suspicious view.

    Attributes:
        probability: ``fake_probability`` of the whole image, in [0, 1].
        box: Position of the view with the highest probability; None if no crop was selected.
        box_probability: Probability of that view alone.
        views: Number of views scored.
        view: Index of that view in `Views`.
        probabilities: Probabilities of all views, in the order of `Views`.
    """

    probability: float
    box: Box | None = None
    box_probability: float | None = None
    views: int = 1
    view: int = 0
    probabilities: tuple[float, ...] = ()


class Cropper:
    """Cuts images into views, and combines the views' scores into one probability. Nothing else cuts views.

    For a model that resizes:

    - None and ``center``: the model's resize transform (resize the shorter side, crop the centre). ``center`` also
      reports the position of that crop.
    - ``tiles``: a grid of squares of S pixels, the network's own resolution, without resizing. Neighbours overlap by
      at least `OVERLAP`. If that takes more than ``max_tiles``, the squares are larger and each is resized to S. The
      probability is the mean (see `bdd_tf.edge.labels.centred`) of the highest quarter of the tiles: a local
      manipulation dominates it, while a single unusual tile among many does not.
    - ``faces``: squares around faces, with a margin. The probability is the maximum, since one manipulated face makes
      the image a fake. An image without a face raises `ImageError`.

    For a model with native crops (`bdd_tf.edge.images.views`) nothing is ever resized, and the scores of crops are
    combined as its rule says:

    - None and ``center``: the crops of the rule. ``center`` also reports the position of the highest one.
    - ``tiles``: an even grid of crops (`bdd_tf.edge.images.views.native_tiles`) in place of them.
    - ``faces``: the rule is applied to each face's square. The probability is the maximum over faces.

    Args:
        rule: The model's resize transform, or its rule for native crops.
        how: One of `CROPS`, or None.
        max_tiles: 1 to `TILES_LIMIT`; None for `usual_tiles`.
        threshold: The model's threshold, in [0, 1], around which tile scores are averaged.

    Attributes:
        rule: As given.
        how: As given.
        threshold: As given.

    Raises:
        UsageError: If ``how`` is unknown or ``max_tiles`` out of range.
        BddError: If ``how`` is ``faces`` and OpenCV is not installed.
    """

    def __init__(
        self,
        rule: Rule,
        how: str | None = None,
        max_tiles: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        if how is not None and how not in CROPS:
            raise one_of("crop", how, CROPS)
        if max_tiles is None:
            max_tiles = usual_tiles(rule.size)
        max_tiles = whole_number("--max-tiles", max_tiles, 1, TILES_LIMIT)
        self.how = how
        self.rule = rule
        self._max_tiles = max_tiles
        self.threshold = threshold
        self._faces = None
        if how == "faces":
            from bdd_tf.edge.images.faces import FaceFinder

            self._faces = FaceFinder()

    def __call__(self, image: Image.Image | NDArray[np.uint8]) -> Views:
        """Cut one image into views.

        Args:
            image: A PIL image in mode RGB, of which only the views become arrays (and the whole image to find faces),
                or uint8 [H, W, 3], RGB.

        Returns:
            The views, at least one.

        Raises:
            ImageError: If no face was found (``faces``), or the aspect ratio is too extreme to be resized.
        """
        if isinstance(self.rule, ViewRule):
            return self._native(image, self.rule)
        width, height = size_of(image)
        if self.how in (None, "center"):
            seen = _resized(image, self.rule)[None]
            return Views(seen, () if self.how is None else (Box(*self.rule.box(width, height)),))
        boxes = (
            tile_boxes(width, height, self.rule.size, self._max_tiles)
            if self._faces is None
            else self._face_boxes(image)
        )
        # Tiles and faces are resized whole, without a second crop.
        whole = ResizeRule(self.rule.size, self.rule.size, self.rule.interpolation)
        return Views(np.stack([whole.apply(part_of(image, box)) for box in boxes]), tuple(boxes))

    def _native(self, image: Image.Image | NDArray[np.uint8], rule: ViewRule) -> Views:
        if self._faces is None:
            found = (
                native_tiles(image, rule, self._max_tiles)
                if self.how == "tiles"
                else native_views(image, rule)
            )
            return Views(found.images, found.boxes, (), True, found.padded, found.featureless)
        places = self._face_boxes(image)
        faces = [native_views(part_of(image, place), rule) for place in places]
        boxes = tuple(
            box._replace(left=box.left + place.left, top=box.top + place.top)
            for face, place in zip(faces, places, strict=True)
            for box in face.boxes
        )
        return Views(
            np.concatenate([face.images for face in faces]),
            boxes,
            tuple(len(face.boxes) for face in faces),
            True,
            any(face.padded for face in faces),
            all(face.featureless for face in faces),
        )

    def _face_boxes(self, image: Image.Image | NDArray[np.uint8]) -> list[Box]:
        boxes = [] if self._faces is None else self._faces(as_array(image))
        if not boxes:
            raise ImageError("no face was found (--crop center scores the whole image)")
        return boxes

    def combine(self, scores: NDArray[np.float32], views: Views) -> Score:
        """Combine the scores of one image's views.

        Args:
            scores: float32 [K], scores of ``views.images``.
            views: The views.

        Returns:
            The image's score.
        """
        each = tuple(float(score) for score in scores)
        if not views.boxes:
            return Score(each[0], probabilities=each)
        worst = int(np.argmax(scores))
        if isinstance(self.rule, ViewRule):
            parts = np.split(scores, np.cumsum(views.parts)[:-1]) if views.parts else [scores]
            whole = max(self.rule.combine(part) for part in parts)
        else:
            whole = worst_quarter(scores, self.threshold) if self.how == "tiles" else each[worst]
        if self.how is None:
            return Score(whole, None, None, len(each), worst, each)
        return Score(whole, views.boxes[worst], each[worst], len(each), worst, each)

    def check(
        self, views: Views, size: tuple[int, int], trained_on: TrainingStatistics | None
    ) -> Deviation | None:
        """Compare an image with the training images.

        Args:
            views: The image's views.
            size: Width and height of the image in pixels.
            trained_on: Statistics of the training images; None if there are none.

        Returns:
            The most significant deviation, or None. A resized image is judged by its size and, unless it was cut into
            tiles or faces, by the network's input; native crops are judged by themselves, whatever the image's size.
        """
        if views.native:
            return check_crops(views.images, trained_on, padded=views.padded, featureless=views.featureless)
        if trained_on is None:
            return None
        return trained_on.check(*size, views.images[0] if self.how in (None, "center") else None)


def _resized(image: Image.Image | NDArray[np.uint8], rule: ResizeRule) -> NDArray[np.uint8]:
    return np.asarray(rule.apply_pil(image)) if isinstance(image, Image.Image) else rule.apply(image)


def usual_tiles(size: int) -> int:
    """Return the default maximum number of tiles of ``size`` pixels: the cost of 64 tiles of 224 pixels."""
    return min(TILES_LIMIT, max(64, 64 * 224**2 // size**2))


def tile_boxes(width: int, height: int, size: int, most: int) -> list[Box]:
    """Return an even grid of overlapping squares that covers an image.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        size: Side of the tiles, in pixels; it grows if more than ``most`` tiles would be needed.
        most: Maximum number of tiles.

    Returns:
        At least one box, row by row. The side of a tile is at most the shorter side of the image. If even tiles of
        that size are too many (extreme aspect ratios), they are spaced evenly and leave gaps.

    Example:
        >>> tile_boxes(56, 32, 32, 64)
        [Box(left=0, top=0, width=32, height=32), Box(left=24, top=0, width=32, height=32)]
    """
    short = min(width, height)

    def count(side: int) -> int:
        return _count(width, side) * _count(height, side)

    # The count never increases with the side, so bisection finds the smallest side that fits.
    low, high = min(size, short), short
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) <= most else (middle + 1, high)
    lefts, tops = (_starts(length, low, most) for length in (width, height))
    return [Box(left, top, low, low) for top in tops for left in lefts]


def worst_quarter(scores: NDArray[np.floating[Any]], threshold: float) -> float:
    """Return the mean of the highest quarter of the scores, at least of one.

    Args:
        scores: Float [K] in [0, 1].
        threshold: Threshold around which the mean is taken (see `bdd_tf.edge.labels.centred`).

    Returns:
        A score in [0, 1].
    """
    worst = np.sort(scores)[-math.ceil(len(scores) / 4) :]
    return uncentred(sum(centred(float(score), threshold) for score in worst) / len(worst), threshold)


def _count(length: int, side: int) -> int:
    return 1 + math.ceil((length - side) / max(1, math.floor(side * (1 - OVERLAP))))


def _starts(length: int, side: int, most: int) -> list[int]:
    return [round(start) for start in np.linspace(0, length - side, min(_count(length, side), most))]
