"""Temperature scaling of logits, and measures of calibration.

Every score of this project is ``sigmoid(logit / temperature)``. It is computed from logits by :func:`calibrated`, and
inside the graph of a .tflite file, whose last layer `bdd convert` divides by the temperature
(:func:`bdd_tf.models.detector.fold_temperature`); a test compares both. Readers of a .tflite file, a CSV or a threshold
therefore apply no temperature themselves; the file's ``temperature`` documents the folded value. The weights in a run
folder stay uncalibrated. The temperature is determined on validation and stored in ``metrics-validation.json``. Thresholds
are midpoints of logits (:func:`bdd_tf.metrics.classification.best_threshold`), so no decision depends on the temperature.

NumPy and SciPy only. Labels are array-likes [N] of 0 = REAL and 1 = FAKE; logits are finite numbers [N].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.metrics.classification import Labels, checked, why_undefined

#: Search range of the temperature.
COOLEST, HOTTEST = 0.01, 100.0
#: Bins of the expected calibration error, as in Guo et al. (2017).
BINS = 15
Logits = Sequence[float] | np.ndarray


def calibrated(logits: Logits, temperature: float = 1.0) -> np.ndarray:
    """Compute calibrated fake probabilities from logits.

    Args:
        logits: Finite numbers, [N].
        temperature: Above 0; 1 leaves the network's probabilities unchanged, a higher one moves them towards 0.5.

    Returns:
        float32 [N] in [0, 1], computed in float64; the .tflite file's outputs up to rounding.

    Raises:
        BddError: For a temperature that is not positive.

    Example:
        >>> [round(float(p), 3) for p in calibrated([-2.0, 0.0, 2.0], 2.0)]
        [0.269, 0.5, 0.731]
    """
    return _sigmoid(_scaled(logits, temperature)).astype(np.float32)


def _scaled(logits: Logits, temperature: float) -> np.ndarray:
    if not 0 < temperature < np.inf:
        raise BddError(f"the temperature must be a positive number; got {temperature}.")
    return np.asarray(logits, dtype=np.float64) / temperature


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # The argument of exp is never positive, so it cannot overflow.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: In [:data:`COOLEST`, :data:`HOTTEST`].
        note: The reason if it is not the optimum; else None.
    """

    value: float
    note: str | None = None


def fit_temperature(labels: Labels, logits: Logits) -> Temperature:
    """Fit the temperature with the smallest negative log-likelihood (Guo et al. 2017, "On Calibration of Modern Neural
    Networks"). Intended for validation logits.

    If every image were classified correctly, the optimum for targets 0 and 1 would be temperature 0. The targets are
    therefore 1 / (n + 2) and (m + 1) / (m + 2) for n REAL and m FAKE images (Platt 1999, "Probabilistic Outputs for Support
    Vector Machines"): the posterior mean of the probability after n or m images of one class. On 2,000 CIFAKE images this
    changed the temperature by 0.03, less than the choice of other 2,000 images did; on twelve images it prevents
    overconfidence. The loss is convex in 1 / temperature. The root of its derivative is searched between :data:`COOLEST`
    and :data:`HOTTEST`; if it is outside, the nearer bound is returned.

    Args:
        labels: 0 or 1, [N].
        logits: Uncalibrated logits, [N].

    Returns:
        The temperature; 1, with a note, if a class is missing or the logits do not increase from REAL to FAKE, so that no
        temperature helps.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    from scipy.optimize import brentq

    labels, logits = checked(labels, logits)
    reason = why_undefined(labels)
    if reason:
        return Temperature(1.0, f"the temperature stays 1: {reason.split(';')[0]}.")
    fake = int(labels.sum())
    targets = np.where(labels == 1, (fake + 1) / (fake + 2), 1 / (len(labels) - fake + 2))

    def slope(inverse: float) -> float:
        return float(np.mean((_sigmoid(logits * inverse) - targets) * logits))

    if slope(0.0) >= 0:
        return Temperature(1.0, "the temperature stays 1: the scores do not rise from REAL to FAKE.")
    if slope(1 / HOTTEST) >= 0:
        return Temperature(HOTTEST, f"the temperature is at its upper bound, {HOTTEST:g}.")
    if slope(1 / COOLEST) <= 0:
        return Temperature(COOLEST, f"the temperature is at its lower bound, {COOLEST:g}.")
    return Temperature(1 / brentq(slope, 1 / HOTTEST, 1 / COOLEST, xtol=1e-12, rtol=1e-10))


def negative_log_likelihood(labels: Labels, logits: Logits, temperature: float = 1.0) -> float:
    """Compute the mean of ``-ln p``, where p is the probability of the true class; in nats, at least 0.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, logits = checked(labels, logits)
    return float(np.mean(np.logaddexp(0.0, np.where(labels == 1, -1, 1) * _scaled(logits, temperature))))


