"""Plots of a `bdd_tf.edge.video.timeline.Timeline`, drawn with Pillow."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from bdd_tf.edge.labels import FAKE, LABELS, REAL, UNSURE, centred, uncentred
from bdd_tf.edge.lettering import fitted, length, write
from bdd_tf.edge.video.timeline import Bin, Summary, Timeline

_REAL_COLOUR, _FAKE_COLOUR, _INK, _GREY = "#2a7f62", "#c0392b", "#222222", "#5f6368"
_COLOURS = {LABELS[REAL]: _REAL_COLOUR, LABELS[FAKE]: _FAKE_COLOUR, UNSURE: "#80868b"}
_SECONDS, _MINUTES, _HOURS = (
    (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    (60, 120, 300, 600, 1200, 1800),
    (3600, 7200, 21600, 86400),
)
_DAY = 86400
_LEAST_GAP = 0.09
"""Minimum distance between two labels of the vertical axis, as a share of its length."""


def plot(
    timeline: Timeline, title: str = "", end: float | None = None, width: int = 1200, height: int = 360
) -> Image.Image:
    """Plot the scores over time: raw scores as pale marks, smoothed scores as a line, fake stretches shaded.

    The vertical axis is the scale on which scores are averaged, with the model's threshold in the middle. Above and
    below it, the axis has regular ticks at round scores (see `score_ticks`).

    Args:
        timeline: The scores.
        title: Title, in any script; its beginning is left out if it is too long.
        end: End of the last frame, in seconds; None for its start.
        width: In pixels, at least 300.
        height: In pixels, at least 160.

    Returns:
        An RGB image.
    """
    return _Plot(timeline, timeline.summary(end), title, width, height).image


def strip(timeline: Timeline, width: int, height: int) -> Image.Image:
    """Draw the smoothed scores as a horizontal bar, with time from left to right: green is real, red is fake, grey
    is unsure.

    Args:
        timeline: The scores.
        width: In pixels, at least 1.
        height: In pixels, at least 1.

    Returns:
        An RGB image.
    """
    image = Image.new("RGB", (width, height), "#cccccc")
    draw = ImageDraw.Draw(image)
    length = max(timeline.end, 1e-3)
    for i, b in enumerate(timeline.bins):
        end = timeline.bins[i + 1].start if i + 1 < len(timeline.bins) else length
        box = (b.start / length * width, 0, max(end / length * width, b.start / length * width), height)
        draw.rectangle(box, _colour(timeline, b))
    return image


def _colour(timeline: Timeline, b: Bin) -> str:
    """Return the colour of the verdict on a bin's mean."""
    return _COLOURS[timeline.verdict(uncentred(b.smoothed / b.count, timeline.model_threshold))]


