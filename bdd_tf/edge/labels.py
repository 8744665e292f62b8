"""The two classes, and the decision rule that turns a score into a verdict."""

from __future__ import annotations

from typing import Any, NamedTuple

from bdd_tf.errors import BddError

REAL = 0
FAKE = 1
LABELS = ("REAL", "FAKE")
UNSURE = "UNSURE"
"""The verdict of an image that a file with a band does not decide."""
VERDICTS = (*LABELS, UNSURE)

Band = tuple[float, float]
"""``low`` and ``high``, with 0 <= low < high <= 1: scores between them are not decided."""


def verdict(
    probability: float, threshold: float, unsure: Band | None = None, *, deviates: bool = False
) -> str:
    """Return the verdict on one image. Nothing else in Python turns a score into a label.

    Args:
        probability: ``fake_probability`` in [0, 1].
        threshold: Decision threshold in [0, 1]; a score equal to it counts as fake.
        unsure: Band of scores that are not decided, in place of the threshold; None: two verdicts.
        deviates: Whether the image is out of distribution; its score then decides nothing where there is a band.

    Returns:
        Without a band ``"FAKE"`` if ``probability >= threshold``, else ``"REAL"``. With a band ``"FAKE"`` from its upper
        end upwards, ``"REAL"`` from its lower end downwards, and ``"UNSURE"`` between them and for an image that
        deviates.
    """
    if unsure is None:
        return LABELS[FAKE] if probability >= threshold else LABELS[REAL]
    low, high = unsure
    if deviates or low < probability < high:
        return UNSURE
    return LABELS[FAKE] if probability >= high else LABELS[REAL]


class DecisionRule(NamedTuple):
    """The numbers that decide about scores.

    Attributes:
        threshold: Decision threshold, in [0, 1].
        unsure: Band of scores that are not decided, or None; see `verdict`.
    """

    threshold: float
    unsure: Band | None = None

    def __call__(self, probability: float, *, deviates: bool = False) -> str:
        """Return the `verdict` on a score in [0, 1]."""
        return verdict(probability, self.threshold, self.unsure, deviates=deviates)


def band_of(metadata: dict[str, Any]) -> Band | None:
    """Read and check the key ``unsure`` of a file's metadata.

    Args:
        metadata: The file's metadata, unchecked.

    Returns:
        The band; None if the file has none.

    Raises:
        BddError: If it is no pair of rising numbers in [0, 1].
    """
    given = metadata.get("unsure")
    if given is None:
        return None
    numbers = (
        isinstance(given, list)
        and len(given) == 2
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given)
    )
    if not numbers or not 0 <= given[0] < given[1] <= 1:
        raise BddError(
            f"its metadata is damaged: the band unsure is {str(given)[:80]}, not two rising numbers in [0, 1]."
        )
    return float(given[0]), float(given[1])


def centred(probability: float, threshold: float) -> float:
    """Map a score to the scale on which scores are averaged: the threshold becomes 0.5.

    A threshold chosen on the validation split may be as high as 0.99. The plain mean of nine scores of 1.0 and one of
    0.5 is 0.95, which would be REAL although nine of ten scores are fake. Therefore the intervals below and above the
    threshold are mapped linearly to [0, 0.5] and [0.5, 1] before averaging. With a threshold of 0.5 the mapping is
    the identity.

    Args:
        probability: Score in [0, 1].
        threshold: The model's threshold, in [0, 1].

    Returns:
        Value in [0, 1]; below 0.5 if and only if ``probability < threshold``.

    Example:
        >>> [centred(p, 0.8) for p in (0.0, 0.4, 0.8, 0.9, 1.0)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if probability < threshold:
        return 0.5 * probability / threshold
    return 0.5 if threshold == 1 else 0.5 + 0.5 * (probability - threshold) / (1 - threshold)


def uncentred(value: float, threshold: float) -> float:
    """Inverse of `centred`: map a value in [0, 1] back to the model's score scale."""
    return 2 * value * threshold if value < 0.5 else threshold + (2 * value - 1) * (1 - threshold)
