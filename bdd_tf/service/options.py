"""Query parameters of a request to score images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.crops import CROPS, usual_tiles
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.service.limits import Refusal

NAMES = ("threshold", "crop", "max_tiles", "pictures", "explain", "list", "check")
_YES_NO = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Options:
    """What a request asks for.

    Attributes:
        decide: The model's own rule, or that of a threshold in the request, which leaves two verdicts.
        crop: One of `bdd_tf.edge.images.crops.CROPS`, or None for the model's own rule.
        max_tiles: Maximum number of tiles; None for the default.
        pictures: Whether the answer includes images of the network's input.
        explain: Whether it includes an explanation.
        as_list: Whether the answer is a list even for a single image.
        check: Whether degraded copies are scored, too.
    """

    decide: DecisionRule
    crop: str | None = None
    max_tiles: int | None = None
    pictures: bool = False
    explain: bool = False
    as_list: bool = False
    check: bool = False


def most_tiles(detector: Detector) -> int:
    """Return the largest ``max_tiles`` of a request: the default, so that no request costs more than that."""
    return usual_tiles(detector.rule.size)


def read_options(given: Mapping[str, str], detector: Detector) -> Options:
    """Validate the query parameters of a request.

    Args:
        given: Parameters by name.
        detector: Its threshold is the default, and its input size determines the number of tiles.

    Raises:
        Refusal: 400, if a parameter is unknown or has an invalid value.
    """
    unknown = [key for key in given if key not in NAMES]
    if unknown:
        raise Refusal(400, f"Unknown option {unknown[0][:80]!r}; possible: {', '.join(NAMES)}.")
    crop = given.get("crop")
    if crop is not None and crop not in CROPS:
        raise Refusal(400, f"The option crop is {crop[:80]!r}; possible: {', '.join(CROPS)}.")
    return Options(
        _decision(given, detector),
        crop,
        _max_tiles(given, crop, most_tiles(detector)),
        *(_yes(given, name) for name in ("pictures", "explain", "list", "check")),
    )


def _decision(given: Mapping[str, str], detector: Detector) -> DecisionRule:
    if "threshold" not in given:
        return detector.decide
    try:
        threshold = float(given["threshold"])
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise Refusal(400, f"The threshold is {given['threshold'][:80]!r}; it must be a number in [0, 1].")
    return DecisionRule(threshold)


def _max_tiles(given: Mapping[str, str], crop: str | None, most: int) -> int | None:
    text = given.get("max_tiles")
    if text is None:
        return None
    if crop != "tiles":
        raise Refusal(400, "The option max_tiles requires crop=tiles.")
    # Longer numbers are out of range; int() would take its time for thousands of digits.
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= count <= most:
        raise Refusal(
            400, f"The option max_tiles is {text[:80]!r}; it must be a whole number from 1 to {most}."
        )
    return count


def _yes(given: Mapping[str, str], name: str) -> bool:
    wanted = given.get(name, "0").lower()
    if wanted not in _YES_NO:
        raise Refusal(400, f"The option {name} is {wanted[:80]!r}; possible: 1, 0.")
    return _YES_NO[wanted]
