"""Verdicts and probabilities in words that claim no more than the model knows."""

from __future__ import annotations

from bdd_tf.edge.labels import FAKE, LABELS, REAL, UNSURE, DecisionRule

_LIKELIHOODS = (
    (0.01, "extremely unlikely"),
    (0.10, "very unlikely"),
    (0.33, "unlikely"),
    (0.66, "about as likely as not"),
    (0.90, "likely"),
    (0.99, "very likely"),
)
"""Upper ends of the intervals of a probability and their names: the scale of the IPCC's guidance note on uncertainty
(Mastrandrea et al. 2010), without its overlaps."""

HEADLINES = {
    LABELS[FAKE]: "The model takes this image for AI-made",
    LABELS[REAL]: "The model takes this image for a photograph",
    UNSURE: "The model does not decide about this image",
}

LIMITS = (
    "This report is an estimate of a statistical model, not a finding of fact. It does not prove that the image is AI-made "
    "or that it is genuine, and it says nothing about who made the image, or why.",
    "A model errs most on images unlike those it was trained on: newer generators, drawings, scans, screenshots, face "
    "swaps, edited photographs, and phones that compute much of a picture.",
    "A photograph that was edited in a small part may be called real; a real photograph with strong filters may be called "
    "AI-made.",
    "Metadata can be removed from a file, and unsigned metadata can be forged. The absence of evidence proves nothing.",
    "Do not use this report alone to make decisions about people.",
)


def likelihood(probability: float) -> str:
    """Name a probability in [0, 1].

    Example:
        >>> [likelihood(p) for p in (0.005, 0.5, 0.97)]
        ['extremely unlikely', 'about as likely as not', 'very likely']
    """
    return next((word for end, word in _LIKELIHOODS if probability < end), "extremely likely")


def percent(probability: float) -> str:
    """Return a probability in per cent; never 0 % or 100 %, which no model can claim.

    Example:
        >>> [percent(p) for p in (0.00001, 0.5, 0.99999)]
        ['less than 0.1 %', '50.0 %', 'more than 99.9 %']
    """
    if probability < 0.001:
        return "less than 0.1 %"
    return "more than 99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"


def estimate(probability: float, rule: DecisionRule) -> str:
    """Return the score of an image as a sentence."""
    much = ", which is not enough to decide" if rule(probability) == UNSURE else ""
    return (
        f"By the model's own estimate it is {likelihood(probability)} ({percent(probability)}) that this image is "
        f"AI-made{much}."
    )


def reasons(
    probability: float, rule: DecisionRule, *, note: str | None, deviates: bool, flips: bool
) -> list[str]:
    """Return the sentences that say why the verdict is what it is.

    Args:
        probability: Score of the image, in [0, 1].
        rule: What decided.
        note: Reasons to distrust the score, or None.
        deviates: Whether the image is out of distribution.
        flips: Whether a degraded copy has another verdict.
    """
    found = [_by_band(probability, rule) if rule.unsure else _by_threshold(probability, rule.threshold)]
    if deviates:
        found.append(
            "The image is unlike the model's training images, so that its score decides nothing."
            if rule.unsure
            else "The image is unlike the model's training images, so that its score is unreliable."
        )
    if flips:
        found.append(
            "A copy that was re-saved, reduced or shifted a little gets another verdict, so that this one does not stand."
            if rule.unsure
            else "A copy that was re-saved, reduced or shifted a little gets another verdict; treat this one with caution."
        )
    return [*found, *([f"Note: {note}."] if note else [])]


def _by_band(probability: float, rule: DecisionRule) -> str:
    low, high = rule.unsure or (rule.threshold, rule.threshold)
    text = f"The model decides from {percent(high)} upwards (AI-made) and from {percent(low)} downwards (photograph)"
    return text + (", and not between them, where this score lies." if low < probability < high else ".")


def _by_threshold(probability: float, threshold: float) -> str:
    side = "at or above" if probability >= threshold else "below"
    return f"The score is {side} the decision threshold, {percent(threshold)}."
