"""Scores over time: exponential smoothing and the summary of a video. Memory is independent of the video's length."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from bdd_tf.edge.labels import FAKE, LABELS, UNSURE, Band, centred, uncentred, verdict

MAX_BINS = 2048
"""Maximum number of time bins kept for the plot; in longer videos the bins are wider."""

MAX_STRETCHES = 500
"""Maximum number of fake stretches that are listed; further ones are only counted."""


class Smoother:
    """Exponential moving average of scores, with weights that decay by a factor of e per ``time_constant``.

    Frames may be unevenly spaced: after ``dt`` seconds the average moves towards the new score by the fraction
    ``1 - exp(-dt / time_constant)`` of their difference. It starts at the first score.

    Args:
        time_constant: In seconds, at least 0; 0 disables smoothing.
        threshold: The model's threshold, in [0, 1]. The average is taken on the scale of
            `bdd_tf.edge.labels.centred`, so that a change from 0 to 1 and one from 1 to 0 cross the threshold after
            the same time, ``0.69 * time_constant``.

    Example:
        >>> smooth = Smoother(1.0)
        >>> [round(smooth(t, p), 3) for t, p in ((0, 0.0), (1, 1.0), (2, 1.0))]
        [0.0, 0.632, 0.865]
    """

    def __init__(self, time_constant: float, threshold: float = 0.5) -> None:
        self._time_constant = time_constant
        self._threshold = threshold
        self._value: float | None = None
        self._seconds = 0.0

    def __call__(self, seconds: float, score: float) -> float:
        """Add a score and return the new average.

        Args:
            seconds: Time of the score.
            score: In [0, 1].

        Returns:
            The average, in [0, 1].
        """
        if self._time_constant == 0:
            return score
        value = centred(score, self._threshold)
        if self._value is None:
            self._value = value
        else:
            elapsed = max(0.0, seconds - self._seconds)
            self._value += (1 - math.exp(-elapsed / self._time_constant)) * (value - self._value)
        self._seconds = seconds
        return uncentred(self._value, self._threshold)


@dataclass(frozen=True)
class Stretch:
    """A run of consecutive frames whose smoothed score is FAKE.

    Attributes:
        start: Time of the first frame, in seconds.
        end: Time of the first frame after the run, or the end of the video, in seconds.
        peak: Highest smoothed score of the run.
    """

    start: float
    end: float
    peak: float


@dataclass(frozen=True)
class Summary:
    """Summary of a video.

    Attributes:
        frames: Number of frames scored.
        unscored: Number of frames without anything to score (no face).
        dropped: Number of frames that a camera delivered while another was scored.
        seconds: Duration that was read.
        fake_probability: Mean of the raw scores on the scale of `bdd_tf.edge.labels.centred`; None if no frame was
            scored. A short fake part of a long video hardly changes it; see ``peak`` and ``stretches``.
        verdict: Verdict on that mean.
        fake_share: Fraction in [0, 1] of the scored frames whose smoothed score is FAKE.
        unsure_share: Fraction of those that are UNSURE; None for a file without a band.
        peak: Highest smoothed score.
        peak_seconds: Time of the highest smoothed score.
        stretches: Runs of frames whose smoothed score is FAKE, at most `MAX_STRETCHES`.
        stretches_left_out: Number of further runs.
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
    unsure_share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; floats are rounded to 6 decimals. ``unsure_share`` only if there is a band."""
        values: dict[str, Any] = _rounded(asdict(self))
        if self.unsure_share is None:
            del values["unsure_share"]
        return values

    def sentence(self) -> str:
        """Return the summary as one line of text."""
        if self.fake_probability is None:
            return f"{self.frames + self.unscored} frames, none of which could be scored"
        unsure = "" if self.unsure_share is None else f" and unsure {self.unsure_share:.1%}"
        text = (
            f"{self.verdict} {self.fake_probability:.4f} (mean of {self.frames} frames, {self.seconds:.2f} s); "
            f"fake {self.fake_share:.1%}{unsure} of the frames; peak {self.peak:.4f} at {self.peak_seconds:.2f} s"
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
class Bin:
    """Aggregate of consecutive frames. All scores are centred (`bdd_tf.edge.labels.centred`).

    Attributes:
        start: Time of the first frame, in seconds.
        end: Time of the last frame, in seconds.
        count: Number of frames.
        smoothed: Sum of the smoothed scores.
        low: Minimum raw score.
        high: Maximum raw score.
    """

    start: float
    end: float = 0.0
    count: int = 0
    smoothed: float = 0.0
    low: float = 1.0
    high: float = 0.0

    def merge(self, other: Bin) -> None:
        """Add the frames of the bin that follows."""
        self.end = other.end
        self.count += other.count
        self.smoothed += other.smoothed
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass
class _Tally:
    """Numbers of frames so far, and the sum of the centred scores of those that were scored."""

    scored: int = 0
    unscored: int = 0
    fake: int = 0
    unsure: int = 0
    total: float = 0.0


@dataclass
class _Stretches:
    """The stretches of FAKE frames so far: how many ended, the first `MAX_STRETCHES` of them, and the one that goes on."""

    count: int = 0
    kept: list[Stretch] = field(default_factory=list)
    open: Stretch | None = None

    def extend(self, seconds: float, smoothed: float) -> None:
        """Add a FAKE frame."""
        start, peak = (self.open.start, self.open.peak) if self.open else (seconds, 0.0)
        self.open = Stretch(start, seconds, max(peak, smoothed))

    def close(self, seconds: float) -> None:
        """End the stretch that goes on, if any."""
        if self.open is None:
            return
        self.count += 1
        if len(self.kept) < MAX_STRETCHES:
            self.kept.append(Stretch(self.open.start, seconds, self.open.peak))
        self.open = None

    def closed(self, end: float) -> _Stretches:
        """Return a copy in which no stretch goes on after ``end``."""
        copy = _Stretches(self.count, list(self.kept), self.open)
        copy.close(end)
        return copy


@dataclass
class Timeline:
    """Collects the scores of a video's frames.

    Attributes:
        threshold: Decision threshold for smoothed scores, in [0, 1].
        model_threshold: The model's own threshold, around which scores are averaged; see `Smoother`.
        unsure: Band of scores that are not decided; None for two verdicts.
        bins: The frames so far, in at most `MAX_BINS` bins.
        end: Time of the last frame, in seconds.
    """

    threshold: float
    model_threshold: float = 0.5
    unsure: Band | None = None
    bins: list[Bin] = field(default_factory=list)
    end: float = 0.0
    _per_bin: int = 1
    _tally: _Tally = field(default_factory=_Tally)
    _stretches: _Stretches = field(default_factory=_Stretches)
    _peak: tuple[float, float] | None = None

    def add(self, seconds: float, score: float, smoothed: float, *, deviates: bool = False) -> bool:
        """Add a scored frame.

        Args:
            seconds: Time of the frame; must not decrease.
            score: Raw score, in [0, 1].
            smoothed: Smoothed score, in [0, 1].
            deviates: Whether the frame is out of distribution; see `bdd_tf.edge.labels.verdict`.

        Returns:
            Whether this is the highest smoothed score so far.
        """
        raw = centred(score, self.model_threshold)
        self._tally.scored += 1
        self._tally.total += raw
        self.end = max(self.end, seconds)
        found = self.verdict(smoothed, deviates=deviates)
        is_fake = found == LABELS[FAKE]
        self._tally.fake += is_fake
        self._tally.unsure += found == UNSURE
        if is_fake:
            self._stretches.extend(seconds, smoothed)
        else:
            self._stretches.close(seconds)
        self._add_bin(Bin(seconds, seconds, 1, centred(smoothed, self.model_threshold), raw, raw))
        if self._peak is None or smoothed > self._peak[0]:
            self._peak = smoothed, seconds
            return True
        return False

    def verdict(self, score: float, *, deviates: bool = False) -> str:
        """Return the verdict on a score in [0, 1]."""
        return verdict(score, self.threshold, self.unsure, deviates=deviates)

    def skip(self, seconds: float) -> None:
        """Count a frame without anything to score."""
        self._tally.unscored += 1
        self.end = max(self.end, seconds)

    def summary(self, end: float | None = None, dropped: int = 0) -> Summary:
        """Summarise all frames so far.

        Args:
            end: End of the last frame, in seconds; None for its start.
            dropped: Number of frames that the source dropped.
        """
        end = self.end if end is None else max(end, self.end)
        tally, stretches = self._tally, self._stretches.closed(end)
        mean = uncentred(tally.total / tally.scored, self.model_threshold) if tally.scored else None
        return Summary(
            frames=tally.scored,
            unscored=tally.unscored,
            dropped=dropped,
            seconds=end,
            fake_probability=mean,
            verdict=None if mean is None else self.verdict(mean),
            fake_share=tally.fake / tally.scored if tally.scored else None,
            peak=self._peak[0] if self._peak else None,
            peak_seconds=self._peak[1] if self._peak else None,
            stretches=tuple(stretches.kept),
            stretches_left_out=stretches.count - len(stretches.kept),
            unsure_share=None if self.unsure is None or not tally.scored else tally.unsure / tally.scored,
        )

    def _add_bin(self, new: Bin) -> None:
        if self.bins and self.bins[-1].count < self._per_bin:
            self.bins[-1].merge(new)
            return
        if len(self.bins) == MAX_BINS:
            pairs = zip(self.bins[::2], self.bins[1::2], strict=True)
            for first, second in pairs:
                first.merge(second)
            self.bins = self.bins[::2]
            self._per_bin *= 2
        self.bins.append(new)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
