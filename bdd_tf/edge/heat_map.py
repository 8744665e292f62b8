"""The picture of an explanation, drawn with Pillow: image, map, colour scale, channels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bdd_tf.edge.explanation import Explanation, sigmoid
from bdd_tf.edge.labels import FAKE, LABELS
from bdd_tf.edge.timeline import fitting

# Okabe and Ito's palette, as in bdd_tf.figures: told apart by colour-blind readers, too.
REAL_COLOUR, FAKE_COLOUR = (0, 114, 178), (213, 94, 0)
LEAST_SCALE = 0.1
"""The scale's end, in units of the logit, at least: what moves less is shown pale."""

_INK, _PALE, _GROUND = "#222222", "#777777", "#f1f3f4"
_PANEL, _MARGIN, _TOP, _ROW = 320, 24, 62, 26


def colours(values: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """A diverging colour scale: REAL's colour at ``-scale``, white at 0, FAKE's colour at ``scale``.

    Args:
        values: Any shape.
        scale: Above 0; values beyond it are clipped.

    Returns:
        uint8 RGB, the shape of ``values`` and 3.
    """
    share = np.clip(np.asarray(values, np.float64) / scale, -1, 1)[..., None]
    end = np.where(share >= 0, np.array(FAKE_COLOUR, np.float64), np.array(REAL_COLOUR, np.float64))
    blended: NDArray[np.float64] = np.rint(255 + np.abs(share) * (end - 255))
    return blended.astype(np.uint8)


def draw(
    image: NDArray[np.uint8],
    explanation: Explanation,
    verdict: str,
    title: str,
    probability: float | None = None,
) -> Image.Image:
    """Draw an explanation.

    Args:
        image: What the network saw, uint8 [S, S, 3].
        explanation: Of it.
        verdict: ``"REAL"`` or ``"FAKE"``.
        title: Name of the image; characters that cannot be shown become ``?``.
        probability: That the verdict was made of; None: that of the explanation's logit.

    Returns:
        An RGB picture, 820 px wide.
    """
    side = len(image)
    scale = max(float(np.abs(explanation.values).max()), LEAST_SCALE)
    rows = len(explanation.channels)
    below = _TOP + _PANEL + 50
    height = below + (34 + _ROW * rows + 14 if rows else 30)
    canvas = Image.new("RGB", (2 * _PANEL + 4 * _MARGIN + 84, height), "white")
    pen = ImageDraw.Draw(canvas)
    colour = FAKE_COLOUR if verdict == LABELS[FAKE] else REAL_COLOUR
    score = f"{verdict}  {sigmoid(explanation.logit) if probability is None else probability:.4f}"
    _write(pen, _MARGIN, 12, score, 20, colour)
    _write(pen, _MARGIN + 150, 16, fitting(title, 68), 14, _INK)

    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)[..., None]
    # Lightened, so that the colours stay the loudest; the image shows through their middle tones.
    laid = np.rint(colours(explanation.values, scale) * (0.65 + 0.35 * grey / 255)).astype(np.uint8)
    left = _MARGIN
    for picture, caption in (
        (image, f"what the network saw, {side} x {side} px"),
        (laid, explanation.meaning),
    ):
        canvas.paste(_enlarged(picture), (left, _TOP))
        box = explanation.box
        k = _PANEL / side
        x, y = left + box.left * k, _TOP + box.top * k
        right, bottom = x + box.width * k, y + box.height * k
        pen.rectangle((x - 1, y - 1, right, bottom), outline="white", width=3)
        pen.rectangle((x, y, right - 1, bottom - 1), outline="black", width=1)
        _write(pen, left, _TOP - 18, caption, 12, _PALE)
        left += _PANEL + _MARGIN
    _scale(canvas, pen, left, scale)
    region = f"outlined: the most telling place, {explanation.box_value:+.2f}"
    _write(pen, _MARGIN, _TOP + _PANEL + 8, region, 12, _INK)
    if rows:
        _channels(pen, explanation, below)
    else:
        _write(pen, _MARGIN, below, f"channels: {explanation.why_no_channels}", 12, _PALE)
    return canvas


def png(picture: Image.Image) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _write(
    pen: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    size: int,
    colour: str | tuple[int, int, int],
    anchor: str = "la",
) -> None:
    pen.text((x, y), text, colour, font=ImageFont.load_default(size), anchor=anchor)


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """As wide as a panel: with hard pixels where it is enlarged, so that single ones can be seen."""
    how = Image.Resampling.NEAREST if len(pixels) <= _PANEL else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize((_PANEL, _PANEL), how)


def _scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, left: int, scale: float) -> None:
    ramp = np.linspace(1, -1, _PANEL - 36, dtype=np.float32)[:, None].repeat(16, 1)
    top = _TOP + 18
    canvas.paste(Image.fromarray(colours(ramp, 1)), (left, top))
    pen.rectangle([left, top, left + 15, top + len(ramp) - 1], outline=_PALE)
    _write(pen, left, _TOP, "for FAKE", 12, FAKE_COLOUR)
    _write(pen, left, _TOP + _PANEL, "for REAL", 12, REAL_COLOUR, "ld")
    for share in (1, 0.5, 0, -0.5, -1):
        y = top + (len(ramp) - 1) * (1 - share) / 2
        pen.line([left + 16, y, left + 20, y], _PALE)
        _write(pen, left + 24, y, f"{share * scale:+.2f}" if share else "0", 11, _INK, "lm")


def _channels(pen: ImageDraw.ImageDraw, explanation: Explanation, top: int) -> None:
    """A bar per channel from a common zero, REAL to the left and FAKE to the right."""
    reference = (
        "by its own mean" if explanation.reference == "own mean" else f"by the {explanation.reference}"
    )
    _write(
        pen, _MARGIN, top, f"channels: logit less the logit with this channel replaced {reference}",
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
        _write(pen, _MARGIN, y + 9, fitting(name, 12), 13, _INK, "lm")
        _write(pen, zero + reach + 12, y + 9, f"{value:+.2f}", 13, _INK, "lm")
    pen.line([zero, first - 4, zero, first + len(explanation.channels) * _ROW - 4], _INK)