def brier_score(labels: Labels, logits: Logits, temperature: float = 1.0) -> float:
    """Compute the mean squared difference of fake probability and label (Brier 1950); in [0, 1].

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, logits = checked(labels, logits)
    return float(np.mean((_sigmoid(_scaled(logits, temperature)) - labels) ** 2))


@dataclass(frozen=True)
class Reliability:
    """Images binned by confidence, the probability of the predicted class. Empty bins are omitted.

    Attributes:
        low: Lower edge of each bin, exclusive; float64 [B] in [0, 1].
        high: Upper edge of each bin, inclusive; float64 [B] in [0, 1].
        images: Images per bin, int64 [B].
        confidence: Mean confidence per bin, float64 [B] in [0.5, 1].
        accuracy: Accuracy per bin, float64 [B] in [0, 1].
    """

    low: np.ndarray
    high: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Mean absolute difference of confidence and accuracy, weighted by the images per bin; in [0, 1]."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.images))


def reliability(
    labels: Labels, logits: Logits, temperature: float = 1.0, *, bins: int = BINS, adaptive: bool = False
) -> Reliability:
    """Bin images by confidence.

    Args:
        labels: 0 or 1, [N].
        logits: [N].
        temperature: Above 0.
        bins: Number of bins, at least 1.
        adaptive: Bins with equal numbers of images (Nguyen & O'Connor 2015) instead of equal width in [0, 1]. Of the bins
            of equal width only the upper half can contain images: the confidence of two classes is at least 0.5.

    Returns:
        The non-empty bins in ascending order.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, logits = checked(labels, logits)
    confidence = _sigmoid(np.abs(_scaled(logits, temperature)))
    right = (logits >= 0) == (labels == 1)
    order = np.argsort(confidence, kind="stable")
    if adaptive:
        cuts = np.linspace(0, len(order), bins + 1).round().astype(int)
        ends = np.concatenate([[0.5], confidence[order]])[cuts]
    else:
        ends = np.linspace(0, 1, bins + 1)
        cuts = np.searchsorted(confidence[order], ends, side="right")
        # Rounding of the edges must not exclude the image with the highest confidence.
        cuts[-1] = len(order)
    parts = [order[a:b] for a, b in itertools.pairwise(cuts)]
    full = [i for i, part in enumerate(parts) if len(part)]
    return Reliability(
        ends[:-1][full],
        ends[1:][full],
        np.array([len(parts[i]) for i in full]),
        np.array([confidence[parts[i]].mean() for i in full]),
        np.array([right[parts[i]].mean() for i in full]),
    )


def expected_calibration_error(
    labels: Labels, logits: Logits, temperature: float = 1.0, *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Compute the expected calibration error (Guo et al. 2017, equation 3), in [0, 1]. See :func:`reliability`.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    return reliability(labels, logits, temperature, bins=bins, adaptive=adaptive).error


def calibration_document(labels: Labels, logits: Logits, temperature: float) -> dict[str, float]:
    """Compute the calibration entries of ``metrics-SPLIT.json``.

    Args:
        labels: 0 or 1, [N].
        logits: Uncalibrated logits, [N].
        temperature: Chosen on validation.

    Returns:
        ``temperature``, and without suffix (uncalibrated) and with the suffix ``_calibrated``: ``ece`` (15 bins of equal
        width), ``ece_adaptive`` (15 bins with equal numbers of images), ``nll`` (nats) and ``brier``.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    found = {"temperature": float(temperature)}
    for suffix, t in (("", 1.0), ("_calibrated", temperature)):
        found[f"ece{suffix}"] = expected_calibration_error(labels, logits, t)
        found[f"ece_adaptive{suffix}"] = expected_calibration_error(labels, logits, t, adaptive=True)
        found[f"nll{suffix}"] = negative_log_likelihood(labels, logits, t)
        found[f"brier{suffix}"] = brier_score(labels, logits, t)
    return found
