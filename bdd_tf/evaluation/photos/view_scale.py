"""How much more certain the mean of several views is than one view.

The logits of views of one image agree more than those of different images. If, within a class, a share r of their variance is
common to an image's views, the mean of K views has r + (1 - r) / K of the variance of one. Its class means are those of one
view. For logits that are normally distributed in each class and calibrated for one view, the mean is calibrated after a
division by that share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bdd_tf.errors import UsageError

#: Fewest images with several views from which the agreement is estimated.
FEWEST = 40


def agreement(views: Sequence[NDArray[np.float64]], labels: Sequence[int]) -> float:
    """Estimate the intraclass correlation of the logits of an image's views, within classes.

    One-way analysis of variance with groups of different sizes (Donner 1986, A review of inference procedures for the
    intraclass correlation coefficient), with the sums of squares of both classes added.

    Args:
        views: Per image the logits [K] of its views, K at least 1.
        labels: Per image 0 = REAL or 1 = FAKE.

    Returns:
        In [0, 1].

    Raises:
        UsageError: If fewer than :data:`FEWEST` images have several views.
    """
    if sum(len(image) > 1 for image in views) < FEWEST:
        raise UsageError(f"fewer than {FEWEST} images have several views: their agreement is unknown.")
    between = within = 0.0
    groups_free = views_free = sizes = 0.0
    for label in sorted(set(labels)):
        images = [np.asarray(v, np.float64) for v, own in zip(views, labels, strict=True) if own == label]
        counts = np.array([len(image) for image in images], np.float64)
        means = np.array([image.mean() for image in images])
        centre = float(np.average(means, weights=counts))
        between += float((counts * (means - centre) ** 2).sum())
        within += float(sum(((image - image.mean()) ** 2).sum() for image in images))
        groups_free += len(images) - 1
        views_free += float((counts - 1).sum())
        sizes += float(counts.sum() - (counts**2).sum() / counts.sum())
    spread, noise = between / groups_free, within / views_free
    size = sizes / groups_free
    share = (spread - noise) / max(spread + (size - 1) * noise, 1e-12)
    return float(np.clip(share, 0.0, 1.0))


def scale(correlation: float, count: int) -> tuple[float, ...]:
    """Return the factors of the mean logit of 1, 2, ... ``count`` views.

    Args:
        correlation: From :func:`agreement`, in [0, 1].
        count: The most views, at least 1.

    Returns:
        Rising numbers from 1 on.

    Example:
        >>> scale(0.5, 3)
        (1.0, 1.3333, 1.5)
    """
    return tuple(round(1 / (correlation + (1 - correlation) / k), 4) for k in range(1, count + 1))
