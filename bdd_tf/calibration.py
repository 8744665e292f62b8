"""What a score means: the temperature between a network's logit and its fake probability, and how honest that is.

Every score of this project is ``sigmoid(logit / temperature)``, computed in one of two places that a test holds
equal: here, from logits (:func:`calibrated`), and inside the graph of a .tflite file, whose last layer `bdd convert`
divides by the temperature (:func:`bdd_tf.models.detector.fold_temperature`). So every runtime, every CSV and every
threshold speak of the same scores, and whoever reads a file applies nothing; its ``temperature`` only tells what was
folded in. Weights in a run folder stay as they were trained; the temperature is a result of validation and lies in
``metrics-validation.json``. Thresholds are chosen on scores in such a way (halfway between logits, see
:func:`bdd_tf.metrics.best_threshold`) that no decision depends on the temperature.

NumPy and SciPy only. Labels are array-likes [N] of 0 = REAL and 1 = FAKE; logits are finite numbers [N].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.metrics import Labels, checked, why_undefined

#: The range in which a temperature is looked for.
COOLEST, HOTTEST = 0.01, 100.0
#: Bins of the expected calibration error, as in Guo et al. (2017).
BINS = 15
Logits = Sequence[float] | np.ndarray


def calibrated(logits: Logits, temperature: float = 1.0) -> np.ndarray:
    """Fake probabilities of logits.

    Args:
        logits: Any numbers, [N].
        temperature: Above 0; 1 leaves the network's own probabilities, more makes them less sure.

    Returns:
        float32 [N] in [0, 1], computed in float64: what the .tflite file yields, up to its arithmetic.

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
    # exp of what is not positive cannot overflow.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


@dataclass(frozen=True)
class Temperature:
    """A temperature, and where it is not simply the best one, why.

    Attributes:
        value: In [:data:`COOLEST`, :data:`HOTTEST`].
        note: A sentence; None where there is nothing to say.
    """

    value: float
    note: str | None = None


def fit_temperature(labels: Labels, logits: Logits) -> Temperature:
    """The temperature with the least negative log likelihood (Guo et al. 2017, "On Calibration of Modern Neural
    Networks"), meant for validation logits.

    Were every image on its right side, the likelihood would rise for ever as the temperature falls to 0. So the
    targets are not 0 and 1 but 1 / (n + 2) and (m + 1) / (m + 2) for n REAL and m FAKE images (Platt 1999,
    "Probabilistic Outputs for Support Vector Machines"): the mean of a probability after n or m images that all agreed.
    That is one image's worth of doubt in each class: with 2,000 CIFAKE images it moved the temperature by 0.03, less
    than other 2,000 images did; with twelve it keeps the network from being surer than twelve images allow. The loss
    is convex in 1 / temperature, and the root of its derivative is bracketed by :data:`COOLEST` and :data:`HOTTEST`,
    where it ends if it lies outside.

    Args:
        labels: 0 or 1, [N].
        logits: Of the network as trained, [N].

    Returns:
        The temperature; 1, with a note, where a class is missing or the logits do not rise with the labels, so that no
        temperature helps.

    Raises:
        BddError: For empty, mismatched or impossible input.
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
    """Mean of ``-ln p``, p being the probability given to the true class; in nats, at least 0.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    labels, logits = checked(labels, logits)
    return float(np.mean(np.logaddexp(0.0, np.where(labels == 1, -1, 1) * _scaled(logits, temperature))))


def brier_score(labels: Labels, logits: Logits, temperature: float = 1.0) -> float:
    """Mean squared difference of fake probability and label (Brier 1950); in [0, 1].

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    labels, logits = checked(labels, logits)
    return float(np.mean((_sigmoid(_scaled(logits, temperature)) - labels) ** 2))


@dataclass(frozen=True)
class Reliability:
    """Images by confidence, the probability of the class that it speaks for; bins without images are left out.

    Attributes:
        low: Lower edge of each bin, which does not belong to it (float64 [B], in [0, 1]).
        high: Upper edge, which does.
        images: Images per bin, int64 [B].
        confidence: Their mean confidence, in [0.5, 1].
        accuracy: Share of them that really are of that class, in [0, 1].
    """

    low: np.ndarray
    high: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Mean distance of confidence and accuracy, bins weighted by images; in [0, 1]."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.images))


def reliability(
    labels: Labels, logits: Logits, temperature: float = 1.0, *, bins: int = BINS, adaptive: bool = False
) -> Reliability:
    """Sort images into bins of confidence.

    Args:
        labels: 0 or 1, [N].
        logits: [N].
        temperature: Above 0.
        bins: How many, at least 1.
        adaptive: Bins of equally many images (Nguyen & O'Connor 2015) instead of equal width in [0, 1]. Of those of
            equal width only the upper half can hold images: of two classes one has at least 0.5.

    Returns:
        The bins that hold images, rising.

    Raises:
        BddError: For empty, mismatched or impossible input.
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
        # Rounding of the edges must not lose the surest image.
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
    """How far confidence and accuracy are apart (Guo et al. 2017, equation 3); in [0, 1]. See :func:`reliability`.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    return reliability(labels, logits, temperature, bins=bins, adaptive=adaptive).error


def calibration_document(labels: Labels, logits: Logits, temperature: float) -> dict[str, float]:
    """What ``metrics-SPLIT.json`` says of calibration.

    Args:
        labels: 0 or 1, [N].
        logits: Of the network as trained, [N].
        temperature: Chosen on validation.

    Returns:
        ``temperature``, and without (as trained) and with ``_calibrated``: ``ece`` (15 bins of equal width),
        ``ece_adaptive`` (15 of equally many images), ``nll`` (nats) and ``brier``.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    found = {"temperature": float(temperature)}
    for suffix, t in (("", 1.0), ("_calibrated", temperature)):
        found[f"ece{suffix}"] = expected_calibration_error(labels, logits, t)
        found[f"ece_adaptive{suffix}"] = expected_calibration_error(labels, logits, t, adaptive=True)
        found[f"nll{suffix}"] = negative_log_likelihood(labels, logits, t)
        found[f"brier{suffix}"] = brier_score(labels, logits, t)
    return found
