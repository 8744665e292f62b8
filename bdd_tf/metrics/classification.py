"""Measures of binary classification: accuracy, AUC, average precision, equal error rate, thresholds. NumPy only.

FAKE (1) is the positive class. A measure that needs both classes is None if one is missing; :func:`why_undefined` returns
the reason in words. Labels are array-likes [N] of 0 and 1; scores are array-likes [N] of finite numbers, where a higher
score means more likely FAKE. Ties are handled exactly: images of equal score are never ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import BddError, UsageError

#: Measures with a confidence interval, in the order of the tables.
MEASURES = ("accuracy", "auc", "average_precision", "eer", "accuracy_real", "accuracy_fake")
Labels = Sequence[int] | np.ndarray
Scores = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class _Tally:
    """Counts per distinct score, highest first, which determine every measure.

    Attributes:
        values: Distinct scores, descending, float64 [G].
        cell: For each image, 2 * (index into ``values``) + label; int64 [N]. A resample of the images is a new count of
            the cells.
    """

    values: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> _Tally:
        values, inverse = np.unique(-scores, return_inverse=True)
        return cls(-values, 2 * inverse.reshape(-1) + labels)

    def counts(self, images: np.ndarray | None = None) -> np.ndarray:
        """Count REAL and FAKE images per distinct score, int64 [G, 2]; of the given image indices, by default of all."""
        cell = self.cell if images is None else self.cell[images]
        return np.bincount(cell, minlength=2 * len(self.values)).reshape(-1, 2)

    def called_fake(self, threshold: float) -> int:
        """Count the distinct scores that a threshold calls FAKE, by the rule score >= threshold."""
        return int(np.count_nonzero(self.values >= threshold))


def checked(labels: Labels, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and scores, and convert them to int64 [N] and float64 [N].

    Raises:
        BddError: If they are empty, of different lengths, not 0 or 1, or not finite; the message states which.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise BddError(
            f"labels and scores must be two lists of one length; got {labels.shape} and {scores.shape}."
        )
    if not len(labels):
        raise BddError("there are no images to measure; choose a split that contains some.")
    if not np.isin(labels, (REAL, FAKE)).all():
        wrong = labels[~np.isin(labels, (REAL, FAKE))][0]
        raise BddError(f"labels must be {REAL} ({LABELS[REAL]}) or {FAKE} ({LABELS[FAKE]}); got {wrong!r}.")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise BddError(f"{bad} of {len(scores)} scores are not finite; the network that made them is broken.")
    return labels.astype(np.int64), scores


def _checked_probabilities(labels: Labels, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = checked(labels, scores)
    if scores.min() < 0 or scores.max() > 1:
        raise BddError(
            f"scores must be fake probabilities in [0, 1]; got {scores.min():g} to {scores.max():g}."
        )
    return labels, scores


def _checked_threshold(threshold: float) -> float:
    if not 0 <= threshold <= 1:
        raise BddError(f"the threshold must be in [0, 1]; got {threshold}.")
    return float(threshold)


def _auc(counts: np.ndarray) -> float:
    # Twice the number of correctly ordered (FAKE, REAL) pairs; a tie counts half. Integers, so the result is exact.
    real, fake = counts[:, REAL], counts[:, FAKE]
    above = np.cumsum(fake)
    pairs = above[-1] * real.sum()
    return float(np.dot(real, 2 * above - fake) / (2 * pairs)) if pairs else np.nan


def _average_precision(counts: np.ndarray) -> float:
    # One step per distinct score. Scores that a resample did not draw add no recall, so their precision is irrelevant.
    true, every = np.cumsum(counts[:, FAKE]), np.cumsum(counts.sum(axis=1))
    if not 0 < true[-1] < every[-1]:
        return np.nan
    return float(np.dot(counts[:, FAKE] / true[-1], true / np.maximum(every, 1)))


def _equal_error_rate(counts: np.ndarray) -> float:
    # Both error rates are piecewise linear along the ROC, and their difference falls from 1 to -1: there is one crossing.
    totals = counts.sum(axis=0)
    if not totals.all():
        return np.nan
    false_fake, missed = (np.cumsum(counts[:, label]) / totals[label] for label in (REAL, FAKE))
    missed = 1 - missed
    difference = missed - false_fake
    at = int(np.argmax(difference <= 0))
    before, low = (difference[at - 1], false_fake[at - 1]) if at else (1.0, 0.0)
    return float(low + (false_fake[at] - low) * before / (before - difference[at]))


def _confusion(counts: np.ndarray, called_fake: int) -> dict[str, int]:
    fake, real = counts[:called_fake].sum(axis=0), counts[called_fake:].sum(axis=0)
    return {
        "true_real": int(real[REAL]),
        "false_fake": int(fake[REAL]),
        "false_real": int(real[FAKE]),
        "true_fake": int(fake[FAKE]),
    }


def _rates(cells: dict[str, int]) -> dict[str, float]:
    real, fake = cells["true_real"] + cells["false_fake"], cells["true_fake"] + cells["false_real"]
    return {
        "accuracy": (cells["true_real"] + cells["true_fake"]) / (real + fake),
        "accuracy_real": cells["true_real"] / real if real else np.nan,
        "accuracy_fake": cells["true_fake"] / fake if fake else np.nan,
    }


def _measures(counts: np.ndarray, called_fake: int) -> dict[str, float]:
    """Compute all measures of :data:`MEASURES`; NaN if undefined."""
    found = {
        **_rates(_confusion(counts, called_fake)),
        "auc": _auc(counts),
        "average_precision": _average_precision(counts),
        "eer": _equal_error_rate(counts),
    }
    return {name: found[name] for name in MEASURES}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def why_undefined(labels: Labels) -> str | None:
    """Return the reason why measures that need both classes are None for these labels; None if they are defined."""
    present = np.unique(np.asarray(labels))
    if len(present) == 2:
        return None
    if not len(present):
        return "there are no images"
    there = int(present[0])
    return (
        f"all images are {LABELS[there]}; AUC, average precision and equal error rate need "
        f"{LABELS[1 - there]} images too"
    )


def confusion(labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, int]:
    """Count verdicts by label; a score at or above the threshold is called FAKE.

    Returns:
        ``true_real`` (true negatives), ``false_fake`` (false positives: REAL called FAKE), ``false_real`` (false
        negatives: FAKE called REAL), ``true_fake`` (true positives).

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    tally = _Tally.of(*checked(labels, scores))
    return _confusion(tally.counts(), tally.called_fake(threshold))


