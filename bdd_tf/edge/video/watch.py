"""Score the frames of a video or camera one by one, and summarise the result."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.images.crops import Cropper, Score, Views
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics
from bdd_tf.edge.labels import DecisionRule
from bdd_tf.edge.video.frames import Frame, Frames
from bdd_tf.edge.video.overlay import Caption, VideoFile, Window, draw
from bdd_tf.edge.video.timeline import Smoother, Summary, Timeline
from bdd_tf.edge.video.timeline_plot import plot
from bdd_tf.edge.view_scores import PredictsBatches, score_views
from bdd_tf.files import complete_file

SMOOTH = 0.5
"""Default time constant of the smoothing, in seconds."""


@dataclass(frozen=True)
class FrameScore:
    """Score of one frame.

    Attributes:
        frame: Index of the frame, from 0.
        seconds: Time of the frame in the video.
        fake_probability: Score of this frame alone, in [0, 1]; None if there was nothing to score (no face).
        smoothed: Exponential moving average of the scores so far; None before the first score.
        verdict: Verdict on ``smoothed``.
        box: Most suspicious view of the frame, if a crop was selected.
    """

    frame: int
    seconds: float
    fake_probability: float | None
    smoothed: float | None
    verdict: str | None
    box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``box`` is present only if there is one."""
        values = {
            "frame": self.frame,
            "seconds": round(self.seconds, 4),
            "fake_probability": self.fake_probability,
            "smoothed": self.smoothed,
            "verdict": self.verdict,
        }
        return values if self.box is None else {**values, "box": list(self.box)}


@dataclass(frozen=True)
class Outputs:
    """Outputs besides the summary.

    Attributes:
        each: Called with the score of every frame.
        save_video: Path of a video file to write, with captions on the frames.
        timeline: Path of a PNG file to write, a plot of the scores over time.
        window: Whether to show the frames in a window.
        seconds: Time in the video at which to stop; None for its end.
        keep_peak: Whether to return the frame with the highest smoothed score.
        trained_on: Statistics that the size of the frames is compared with, for a note on them; None for no note.
    """

    each: Callable[[FrameScore], None] | None = None
    save_video: Path | None = None
    timeline: Path | None = None
    window: bool = False
    seconds: float | None = None
    keep_peak: bool = False
    trained_on: TrainingStatistics | None = None

    def note(self, frame: Frame | None) -> str | None:
        """Return how a frame differs from the training images by its size; None if it does not."""
        if self.trained_on is None or frame is None:
            return None
        deviation = self.trained_on.check(frame.bgr.shape[1], frame.bgr.shape[0])
        return None if deviation is None else deviation.note


@dataclass(frozen=True)
class VideoResult:
    """Result of scoring a video.

    Attributes:
        summary: Summary of the scores.
        problem: Reason why the video ended early or was not scored, as one sentence; None if there was no problem.
        interrupted: Number of the signal that stopped it; None if none did.
        elapsed: Duration of the scoring, in seconds.
        timeline: Scores over time.
        peak: Frame with the highest smoothed score, uint8 [H, W, 3], RGB; None unless it was requested.
        size: Width and height of the last frame, in pixels; None if there was no frame.
        views: Views of the last frame that was scored; None if there was none.
    """

    summary: Summary
    problem: str | None
    interrupted: int | None
    elapsed: float
    timeline: Timeline
    peak: NDArray[np.uint8] | None
    size: tuple[int, int] | None = None
    views: Views | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary and speed as JSON values.

        ``elapsed``, ``frames_per_second`` and ``real_time_factor`` are added; the last is seconds of video per second
        of processing.
        """
        values = self.summary.to_dict()
        elapsed = max(self.elapsed, 1e-9)
        values["interrupted"] = self.interrupted is not None
        values["elapsed"] = round(self.elapsed, 3)
        values["frames_per_second"] = round(self.summary.frames / elapsed, 2)
        values["real_time_factor"] = round(self.summary.seconds / elapsed, 3)
        return values


class Interruption:
    """Records a signal that requests a stop; true once there was one.

    Attributes:
        signal: Number of the signal; None if there was none.
    """

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Make the first Ctrl-C or SIGTERM stop at the next frame; a second one raises `KeyboardInterrupt`.

    Outside the main thread, which alone receives signals, this has no effect.
    """
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return

    def note(number: int, _frame: object) -> None:
        if state:
            raise KeyboardInterrupt
        state.signal = number

    # Signals that are ignored remain so: shells start background jobs that way.
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    caught = [n for n, handler in before.items() if handler is not signal.SIG_IGN and handler is not None]
    for number in caught:
        signal.signal(number, note)
    try:
        yield state
    finally:
        for number in caught:
            signal.signal(number, before[number])


