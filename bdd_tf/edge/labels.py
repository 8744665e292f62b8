"""The two classes, and the decision rule that turns a score into a verdict."""

REAL = 0
FAKE = 1
LABELS = ("REAL", "FAKE")


def verdict(probability: float, threshold: float) -> str:
    """Return the predicted class of one image.

    Args:
        probability: ``fake_probability`` in [0, 1].
        threshold: Decision threshold in [0, 1]; a score equal to it counts as fake.

    Returns:
        ``"FAKE"`` if ``probability >= threshold``, else ``"REAL"``.
    """
    return LABELS[FAKE] if probability >= threshold else LABELS[REAL]


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
