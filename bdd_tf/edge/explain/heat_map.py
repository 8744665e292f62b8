"""Heat map of an explanation, drawn with Pillow: photograph, network input, evidence map, colour scale, channels."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bdd_tf.edge.explain.explanation import Explanation, sigmoid
from bdd_tf.edge.explain.places import in_image, seen_part
from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import Views
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.edge.lettering import fitted, write

# Okabe and Ito's palette for colour-blind readers, as in bdd_tf.figures.evaluation.
REAL_COLOUR, FAKE_COLOUR = (0, 114, 178), (213, 94, 0)
LEAST_SCALE = 0.1
"""Minimum end of the colour scale, as a change of the logit: weaker evidence is drawn pale."""

_INK, _PALE, _GROUND = "#222222", "#777777", "#f1f3f4"
_PANEL, _MARGIN, _TOP, _ROW = 320, 24, 62, 26
_SCALE_WIDTH, _SCORE_WIDTH = 84, 150


@dataclass(frozen=True)
class Photo:
    """The image that was scored, to be shown beside the network's input.

    Attributes:
        picture: RGB, of any size: the image itself or a smaller copy.
        size: Width and height of the image, in pixels.
        seen: Part of the image that the network's input shows, in pixels of the image.
        box: Region with the strongest evidence, in pixels of the image.
    """

    picture: Image.Image
    size: tuple[int, int]
    seen: Box
    box: Box


def photo_of(
    picture: Image.Image,
    explanation: Explanation,
    views: Views,
    view: int,
    size: tuple[int, int],
    rule: ResizeRule,
) -> Photo:
    """Return the image for the heat map of one of its views.

    Args:
        picture: RGB, of any size: the image itself or a smaller copy.
        explanation: Of the view.
        views: Views of the image.
        view: Index of the view.
        size: Width and height of the image, in pixels.
        rule: The model's resize transform, as for `bdd_tf.edge.explain.places.seen_part`.
    """
    seen = seen_part(views, view, size, rule)
    return Photo(picture, size, seen, in_image(explanation.box, views, view, size, rule))


def colours(values: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Map values to a diverging colour scale: `REAL_COLOUR` at ``-scale``, white at 0, `FAKE_COLOUR` at ``scale``.

    Args:
        values: Array of any shape.
        scale: End of the scale, above 0; larger values are clipped.

    Returns:
        uint8 RGB, with the shape of ``values`` and a last axis of 3.
    """
    share = np.clip(np.asarray(values, np.float64) / scale, -1, 1)[..., None]
    end = np.where(share >= 0, np.array(FAKE_COLOUR, np.float64), np.array(REAL_COLOUR, np.float64))
    blended: NDArray[np.float64] = np.rint(255 + np.abs(share) * (end - 255))
    return blended.astype(np.uint8)


def scale_end(explanation: Explanation) -> float:
    """Return the end of the colour scale, a change of the logit: the first round number that covers every value drawn.

    These are the values of the map and that of the outlined region, which can exceed them: a pixel of the map has the
    mean of several regions.
    """
    most = max(float(np.abs(explanation.values).max()), abs(explanation.box_value), LEAST_SCALE)
    power = 10.0 ** math.floor(math.log10(most))
    # Compared with a tolerance: 0.3 / 0.1 exceeds 3.
    step = next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if most <= step * power * (1 + 1e-9))
    return step * power


def draw(
    image: NDArray[np.uint8],
    explanation: Explanation,
    verdict: str,
    title: str,
    probability: float | None = None,
    note: str | None = None,
    photo: Photo | None = None,
) -> Image.Image:
    """Draw an explanation.

    Args:
        image: Network input, uint8 [S, S, 3].
        explanation: Explanation of this input.
        verdict: ``"REAL"``, ``"FAKE"`` or ``"UNSURE"``.
        title: Name of the image, in any script (see `bdd_tf.edge.lettering`).
        probability: Score of the image; None for that of the explanation's logit.
        note: How the image differs from the training images, drawn below the title; None if it does not.
        photo: The image itself, drawn to the left of the network input; None to leave it out.

    Returns:
        An RGB image, 820 px wide, or 1164 px with ``photo``.
    """
    side = len(image)
    scale = scale_end(explanation)
    rows = len(explanation.channels)
    below = _TOP + _PANEL + 50
    height = below + (34 + _ROW * rows + 14 if rows else 30)
    panels = 2 if photo is None else 3
    width = panels * (_PANEL + _MARGIN) + 2 * _MARGIN + _SCALE_WIDTH
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    colour = {LABELS[FAKE]: FAKE_COLOUR, LABELS[REAL]: REAL_COLOUR}.get(verdict, _INK)
    score = f"{verdict}  {sigmoid(explanation.logit) if probability is None else probability:.4f}"
    write(pen, (_MARGIN, 12), score, 20, colour)
    left, room = _MARGIN + _SCORE_WIDTH, width - _SCORE_WIDTH - 2 * _MARGIN
    write(pen, (left, 8 if note else 16), fitted(title, 14, room), 14, _INK)
    if note:
        write(pen, (left, 28), fitted(f"unreliable: {note}", 12, room), 12, FAKE_COLOUR)

    left = _MARGIN
    if photo is not None:
        _photo(canvas, pen, photo)
        left += _PANEL + _MARGIN
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)[..., None]
    # The image is lightened, so that the colours of the map dominate while its structure remains visible.
    overlay = np.rint(colours(explanation.values, scale) * (0.65 + 0.35 * grey / 255)).astype(np.uint8)
    k = _PANEL / side
    for picture, caption in (
        (image, f"network input, {side} x {side} px"),
        (overlay, explanation.meaning),
    ):
        canvas.paste(_enlarged(picture), (left, _TOP))
        _outline(pen, explanation.box, left, _TOP, k, k)
        write(pen, (left, _TOP - 18), caption, 12, _PALE)
        left += _PANEL + _MARGIN
    _scale(canvas, pen, left, scale, explanation.box_value)
    region = f"outlined: strongest evidence, {explanation.box_value:+.2f}"
    write(pen, (_MARGIN, _TOP + _PANEL + 8), region, 12, _INK)
    if rows:
        _channels(pen, explanation, below)
    else:
        write(pen, (_MARGIN, below), f"channels: {explanation.why_no_channels}", 12, _PALE)
    return canvas


