"""Scores over time: smoothing, the summary of a video, and its picture. Memory does not grow with the video."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from bdd_tf.edge.labels import FAKE, LABELS, centred, uncentred, verdict

MAX_BINS = 2048
"""Steps in time that are kept apart for the picture; longer videos get coarser steps."""

MAX_STRETCHES = 500
"""Fake stretches that are listed one by one; the rest is counted."""

_REAL_COLOUR, _FAKE_COLOUR, _INK = "#2a7f62", "#c0392b", "#222222"


class Smoother:
    """An exponential mean of scores over time: a score's weight falls by e in ``time_constant`` seconds.

    Frames need not come evenly: after ``dt`` seconds the mean moves by ``1 - exp(-dt / time_constant)`` of its
    distance to the new score. The first score is taken as it is.

    Args:
        time_constant: In seconds, at least 0; 0 smooths nothing.
        middle: The model's threshold, in [0, 1]: the middle of the scale on which the mean is taken
            (`bdd_tf.edge.labels.centred`), so that a turn from 0 to 1 and one from 1 to 0 cross it equally
            soon, after ``0.69 * time_constant``.

    Example:
        >>> smooth = Smoother(1.0)
        >>> [round(smooth(t, p), 3) for t, p in ((0, 0.0), (1, 1.0), (2, 1.0))]
        [0.0, 0.632, 0.865]
    """

    def __init__(self, time_constant: float, middle: float = 0.5) -> None:
        self._time_constant = time_constant
        self._middle = middle
        self._value: float | None = None
        self._seconds = 0.0

    def __call__(self, seconds: float, score: float) -> float:
        """The mean after one more score in [0, 1], which came at ``seconds``."""
        if self._time_constant == 0:
            return score
        value = centred(score, self._middle)
        if self._value is None:
            self._value = value
        else:
            elapsed = max(0.0, seconds - self._seconds)
            self._value += (1 - math.exp(-elapsed / self._time_constant)) * (value - self._value)
        self._seconds = seconds
        return uncentred(self._value, self._middle)


@dataclass(frozen=True)
class Stretch:
    """A run of frames whose smoothed score says fake.

    Attributes:
        start: Time of its first frame, in seconds.
        end: Time of the first frame after it, or of the video's end.
        peak: Its highest smoothed score.
    """

    start: float
    end: float
    peak: float


@dataclass(frozen=True)
class Summary:
    """What is known of a whole video.

    Attributes:
        frames: Frames that were scored.
        unscored: Frames that were looked at but had nothing to score (no face).
        dropped: Frames a camera delivered while others were scored.
        seconds: Length of what was seen.
        fake_probability: Mean of the frames' raw scores, taken on the scale of `bdd_tf.edge.labels.centred`;
            None if no frame was scored. A short fake part in a long video hardly moves it: that is what
            ``peak`` and ``stretches`` are for.
        verdict: That mean against the threshold.
        fake_share: Share in [0, 1] of the scored frames whose smoothed score says fake.
        peak: Highest smoothed score.
        peak_seconds: When.
        stretches: Runs of frames whose smoothed score says fake, at most `MAX_STRETCHES`.
        stretches_left_out: How many more there were.
    """

    frames: int
    unscored: int
    dropped: int
    seconds: float
    fake_probability: float | None
    verdict: str | None
    fake_share: float | None
    peak: float | None
    peak_seconds: float | None
    stretches: tuple[Stretch, ...]
    stretches_left_out: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, rounded to what means something: milliseconds, 1e-6."""
        return _rounded(asdict(self))

    def sentence(self) -> str:
        """For people, on one line."""
        if self.fake_probability is None:
            return f"{self.frames + self.unscored} frames, none of which could be scored"
        text = (
            f"{self.verdict} {self.fake_probability:.4f} (mean of {self.frames} frames, {self.seconds:.2f} s); "
            f"fake {self.fake_share:.1%} of the frames; peak {self.peak:.4f} at {self.peak_seconds:.2f} s"
        )
        shown = [f"{s.start:.2f}-{s.end:.2f} s" for s in self.stretches[:5]]
        more = len(self.stretches) + self.stretches_left_out - len(shown)
        if shown:
            text += "; fake from " + ", ".join(shown) + (f" and {more} more" if more else "")
        extra = [
            f"{n} {word}" for n, word in ((self.unscored, "without a face"), (self.dropped, "dropped")) if n
        ]
        return text + (f"; frames {', '.join(extra)}" if extra else "")