def accuracy(labels: Labels, scores: Scores, threshold: float = 0.5) -> float:
    """Compute the fraction of correct verdicts, in [0, 1].

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    return _rates(confusion(labels, scores, threshold))["accuracy"]


def roc_curve(
    labels: Labels, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the ROC: one point per distinct score, from (0, 0) to (1, 1).

    Returns:
        False positive rate, true positive rate and threshold, float64 [G + 1] each. Rates are ascending; thresholds are
        descending from infinity, at which nothing is called FAKE.

    Raises:
        BddError: For invalid input, or if a class is missing.
    """
    labels, scores = checked(labels, scores)
    reason = why_undefined(labels)
    if reason:
        raise BddError(f"there is no ROC curve: {reason}.")
    tally = _Tally.of(labels, scores)
    counts = np.vstack([np.zeros((1, 2), np.int64), tally.counts()])
    rates = np.cumsum(counts, axis=0) / counts.sum(axis=0)
    return rates[:, REAL], rates[:, FAKE], np.concatenate([[np.inf], tally.values])


def auc(labels: Labels, scores: Scores) -> float | None:
    """Compute the area under the ROC: the probability that a FAKE image scores above a REAL one; a tie counts half.

    Args:
        labels: 0 or 1, [N].
        scores: Finite numbers, e.g. logits or probabilities, [N].

    Returns:
        In [0, 1]; None if a class is missing (:func:`why_undefined`).

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    return _or_none(_auc(_Tally.of(*checked(labels, scores)).counts()))


def average_precision(labels: Labels, scores: Sequence[float] | np.ndarray) -> float | None:
    """Compute the area under the precision-recall curve: one step per distinct score, no interpolation.

    Returns:
        In [0, 1]; None if a class is missing.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    return _or_none(_average_precision(_Tally.of(*checked(labels, scores)).counts()))


def equal_error_rate(labels: Labels, scores: Sequence[float] | np.ndarray) -> float | None:
    """Compute the error rate at which false positive rate and false negative rate are equal.

    Both rates are interpolated linearly between two points of the ROC.

    Returns:
        In [0, 1]; None if a class is missing.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    return _or_none(_equal_error_rate(_Tally.of(*checked(labels, scores)).counts()))


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A threshold between each two neighbouring scores, 0 <= low < high <= 1: above low, at most high.

    It is the midpoint of their logits. A temperature scales all logits alike, so it moves thresholds and scores together
    and changes no decision. 0 and 1 have no logit; next to them, the threshold is the midpoint of the scores.
    """

    def logit(p: np.ndarray) -> np.ndarray:
        return np.log(p) - np.log1p(-p)

    inside = (low > 0) & (high < 1)
    a, b = (np.where(inside, p, 0.5) for p in (low, high))
    threshold = np.where(inside, 1 / (1 + np.exp(-(logit(a) + logit(b)) / 2)), low + (high - low) / 2)
    # Two scores may be adjacent floats without a number in between; the upper one separates them as well.
    return np.where((threshold > low) & (threshold <= high), threshold, high)