def png(picture: Image.Image) -> bytes:
    """Encode an image as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _outline(pen: ImageDraw.ImageDraw, box: Box, left: float, top: float, across: float, down: float) -> None:
    """Outline a box of a picture that is drawn at ``left, top`` and enlarged by these factors."""
    x, y = left + box.left * across, top + box.top * down
    # A region of a large photograph may be smaller than a pixel here.
    right, bottom = max(x + box.width * across, x + 3), max(y + box.height * down, y + 3)
    pen.rectangle((x - 1, y - 1, right, bottom), outline="white", width=3)
    pen.rectangle((x, y, right - 1, bottom - 1), outline="black", width=1)


def _photo(canvas: Image.Image, pen: ImageDraw.ImageDraw, photo: Photo) -> None:
    """Draw the photograph as the first panel, darker where the network does not look."""
    width, height = photo.size
    k = _PANEL / max(width, height)
    size = max(1, round(width * k)), max(1, round(height * k))
    small = max(photo.picture.size) <= _PANEL
    # Small images are enlarged without interpolation, as the network's input is.
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    shown = photo.picture.resize(size, how)
    across, down = size[0] / width, size[1] / height
    part = photo.seen
    inside = (
        int(part.left * across), int(part.top * down),
        math.ceil((part.left + part.width) * across), math.ceil((part.top + part.height) * down),
    )  # fmt: skip
    dim = Image.blend(shown, Image.new("RGB", size, "white"), 0.55)
    dim.paste(shown.crop(inside), inside[:2])
    left, top = _MARGIN + (_PANEL - size[0]) // 2, _TOP
    canvas.paste(dim, (left, top))
    _outline(pen, photo.box, left, top, across, down)
    whole = inside[0] <= 0 and inside[1] <= 0 and inside[2] >= size[0] and inside[3] >= size[1]
    more = "" if whole else "; pale: not in the input"
    write(pen, (_MARGIN, _TOP - 18), f"image, {width} x {height} px{more}", 12, _PALE)


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """Resize to a panel; enlarge without interpolation, so that single pixels are visible."""
    how = Image.Resampling.NEAREST if len(pixels) <= _PANEL else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize((_PANEL, _PANEL), how)


def _scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, left: int, scale: float, marked: float) -> None:
    """Draw the colour scale from ``-scale`` to ``scale``, with a mark at the value of the outlined region."""
    ramp = np.linspace(1, -1, _PANEL - 36, dtype=np.float32)[:, None].repeat(16, 1)
    top = _TOP + 18
    canvas.paste(Image.fromarray(colours(ramp, 1)), (left, top))
    pen.rectangle([left, top, left + 15, top + len(ramp) - 1], outline=_PALE)
    write(pen, (left, _TOP), "for FAKE", 12, FAKE_COLOUR)
    write(pen, (left, _TOP + _PANEL), "for REAL", 12, REAL_COLOUR, "ld")
    for share in (1, 0.5, 0, -0.5, -1):
        y = top + (len(ramp) - 1) * (1 - share) / 2
        pen.line([left + 16, y, left + 20, y], _PALE)
        write(pen, (left + 24, y), f"{share * scale:+.3g}" if share else "0", 11, _INK, "lm")
    y = top + (len(ramp) - 1) * (1 - marked / scale) / 2
    pen.line([left, y, left + 15, y], _INK)
    pen.polygon([(left - 1, y), (left - 8, y - 4), (left - 8, y + 4)], fill=_INK)


def _channels(pen: ImageDraw.ImageDraw, explanation: Explanation, top: int) -> None:
    """Draw one bar per channel from a common zero, REAL to the left and FAKE to the right."""
    reference = (
        "by its own mean" if explanation.reference == "own mean" else f"by the {explanation.reference}"
    )
    write(
        pen, (_MARGIN, top), f"channels: logit minus the logit with this channel replaced {reference}",
        12, _PALE,
    )  # fmt: skip
    most = max(*(abs(v) for v in explanation.channels.values()), LEAST_SCALE)
    zero, reach = _MARGIN + 370, 250
    first = top + 28
    for i, (name, value) in enumerate(explanation.channels.items()):
        y = first + i * _ROW
        end = zero + reach * value / most
        pen.rectangle([zero - reach, y, zero + reach, y + _ROW - 8], fill=_GROUND)
        colour = FAKE_COLOUR if value >= 0 else REAL_COLOUR
        pen.rectangle([min(zero, end), y, max(zero, end), y + _ROW - 8], fill=colour)
        write(pen, (_MARGIN, y + 9), fitted(name, 13, 90), 13, _INK, "lm")
        write(pen, (zero + reach + 12, y + 9), f"{value:+.2f}", 13, _INK, "lm")
    pen.line([zero, first - 4, zero, first + len(explanation.channels) * _ROW - 4], _INK)