def watch(
    source: Frames,
    detector: PredictsBatches,
    *,
    decide: DecisionRule,
    cropper: Cropper,
    smooth: float = SMOOTH,
    outputs: Outputs = Outputs(),
    title: str = "",
) -> VideoResult:
    """Score the frames of a source until it ends, a signal or the user stops it, or ``outputs.seconds`` have passed.

    Memory use does not depend on the number of frames. The files in ``outputs`` are also written if the video ended
    early or was stopped, but not if an exception is raised.

    Args:
        source: The frames; closed at the end.
        detector: Scores the frames.
        decide: Decides about smoothed scores.
        cropper: Cuts the frames. Scores are averaged around its threshold, the model's own.
        smooth: Time constant of the smoothing, in seconds; 0 disables smoothing.
        outputs: Further outputs.
        title: Name of the video, for the window and the plot.

    Returns:
        Scores of the video, and the reason if it ended early.

    Raises:
        BddError: If the model fails, or an output cannot be written.
    """
    scorer = _FrameScorer(
        detector,
        cropper,
        Timeline(decide.threshold, cropper.threshold, decide.unsure),
        smooth,
        keep_peak=outputs.keep_peak,
        trained_on=outputs.trained_on,
    )
    began = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(closing(source))
        stopped = stack.enter_context(interruptible())
        display = stack.enter_context(_Display(outputs, title, source.rate))
        end, last = _score_all(source, scorer, display, outputs, stopped)
        interrupted = stopped.signal
        display.finish()
    elapsed = time.perf_counter() - began
    summary = scorer.timeline.summary(end, source.dropped)
    if outputs.timeline:
        with complete_file(outputs.timeline) as partial:
            note = outputs.note(last)
            text = title if note is None else f"{title} (unreliable: {note})"
            plot(scorer.timeline, text, end).save(partial, "png")
    problem = source.problem
    if problem is None and interrupted is None and summary.frames == 0:
        problem = f"none of its {summary.unscored} frames could be scored: {scorer.why_unscored}"
    size = None if last is None else (last.bgr.shape[1], last.bgr.shape[0])
    peak = None if scorer.peak is None else scorer.peak.rgb()
    return VideoResult(summary, problem, interrupted, elapsed, scorer.timeline, peak, size, scorer.views)


def _score_all(
    source: Frames, scorer: _FrameScorer, display: _Display, outputs: Outputs, stopped: Interruption
) -> tuple[float, Frame | None]:
    """Score and show all frames; return the end of the last frame in seconds, and that frame."""
    last, seconds = None, 0.0
    for frame in source.frames(lambda: bool(stopped)):
        seconds = frame.seconds
        if outputs.seconds is not None and seconds >= outputs.seconds:
            seconds = outputs.seconds
            break
        result = scorer(frame)
        if outputs.each:
            outputs.each(result)
        if not display.show(frame, result, scorer.timeline.threshold):
            break
        last = frame
    # The last frame is shown for one frame interval.
    if last is not None and seconds == last.seconds:
        seconds += 1 / source.rate
    return seconds, last


class _FrameScorer:
    """Scores frames one by one and collects the scores.

    Attributes:
        timeline: All scores so far.
        peak: Frame with the highest smoothed score, if it is to be kept.
        views: Views of the latest frame that was scored; None before the first.
        why_unscored: Reason why the latest unscored frame could not be scored.
    """

    def __init__(
        self,
        detector: PredictsBatches,
        cropper: Cropper,
        timeline: Timeline,
        smooth: float,
        *,
        keep_peak: bool,
        trained_on: TrainingStatistics | None = None,
    ) -> None:
        self.timeline = timeline
        self.peak: Frame | None = None
        self.views: Views | None = None
        self.why_unscored = "it has none"
        self._detector = detector
        self._cropper = cropper
        self._smoother = Smoother(smooth, timeline.model_threshold)
        self._smoothed: float | None = None
        self._keep_peak = keep_peak
        self._trained_on = trained_on
        self._deviates = False

    def __call__(self, frame: Frame) -> FrameScore:
        score: Score | None = None
        try:
            views = self._cropper(frame.rgb())
            score, self.views = score_views(self._detector, [views], self._cropper)[0], views
        except ImageError as error:
            self.why_unscored = str(error)
        if score is None:
            self.timeline.skip(frame.seconds)
        else:
            self._smoothed = self._smoother(frame.seconds, score.probability)
            self._deviates = self._is_unusual(frame)
            highest = self.timeline.add(
                frame.seconds, score.probability, self._smoothed, deviates=self._deviates
            )
            if highest and self._keep_peak:
                self.peak = frame
        return FrameScore(
            frame.index,
            frame.seconds,
            None if score is None else score.probability,
            self._smoothed,
            None
            if self._smoothed is None
            else self.timeline.verdict(self._smoothed, deviates=self._deviates),
            None if score is None else score.box,
        )

    def _is_unusual(self, frame: Frame) -> bool:
        """Return whether a frame is out of distribution; False without a band, where that changes no verdict."""
        if self.timeline.unsure is None or self.views is None:
            return False
        height, width = frame.bgr.shape[:2]
        return self._cropper.check(self.views, (width, height), self._trained_on) is not None


class _Display:
    """Draws captions on frames, shows them in a window and writes them to a file, as ``outputs`` requests.

    To be used in a ``with`` statement: on exit the window is closed, and an unfinished file is deleted.
    """

    def __init__(self, outputs: Outputs, title: str, rate: float) -> None:
        self._outputs = outputs
        self._closing = ExitStack()
        self._window = Window(f"bdd: {title}") if outputs.window else None
        if self._window:
            self._closing.callback(self._window.close)
        self._file = VideoFile(outputs.save_video, rate) if outputs.save_video else None
        if self._file:
            self._closing.callback(self._file.discard)
        self._last = time.perf_counter()
        self._interval: float | None = None

    def show(self, frame: Frame, result: FrameScore, threshold: float) -> bool:
        """Show and write one frame; return False if the user closed the window."""
        rate = self._frames_per_second()
        if not self._file and not self._window:
            return True
        caption = Caption(
            result.verdict,
            result.smoothed,
            result.fake_probability,
            threshold,
            frame.seconds,
            rate,
            result.box,
            self._outputs.note(frame),
        )
        image = draw(frame.bgr, caption)
        if self._file:
            self._file.write(image, frame.seconds)
        return self._window is None or self._window.show(image)

    def finish(self) -> None:
        """Complete the file."""
        if self._file:
            self._file.close()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.close()

    def _frames_per_second(self) -> float:
        """Return an exponential moving average of the rate of calls."""
        now = time.perf_counter()
        interval, self._last = now - self._last, now
        self._interval = interval if self._interval is None else 0.9 * self._interval + 0.1 * interval
        return 1 / max(self._interval, 1e-6)