def best_threshold(labels: Labels, scores: Scores) -> float:
    """Choose the threshold with the highest balanced accuracy, the mean of specificity and recall.

    Intended for validation scores. Unlike accuracy, balanced accuracy does not depend on the class frequencies of the
    validation split; both are equal if the classes are equally frequent.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].

    Returns:
        In [0, 1]: the midpoint of the logits of two neighbouring scores, or of the outermost score and 0 or 1. Of equally
        good thresholds, the one closest to 0.5; of two equally close ones, the lower. 0.5 if a class is missing.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if why_undefined(labels):
        return 0.5
    tally = _Tally.of(labels, scores)
    counts, rising = tally.counts()[::-1], tally.values[::-1]
    # Candidate i calls the i lowest scores REAL. Computed in integers, so that equal values compare as equal: twice the
    # balanced accuracy times both totals is (REAL called REAL) * fakes + (FAKE called FAKE) * reals.
    reals, fakes = (int(n) for n in counts.sum(axis=0))
    below = np.vstack([np.zeros((1, 2), np.int64), np.cumsum(counts, axis=0)])
    gain = below[:, REAL] * fakes + (fakes - below[:, FAKE]) * reals
    edges = np.concatenate([[0.0], rising, [1.0]])
    candidates = _between(edges[:-1], edges[1:])
    if rising[-1] == 1.0:
        gain, candidates = gain[:-1], candidates[:-1]  # No threshold in [0, 1] calls a score of 1 REAL.
    best = candidates[gain == gain.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def false_alarm_threshold(labels: Labels, scores: Scores, rate: float) -> float | None:
    """Choose the lowest threshold with at most a given false positive rate. Intended for validation scores.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        rate: Maximum false positive rate, the fraction of REAL images called FAKE; in (0, 1).

    Returns:
        In [0, 1], placed as in :func:`best_threshold`. None if the images cannot determine it: there are fewer than
        1 / rate REAL images (zero false positives among so few are weak evidence), or too many of them score exactly 1.

    Raises:
        UsageError: For a rate outside (0, 1).
        BddError: For empty, mismatched or invalid input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if not 0 < rate < 1:
        raise UsageError(
            f"a rate of false alarms (false positive rate) must be between 0 and 1; got {rate:g}."
        )
    tally = _Tally.of(labels, scores)
    false = np.cumsum(tally.counts()[:, REAL])
    # Rounding: 0.07 * 100 is 7.000000000000001 in floats, and another product may be 6.99...
    allowed = int(np.floor(rate * false[-1] + 1e-9))
    called = int(np.count_nonzero(false <= allowed))
    if not allowed or (not called and tally.values[0] == 1.0):
        return None
    edges = np.concatenate([[1.0], tally.values, [0.0]])
    return float(_between(edges[called + 1], edges[called]))


def decided(labels: Labels, scores: Scores, band: tuple[float, float]) -> dict[str, Any]:
    """Measure a band of scores that are not decided.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        band: Scores from its upper end upwards are FAKE, from its lower end downwards REAL, and the others UNSURE.

    Returns:
        ``band``; ``coverage`` (the share decided) and ``accuracy`` (of the decided ones), in [0, 1]; ``real_called_fake`` and
        ``fake_called_real``, as shares of all images of the class. None where undefined.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    confusion(labels, scores, band[1])  # checks the input
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    fake, real = scores >= band[1], scores <= band[0]
    known = fake | real

    def mean(values: np.ndarray) -> float | None:
        return float(values.mean()) if len(values) else None

    return {
        "band": list(band),
        "coverage": mean(known),
        "accuracy": mean(fake[known] == (labels[known] == 1)),
        "real_called_fake": mean(fake[labels == 0]),
        "fake_called_real": mean(real[labels == 1]),
    }


def at_thresholds(labels: Labels, scores: Scores, thresholds: dict[str, float | None]) -> dict[str, dict]:
    """Measure thresholds that were chosen for false positive rates on other images.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        thresholds: Rate, as a string -> threshold; None if there is no threshold.

    Returns:
        Rate -> ``threshold``, ``false_alarms`` (false positive rate) and ``detected`` (recall), all in [0, 1]; None if
        there is no threshold or the class is missing.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    found = {}
    for rate, threshold in thresholds.items():
        row: dict[str, float | None] = dict.fromkeys(("threshold", "false_alarms", "detected"))
        if threshold is not None:
            cells = confusion(labels, scores, threshold)
            real, fake = cells["true_real"] + cells["false_fake"], cells["true_fake"] + cells["false_real"]
            row = {
                "threshold": threshold,
                "false_alarms": cells["false_fake"] / real if real else None,
                "detected": cells["true_fake"] / fake if fake else None,
            }
        found[rate] = row
    return found
