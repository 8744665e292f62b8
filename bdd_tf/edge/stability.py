"""Does a verdict survive what happens to images anyway? Score copies that were re-saved, reduced and shifted a little."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.images.crops import Cropper, Score, Views
from bdd_tf.edge.images.decode import open_known
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.labels import UNSURE, DecisionRule
from bdd_tf.edge.view_scores import PredictsBatches, score_views

JPEG_QUALITY = 80
SCALE = 0.75
SHIFT = 3
"""Rows and columns that the shifted copy lacks at the top and on the left, in pixels."""
COPIES = ("jpeg80", "scale075", "shift3")
"""Names of the copies, in the order in which they are scored."""


class Stability(NamedTuple):
    """Scores of an image's degraded copies.

    Attributes:
        score: Score of the image itself, in [0, 1].
        scores: Score per copy, in the order of `COPIES`; a copy that cannot be scored (no face) is missing.
        verdict: Verdict on the image itself.
        verdicts: Verdict per copy.
    """

    score: float
    scores: Mapping[str, float]
    verdict: str
    verdicts: Mapping[str, str]

    @property
    def spread(self) -> float:
        """Largest minus smallest score of the image and its copies, in [0, 1]."""
        values = (self.score, *self.scores.values())
        return max(values) - min(values)

    @property
    def flips(self) -> bool:
        """Whether a copy has another verdict than the image."""
        return any(found != self.verdict for found in self.verdicts.values())

    @property
    def note(self) -> str | None:
        """Which copies have another verdict, in a few words; None if none has, or if the image's verdict is UNSURE."""
        if not self.flips or self.verdict == UNSURE:
            return None
        others = ", ".join(
            f"{found} for {name} ({self.scores[name]:.4f})"
            for name, found in self.verdicts.items()
            if found != self.verdict
        )
        return f"its verdict is not stable: {self.verdict} as it is, {others}"

    def settled(self, rule: DecisionRule) -> str:
        """Return the verdict that stands: of a file with a band, UNSURE if a copy has another verdict."""
        return UNSURE if rule.unsure is not None and self.flips else self.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return ``spread``, ``scores`` and ``verdicts`` as JSON values."""
        return {
            "spread": round(self.spread, 6),
            "scores": dict(self.scores),
            "verdicts": dict(self.verdicts),
        }


class _NamedBytes(io.BytesIO):
    """A file in memory with a name. By that Pillow knows the format without importing five plugins."""

    name = "copy.jpg"


def degraded(image: Image.Image | NDArray[np.uint8]) -> dict[str, Image.Image]:
    """Make the copies of an image.

    Args:
        image: A PIL image in mode RGB, or uint8 [H, W, 3], RGB; not modified.

    Returns:
        Name -> copy: saved as a JPEG file of quality 80; resized to 0.75 of its sides by area; without the first three
        rows and columns. An image with a side of at most three pixels has no shifted copy.
    """
    given = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width, height = given.size
    with _NamedBytes() as file:
        given.save(file, quality=JPEG_QUALITY)
        file.seek(0)
        # Pillow reads the pixels when they are asked for; `load` does so before the file is closed.
        saved = open_known(file, "Jpeg")
        saved.load()
    small = (max(1, round(SCALE * width)), max(1, round(SCALE * height)))
    copies = {"jpeg80": saved, "scale075": given.resize(small, Image.Resampling.BOX)}
    if min(width, height) > SHIFT:
        copies["shift3"] = given.crop((SHIFT, SHIFT, width, height))
    return copies


def views_of_copies(image: Image.Image | NDArray[np.uint8], cropper: Cropper) -> dict[str, Views]:
    """Cut the copies of an image into views.

    Args:
        image: As for `degraded`.
        cropper: Cuts the image itself, too.

    Returns:
        Name -> views; a copy that cannot be cut (no face in it) is missing.
    """
    found = {}
    for name, copy in degraded(image).items():
        try:
            found[name] = cropper(copy)
        except ImageError:
            continue
    return found


def judged(
    scores: Mapping[str, Score], score: Score, rule: DecisionRule, *, deviates: bool = False
) -> Stability:
    """Return the stability of an image from the scores of its copies.

    Args:
        scores: Name -> score of each copy.
        score: Score of the image itself.
        rule: Decides about both.
        deviates: Whether the image is out of distribution.
    """
    return Stability(
        score.probability,
        {name: found.probability for name, found in scores.items()},
        rule(score.probability, deviates=deviates),
        {name: rule(found.probability, deviates=deviates) for name, found in scores.items()},
    )


def score_with_copies(
    detector: PredictsBatches,
    several: Sequence[tuple[Views, Callable[[], Mapping[str, Views]]]],
    cropper: Cropper,
) -> list[tuple[Score, dict[str, Score]]]:
    """Score images, then their copies.

    Args:
        detector: Scores the views.
        several: Views of each image, and a function that returns those of its copies by name. It is called when the images
            are scored, so that another thread may cut the copies meanwhile.
        cropper: The cropper that cut them.

    Returns:
        For each image its score, and those of its copies by name.
    """
    scores = score_views(detector, [views for views, _ in several], cropper)
    copies = [cut() for _, cut in several]
    others = iter(score_views(detector, [views for named in copies for views in named.values()], cropper))
    return [
        (score, {name: next(others) for name in named}) for score, named in zip(scores, copies, strict=True)
    ]
