"""Places of an explanation in the image, and its JSON values with them."""

from __future__ import annotations

from typing import Any

from bdd_tf.edge.explain.explanation import Explanation
from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import Score, Views
from bdd_tf.edge.images.resize import ResizeRule


def seen_part(views: Views, view: int, size: tuple[int, int], rule: ResizeRule) -> Box:
    """Return the part of the image that a view shows.

    Args:
        views: Views of the image.
        view: Index of one of them.
        size: Width and height of the image, in pixels.
        rule: The model's resize transform, which made the view unless ``views`` has boxes.
    """
    return views.boxes[view] if views.boxes else Box(*rule.box(*size))


def in_image(box: Box, views: Views, view: int, size: tuple[int, int], rule: ResizeRule) -> Box:
    """Convert a box from pixels of a network input to pixels of the image.

    Args:
        box: In pixels of the view.
        views: Views of the image.
        view: Index of the view.
        size: Width and height of the image, in pixels.
        rule: As for `seen_part`.

    Returns:
        A box inside the image, at least 1x1.
    """
    part = seen_part(views, view, size, rule)
    if views.native:
        return unpadded(box, part, rule.size)
    across, down = part.width / rule.size, part.height / rule.size
    left, top = part.left + int(box.left * across), part.top + int(box.top * down)
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    width = max(1, min(round(box.width * across), size[0] - left))
    return Box(left, top, width, max(1, min(round(box.height * down), size[1] - top)))


def unpadded(box: Box, part: Box, side: int) -> Box:
    """Convert a box inside a native crop to pixels of the image.

    Args:
        box: In pixels of the crop.
        part: Place of the crop in the image; smaller than the crop where that was padded by reflection.
        side: Side of the crop.
    """
    ends = []
    for start, length, first, whole in (
        (box.left, box.width, part.left, part.width),
        (box.top, box.height, part.top, part.height),
    ):
        start -= (side - whole) // 2
        low = min(max(start, 0), whole - 1)
        ends.append((first + low, max(1, min(start + length, whole) - low)))
    (left, width), (top, height) = ends
    return Box(left, top, width, height)


def json_values(
    explanation: Explanation, views: Views, score: Score, size: tuple[int, int], rule: ResizeRule
) -> dict[str, Any]:
    """Return an explanation as JSON values.

    Args:
        explanation: Of the view ``score.view``.
        views: Views of the image.
        score: Score of the image.
        size: Width and height of the image, in pixels.
        rule: As for `seen_part`.

    Returns:
        ``picture`` (None, for the caller to fill in), ``box`` in pixels of the image, the keys of
        `Explanation.to_dict`, and for native crops ``views``, with the box and score of each.
    """
    values: dict[str, Any] = {
        "picture": None,
        "box": list(in_image(explanation.box, views, score.view, size, rule)),
        **explanation.to_dict(),
    }
    if views.native:
        values["views"] = [
            {"box": list(box), "fake_probability": probability}
            for box, probability in zip(views.boxes, score.probabilities, strict=True)
        ]
    return values
