"""Weighted measures of logits with intervals resampled over contents. FAKE (1) is the positive class.

Weights say how much an image counts: with equal sums per real source, every source counts alike, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.labels import FAKE, REAL

Numbers = NDArray[np.float64]
#: False positive rates at which recall is reported, as in the JSON's keys.
RATES = (0.01, 0.05)
#: Share of fakes among the images for which precision is reported.
PREVALENCE = 0.01


@dataclass(frozen=True)
class Ranking:
    """Images by falling score, for measures under many weights.

    Attributes:
        order: int64 [N]: images by falling logit.
        last: int64 [G]: position in ``order`` of the last image of each distinct logit.
        values: float64 [G]: the distinct logits, falling.
        fake: bool [N], in the given order of the images.
    """

    order: NDArray[np.int64]
    last: NDArray[np.int64]
    values: Numbers
    fake: NDArray[np.bool_]

    @classmethod
    def of(cls, logits: Numbers, labels: NDArray) -> Ranking:
        """Rank finite logits [N] with labels [N], 0 = REAL, 1 = FAKE."""
        order = np.argsort(-logits, kind="stable")
        ranked = logits[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return cls(order, last, ranked[last], labels == FAKE)

    def rates(self, weights: Numbers) -> tuple[Numbers, Numbers]:
        """False and true positive rates if all images from each distinct logit on are called FAKE.

        Args:
            weights: float64 [B, N], not negative.

        Returns:
            Two arrays float64 [B, G]; NaN in rows where a class has no weight.
        """
        ordered, fake = weights[:, self.order], self.fake[self.order]
        found = []
        for mine in (~fake, fake):
            mass = np.cumsum(np.where(mine, ordered, 0.0), axis=1)[:, self.last]
            with np.errstate(invalid="ignore", divide="ignore"):
                found.append(np.where(mass[:, -1:] > 0, mass / mass[:, -1:], np.nan))
        return found[0], found[1]


#: Keys of :func:`measures`, in order.
MEASURES = ("auc", *(f"recall_{rate:g}" for rate in RATES), "detected", "false_alarms", "balanced_accuracy",
            "precision_at_1_percent")  # fmt: skip


def measures(ranking: Ranking, weights: Numbers, threshold: float, report: Numbers | None = None) -> Numbers:
    """All measures under several sets of weights.

    Args:
        ranking: Of the images.
        weights: float64 [B, N].
        threshold: Logits at or above it are called FAKE.
        report: float64 [N], 0 for images on which the threshold was chosen, else 1: what is measured at the threshold
            is measured on the others. None: no image chose it.

    Returns:
        float64 [B, 7] in the order of :data:`MEASURES`: area under the ROC curve (ties count half); recall at each
        rate of :data:`RATES`; recall, false positive rate and balanced accuracy at the threshold; precision at the
        threshold if one image in a hundred is FAKE (NaN where nothing is called FAKE). NaN where a class has no weight.
    """
    false, true = ranking.rates(weights)
    zero = np.zeros((len(weights), 1))
    steps = np.diff(false, prepend=zero, axis=1)
    area = (steps * (true - np.diff(true, prepend=zero, axis=1) / 2)).sum(axis=1)
    padded = np.hstack([zero, true])
    rows = np.arange(len(weights))
    undefined = np.isnan(area)
    # Rates rise along a row, so that the allowed ones are the first.
    recalls = [
        np.where(undefined, np.nan, padded[rows, (false <= rate + 1e-12).sum(axis=1)]) for rate in RATES
    ]
    called = int(np.count_nonzero(ranking.values >= threshold))
    at = (false, true) if report is None else ranking.rates(weights * report)
    alarms, detected = (np.hstack([zero * rate[:, -1:], rate])[:, called] for rate in at)
    hits, misses = PREVALENCE * detected, (1 - PREVALENCE) * alarms
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = hits / (hits + misses)
    balanced = (detected + 1 - alarms) / 2
    return np.stack([area, *recalls, detected, alarms, balanced, precision], axis=1)


class Resamples:
    """Bootstrap multiplicities of images: contents are drawn, with all their images, within each class.

    Images of one prompt or one house are no independent draws.

    Args:
        labels: int [N].
        contents: Names [N].
        count: Resamples; 0: no intervals.
        seed: Of the draws.
    """

    def __init__(self, labels: NDArray, contents: Sequence[str], count: int, seed: int = 0):
        self.count = count
        self._drawn = np.zeros((count, len(labels)), np.float32)
        rng = np.random.default_rng([seed, 53])
        for label in (REAL, FAKE):
            mine = np.flatnonzero(labels == label)
            if not len(mine):
                continue
            names, codes = np.unique(np.asarray(contents)[mine], return_inverse=True)
            for row in self._drawn:
                row[mine] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[
                    codes
                ]

    def of(self, index: NDArray[np.int64]) -> Numbers:
        """Multiplicities float64 [count, len(index)] of some images."""
        return self._drawn[:, index].astype(np.float64)


def interval(samples: Numbers) -> list[float] | None:
    """The 95 % interval of samples [B], without NaN; None where there are none."""
    samples = samples[np.isfinite(samples)]
    return [float(x) for x in np.percentile(samples, (2.5, 97.5))] if len(samples) else None


def number(value: float) -> float | None:
    """A JSON number; None for NaN."""
    return float(value) if np.isfinite(value) else None


def described(values: Numbers, samples: Numbers) -> dict:
    """Values in the order of :data:`MEASURES` and their resamples [B, 7] as a JSON object.

    Returns:
        ``auc``, ``recall_at_fpr`` (``"0.01"``, ``"0.05"``), ``detected``, ``false_alarms``, ``balanced_accuracy``,
        ``precision_at_1_percent`` and ``intervals`` for all of them. None where undefined.
    """
    flat = {name: number(value) for name, value in zip(MEASURES, values, strict=True)}
    spread = {name: interval(samples[:, i]) if len(samples) else None for i, name in enumerate(MEASURES)}
    return {**_nested(flat), "intervals": _nested(spread)}


def _nested(flat: dict) -> dict:
    found = {name: value for name, value in flat.items() if not name.startswith("recall_")}
    found["recall_at_fpr"] = {f"{rate:g}": flat[f"recall_{rate:g}"] for rate in RATES}
    return found