@dataclass
class _Bin:
    """Frames that lie close together; scores are centred (`bdd_tf.edge.labels.centred`)."""

    start: float
    end: float = 0.0
    count: int = 0
    smoothed: float = 0.0
    low: float = 1.0
    high: float = 0.0

    def add(self, other: _Bin) -> None:
        self.end = other.end
        self.count += other.count
        self.smoothed += other.smoothed
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass
class Timeline:
    """Collects the scores of a video's frames.

    Attributes:
        threshold: Smoothed scores from here on are fake; in [0, 1].
        middle: The middle of the scale on which the mean is taken, as for `Smoother`.
    """

    threshold: float
    middle: float = 0.5
    _bins: list[_Bin] = field(default_factory=list)
    _per_bin: int = 1
    _frames: int = 0
    _unscored: int = 0
    _fake: int = 0
    _total: float = 0.0
    _peak: tuple[float, float] | None = None
    _stretches: list[Stretch] = field(default_factory=list)
    _stretch_count: int = 0
    _open: Stretch | None = None
    _end: float = 0.0

    def add(self, seconds: float, score: float, smoothed: float) -> bool:
        """Note a frame.

        Args:
            seconds: Its time; never falling.
            score: Its raw score, in [0, 1].
            smoothed: The smoothed score there.

        Returns:
            Whether this is the highest smoothed score so far.
        """
        self._frames += 1
        self._total += centred(score, self.middle)
        self._end = max(self._end, seconds)
        is_fake = verdict(smoothed, self.threshold) == LABELS[FAKE]
        self._fake += is_fake
        if is_fake:
            start, peak = (self._open.start, self._open.peak) if self._open else (seconds, 0.0)
            self._open = Stretch(start, seconds, max(peak, smoothed))
        else:
            self._close(seconds)
        raw = centred(score, self.middle)
        self._put(_Bin(seconds, seconds, 1, centred(smoothed, self.middle), raw, raw))
        if self._peak is None or smoothed > self._peak[0]:
            self._peak = smoothed, seconds
            return True
        return False

    def skip(self, seconds: float) -> None:
        """Note a frame that had nothing to score."""
        self._unscored += 1
        self._end = max(self._end, seconds)

    def summary(self, end: float | None = None, dropped: int = 0) -> Summary:
        """Everything so far.

        Args:
            end: When the last frame ended; None: when it began.
            dropped: Frames the source dropped.
        """
        end = self._end if end is None else max(end, self._end)
        stretches = list(self._stretches)
        count = self._stretch_count
        if self._open is not None:
            count += 1
            if len(stretches) < MAX_STRETCHES:
                stretches.append(Stretch(self._open.start, end, self._open.peak))
        mean = uncentred(self._total / self._frames, self.middle) if self._frames else None
        return Summary(
            frames=self._frames,
            unscored=self._unscored,
            dropped=dropped,
            seconds=end,
            fake_probability=mean,
            verdict=None if mean is None else verdict(mean, self.threshold),
            fake_share=self._fake / self._frames if self._frames else None,
            peak=self._peak[0] if self._peak else None,
            peak_seconds=self._peak[1] if self._peak else None,
            stretches=tuple(stretches),
            stretches_left_out=count - len(stretches),
        )

    def picture(
        self, title: str = "", end: float | None = None, width: int = 1200, height: int = 360
    ) -> Image.Image:
        """Draw the scores over time: raw as pale marks, smoothed as a line, fake stretches shaded.

        The model's threshold lies half-way up, as on the scale on which scores are averaged.

        Args:
            title: Written above; cut where it is too long.
            end: As for `summary`.
            width: In pixels, at least 300.
            height: Likewise, at least 160.

        Returns:
            An RGB image.
        """
        return _Drawing(self, self.summary(end), title, width, height).image

    def strip(self, width: int, height: int) -> Image.Image:
        """The smoothed scores as a bar from left to right: green where real, red where fake.

        Args:
            width: In pixels, at least 1.
            height: Likewise.

        Returns:
            An RGB image.
        """
        image = Image.new("RGB", (width, height), "#cccccc")
        draw = ImageDraw.Draw(image)
        length = max(self._end, 1e-3)
        for i, b in enumerate(self._bins):
            end = self._bins[i + 1].start if i + 1 < len(self._bins) else length
            fake = b.smoothed / b.count >= centred(self.threshold, self.middle)
            box = (b.start / length * width, 0, max(end / length * width, b.start / length * width), height)
            draw.rectangle(box, _FAKE_COLOUR if fake else _REAL_COLOUR)
        return image

    def _close(self, seconds: float) -> None:
        if self._open is None:
            return
        self._stretch_count += 1
        if len(self._stretches) < MAX_STRETCHES:
            self._stretches.append(Stretch(self._open.start, seconds, self._open.peak))
        self._open = None

    def _put(self, new: _Bin) -> None:
        if self._bins and self._bins[-1].count < self._per_bin:
            self._bins[-1].add(new)
            return
        if len(self._bins) == MAX_BINS:
            pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
            for first, second in pairs:
                first.add(second)
            self._bins = self._bins[::2]
            self._per_bin *= 2
        self._bins.append(new)


