"""Score images that are cut into several views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.crops import Cropper, Score, Views

BATCH = 8
"""Maximum number of network inputs per inference batch."""


class PredictsBatches(Protocol):
    """The part of `bdd_tf.edge.detector.Detector` that `score_views` uses."""

    def predict_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return fake probabilities, float32 [N], of images uint8 [N, S, S, 3]."""


def score_views(detector: PredictsBatches, several: Sequence[Views], cropper: Cropper) -> list[Score]:
    """Score the views of several images in batches of at most `BATCH`.

    Args:
        detector: Scores the views.
        several: Views of each image.
        cropper: The cropper that cut the views; it combines their scores.

    Returns:
        One score per image.
    """
    if not several:
        return []
    images = np.concatenate([views.images for views in several])
    # Of even size: the runtime allocates anew for each change.
    batches = -(-len(images) // BATCH)
    size = -(-len(images) // batches)
    scores = np.concatenate(
        [detector.predict_batch(images[first : first + size]) for first in range(0, len(images), size)]
    )
    ends = np.cumsum([len(views.images) for views in several])
    parts = np.split(scores, ends[:-1])
    return [cropper.combine(part, views) for part, views in zip(parts, several, strict=True)]