class _Plot:
    """Draws one plot at twice its size and scales it down, because Pillow draws lines without antialiasing."""

    _SCALE = 2

    def __init__(self, timeline: Timeline, summary: Summary, title: str, width: int, height: int) -> None:
        k = self._SCALE
        self._timeline, bins = timeline, timeline.bins
        self._model_threshold = timeline.model_threshold
        self._threshold = centred(timeline.threshold, timeline.model_threshold)
        self._canvas = Image.new("RGB", (width * k, height * k), "white")
        self._draw = ImageDraw.Draw(self._canvas)
        self._left, self._right = 64 * k, (width - 24) * k
        self._top, self._bottom = 48 * k, (height - 44) * k
        self._length = max(summary.seconds, bins[-1].end if bins else 0.0, 1e-3)
        self._draw_stretches(summary)
        self._draw_raw_scores(bins)
        self._draw_axes(timeline.threshold)
        self._draw_smoothed_scores(bins)
        room = self._right - self._left - self._write_summary(summary) - 24 * k
        self._write(self._left, 14 * k, fitted(title, 16 * k, room), 16, _INK)
        self.image = self._canvas.resize((width, height), Image.Resampling.LANCZOS)

    def _x(self, seconds: float) -> float:
        return self._left + (self._right - self._left) * min(seconds / self._length, 1.0)

    def _y(self, value: float) -> float:
        """Return the vertical position of a centred score."""
        return self._bottom - (self._bottom - self._top) * value

    def _write(self, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la") -> None:
        write(self._draw, (x, y), text, size * self._SCALE, colour, anchor)

    def _draw_stretches(self, summary: Summary) -> None:
        for stretch in summary.stretches:
            right = max(self._x(stretch.end), self._x(stretch.start) + self._SCALE)
            self._draw.rectangle((self._x(stretch.start), self._top, right, self._bottom), "#fbe3e0")

    def _draw_axes(self, threshold: float) -> None:
        k = self._SCALE
        for score in score_ticks(self._model_threshold):
            y = self._y(centred(score, self._model_threshold))
            self._draw.line((self._left, y, self._right, y), "#e4e6e8", k)
            self._write(self._left - 8 * k, y, f"{score:.7g}", 12, _INK, "rm")
        for edge in self._timeline.unsure or ():
            y = self._y(centred(edge, self._model_threshold))
            self._draw.line((self._left, y, self._right, y), _COLOURS[UNSURE], k)
        y = self._y(self._threshold)
        for x in range(self._left, self._right, 12 * k):
            self._draw.line((x, y, min(x + 6 * k, self._right), y), _GREY, k)
        # Above a low line and below a high one, so that the label remains between the axes.
        low = self._threshold <= 0.5
        at = y + (-3 if low else 3) * k
        self._write(self._left + 6 * k, at, f"threshold {threshold:.4g}", 11, _GREY, "lb" if low else "lt")
        step = _tick(self._length)
        for i in range(math.floor(self._length / step + 1e-9) + 1):
            tick = self._x(i * step)
            self._draw.line((tick, self._bottom, tick, self._bottom + 5 * k), _INK, k)
            self._write(tick, self._bottom + 8 * k, _clock(i * step, step), 12, _INK, "ma")
        self._draw.line((self._left, self._bottom, self._right, self._bottom), _INK, k)

    def _draw_raw_scores(self, bins: list[Bin]) -> None:
        """Draw single frames as dots, and bins of several frames as a paler band from minimum to maximum."""
        r = 1.5 * self._SCALE
        for b in bins:
            x, right = self._x(b.start), self._x(b.end)
            colour = "#a9b8c6" if b.count == 1 else "#d5dde4"
            self._draw.rectangle((x - r, self._y(b.high) - r, right + r, self._y(b.low) + r), colour)

    def _draw_smoothed_scores(self, bins: list[Bin]) -> None:
        k = self._SCALE
        points = [(self._x((b.start + b.end) / 2), self._y(b.smoothed / b.count)) for b in bins]
        for (x0, y0), (x1, y1), b in zip(points, points[1:], bins[1:], strict=False):
            self._draw.line((x0, y0, x1, y1), _colour(self._timeline, b), 3 * k)
        if len(points) == 1:
            (x, y), r = points[0], 4 * k
            self._draw.ellipse((x - r, y - r, x + r, y + r), _colour(self._timeline, bins[0]))

    def _write_summary(self, summary: Summary) -> float:
        """Write the summary and return its width."""
        if summary.fake_probability is None:
            text, colour = "no frame was scored", _INK
        else:
            text = f"{summary.verdict}  mean {summary.fake_probability:.3f}, {summary.fake_share:.0%} of frames fake"
            colour = _COLOURS[summary.verdict or UNSURE]
        self._write(self._right, 14 * self._SCALE, text, 16, colour, "ra")
        return length(text, 16 * self._SCALE)


def score_ticks(threshold: float) -> list[float]:
    """Return scores for the ticks of an axis that is linear below and above a threshold, which is its middle.

    Args:
        threshold: The model's threshold, in [0, 1].

    Returns:
        Ascending: 0, the threshold, 1, and in each half the multiples of a round number, without those that are too
        close to the threshold.

    Example:
        >>> score_ticks(0.5)
        [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]
        >>> score_ticks(0.9875)
        [0.0, 0.2, 0.4, 0.6, 0.8, 0.9875, 0.99, 0.995, 1.0]
    """
    found = {0.0, threshold, 1.0}
    for low, high in ((0.0, threshold), (threshold, 1.0)):
        if high <= low:
            continue
        step = _round_step((high - low) / 5)
        for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
            score = round(i * step, 10)
            # Half the axis is high - low.
            if abs(score - threshold) / (high - low) / 2 >= _LEAST_GAP:
                found.add(score)
    return sorted(found)


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, ... and of their tenths, hundredths, ... that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(round(m * power, 12) for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def _tick(length: float) -> float:
    """Return a round step in seconds that gives at most 10 ticks."""
    candidates = [step for step in (*_SECONDS, *_MINUTES, *_HOURS) if length / step <= 10]
    return candidates[0] if candidates else _DAY * _round_step(length / _DAY / 10)


def _clock(seconds: float, step: float) -> str:
    if step < 60:
        return f"{seconds:g} s" if step >= 1 else f"{seconds:.2f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes} min"
