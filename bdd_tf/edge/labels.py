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