class _Drawing:
    """One timeline picture; drawn at twice its size and shrunk, since Pillow's lines have hard edges."""

    _SCALE = 2

    def __init__(self, timeline: Timeline, summary: Summary, title: str, width: int, height: int) -> None:
        k = self._SCALE
        self._middle, bins = timeline.middle, timeline._bins
        self._threshold = centred(timeline.threshold, timeline.middle)
        self._canvas = Image.new("RGB", (width * k, height * k), "white")
        self._draw = ImageDraw.Draw(self._canvas)
        self._left, self._right = 64 * k, (width - 24) * k
        self._top, self._bottom = 48 * k, (height - 44) * k
        self._length = max(summary.seconds, bins[-1].end if bins else 0.0, 1e-3)
        self._shade(summary)
        self._marks(bins)
        self._axes(timeline.threshold)
        self._curves(bins)
        self._write(self._left, 14 * k, fitting(title, 70), 16, _INK)
        self._caption(summary)
        self.image = self._canvas.resize((width, height), Image.Resampling.LANCZOS)

    def _x(self, seconds: float) -> float:
        return self._left + (self._right - self._left) * min(seconds / self._length, 1.0)

    def _y(self, value: float) -> float:
        """Of a centred score."""
        return self._bottom - (self._bottom - self._top) * value

    def _write(self, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la") -> None:
        self._draw.text((x, y), text, colour, font=ImageFont.load_default(size * self._SCALE), anchor=anchor)

    def _shade(self, summary: Summary) -> None:
        for stretch in summary.stretches:
            right = max(self._x(stretch.end), self._x(stretch.start) + self._SCALE)
            self._draw.rectangle((self._x(stretch.start), self._top, right, self._bottom), "#fbe3e0")

    def _axes(self, threshold: float) -> None:
        k = self._SCALE
        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self._y(value)
            self._draw.line((self._left, y, self._right, y), "#e4e6e8", k)
            self._write(self._left - 8 * k, y, f"{uncentred(value, self._middle):.4g}", 12, _INK, "rm")
        y = self._y(self._threshold)
        for x in range(self._left, self._right, 12 * k):
            self._draw.line((x, y, min(x + 6 * k, self._right), y), "#5f6368", k)
        # Above the line where that is low, else below: the words never leave the axes.
        low = self._threshold <= 0.5
        at = y + (-3 if low else 3) * k
        self._write(
            self._left + 6 * k, at, f"threshold {threshold:.4g}", 11, "#5f6368", "lb" if low else "lt"
        )
        step = _tick(self._length)
        for i in range(math.floor(self._length / step + 1e-9) + 1):
            x = self._x(i * step)
            self._draw.line((x, self._bottom, x, self._bottom + 5 * k), _INK, k)
            self._write(x, self._bottom + 8 * k, _clock(i * step, step), 12, _INK, "ma")
        self._draw.line((self._left, self._bottom, self._right, self._bottom), _INK, k)

    def _colour(self, b: _Bin) -> str:
        return _FAKE_COLOUR if b.smoothed / b.count >= self._threshold else _REAL_COLOUR

    def _marks(self, bins: list[_Bin]) -> None:
        """Raw scores: dots; in long videos, where each step in time holds several, a paler band."""
        r = 1.5 * self._SCALE
        for b in bins:
            x, right = self._x(b.start), self._x(b.end)
            colour = "#a9b8c6" if b.count == 1 else "#d5dde4"
            self._draw.rectangle((x - r, self._y(b.high) - r, right + r, self._y(b.low) + r), colour)

    def _curves(self, bins: list[_Bin]) -> None:
        k = self._SCALE
        points = [(self._x((b.start + b.end) / 2), self._y(b.smoothed / b.count)) for b in bins]
        for (x0, y0), (x1, y1), b in zip(points, points[1:], bins[1:], strict=False):
            self._draw.line((x0, y0, x1, y1), self._colour(b), 3 * k)
        if len(points) == 1:
            (x, y), r = points[0], 4 * k
            self._draw.ellipse((x - r, y - r, x + r, y + r), self._colour(bins[0]))

    def _caption(self, summary: Summary) -> None:
        if summary.fake_probability is None:
            text, colour = "no frame was scored", _INK
        else:
            text = f"{summary.verdict}  mean {summary.fake_probability:.3f}, {summary.fake_share:.0%} of frames fake"
            colour = _FAKE_COLOUR if summary.verdict == LABELS[FAKE] else _REAL_COLOUR
        self._write(self._right, 14 * self._SCALE, text, 16, colour, "ra")


def fitting(text: str, most: int) -> str:
    """Text to be drawn: at most ``most`` characters, its end if it is longer; ``?`` for what cannot be shown."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable if len(printable) <= most else "..." + printable[3 - most :]


def _tick(length: float) -> float:
    """A round step in seconds that gives 4 to 10 ticks."""
    steps = (
        0.05,
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        20,
        30,
        60,
        120,
        300,
        600,
        1200,
        1800,
        3600,
        7200,
        21600,
        86400,
    )
    fitting = [step for step in steps if length / step <= 10]
    return fitting[0] if fitting else length / 8


def _clock(seconds: float, step: float) -> str:
    if step < 60:
        return f"{seconds:g} s" if step >= 1 else f"{seconds:.2f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes} min"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
