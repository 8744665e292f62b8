"""The two classes and the one rule that turns a score into a verdict."""

REAL = 0
FAKE = 1
LABELS = ("REAL", "FAKE")


def verdict(probability: float, threshold: float) -> str:
    """Name the class of one image.

    Args:
        probability: ``fake_probability`` in [0, 1].
        threshold: Scores from here on are called fake; in [0, 1].

    Returns:
        ``"FAKE"`` when ``probability >= threshold``, else ``"REAL"``.
    """
    return LABELS[FAKE] if probability >= threshold else LABELS[REAL]


def centred(probability: float, middle: float) -> float:
    """A score on the scale on which scores are averaged: a model's threshold lies in its middle.

    A threshold that was chosen on validation may be 0.99. The plain mean of nine scores of 1.0 and one of 0.5
    is 0.95 then, and says REAL against nine of ten. So the two sides of the threshold are stretched to the same
    length first; with a threshold of 0.5 nothing changes.

    Args:
        probability: In [0, 1].
        middle: The model's threshold, in [0, 1].

    Returns:
        In [0, 1]: below 0.5 if and only if ``probability < middle``.

    Example:
        >>> [centred(p, 0.8) for p in (0.0, 0.4, 0.8, 0.9, 1.0)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if probability < middle:
        return 0.5 * probability / middle
    return 0.5 if middle == 1 else 0.5 + 0.5 * (probability - middle) / (1 - middle)


def uncentred(value: float, middle: float) -> float:
    """Inverse of `centred`: back to the scale of the model's scores, both in [0, 1]."""
    return 2 * value * middle if value < 0.5 else middle + (2 * value - 1) * (1 - middle)
