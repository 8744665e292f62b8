"""Scores the frames of a video or camera, one after the other, and says what came of it."""

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

from bdd_tf.edge.capture import Frame, Frames
from bdd_tf.edge.crops import Box, Cropper, PredictsBatches, Score, score_views
from bdd_tf.edge.files import complete_file
from bdd_tf.edge.images import ImageError
from bdd_tf.edge.labels import verdict
from bdd_tf.edge.overlay import Caption, VideoFile, Window, draw
from bdd_tf.edge.timeline import Smoother, Summary, Timeline

SMOOTH = 0.5
"""Default time constant of the smoothed score, in seconds."""


@dataclass(frozen=True)
class FrameScore:
    """What is known of one frame.

    Attributes:
        frame: Its index, from 0.
        seconds: Its time in the video.
        fake_probability: Its own score; None if there was nothing to score in it (no face).
        smoothed: The exponential mean up to here; None before the first score.
        verdict: By ``smoothed``.
        box: The part that looks most fake, if a crop was chosen.
    """

    frame: int
    seconds: float
    fake_probability: float | None
    smoothed: float | None
    verdict: str | None
    box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``box`` only if there is one."""
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
    """What to do with frames besides scoring them.

    Attributes:
        each: Called with every frame's score.
        save_video: Write the frames with captions here.
        timeline: Draw the scores over time here (PNG).
        window: Show the frames in a window.
        seconds: Stop after so many seconds of the video; None: at its end.
        keep_peak: Keep the frame with the highest smoothed score.
    """

    each: Callable[[FrameScore], None] | None = None
    save_video: Path | None = None
    timeline: Path | None = None
    window: bool = False
    seconds: float | None = None
    keep_peak: bool = False


@dataclass(frozen=True)
class Watched:
    """What came of a video.

    Attributes:
        summary: Its scores.
        problem: Why it ended too early, or was not scored; one sentence, None if all is well.
        interrupted: The number of the signal that ended it; None if none did.
        elapsed: Seconds that it took.
        timeline: Its scores over time.
        peak: The frame with the highest smoothed score, uint8 [H, W, 3], RGB, if it was asked for.
        size: Width and height of the last frame, in pixels; None if there was none.
    """

    summary: Summary
    problem: str | None
    interrupted: int | None
    elapsed: float
    timeline: Timeline
    peak: np.ndarray | None
    size: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The summary with its speed: ``elapsed``, ``frames_per_second``, ``real_time_factor``.

        The last is seconds of video per second of work: above 1 is faster than it plays.
        """
        values = self.summary.to_dict()
        elapsed = max(self.elapsed, 1e-9)
        values["interrupted"] = self.interrupted is not None
        values["elapsed"] = round(self.elapsed, 3)
        values["frames_per_second"] = round(self.summary.frames / elapsed, 2)
        values["real_time_factor"] = round(self.summary.seconds / elapsed, 3)
        return values


class Interruption:
    """Whether a signal asked to stop.

    Attributes:
        signal: Its number; None if none came.
    """

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Let the first Ctrl-C (or SIGTERM) end a video at the next frame; the second one ends everything.

    In other threads than the main one, where signals cannot be caught, nothing changes.
    """
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return

    def note(number: int, _frame: object) -> None:
        if state:
            raise KeyboardInterrupt
        state.signal = number

    # An ignored signal stays ignored: that is how shells start background jobs.
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
    threshold: float,
    cropper: Cropper,
    smooth: float = SMOOTH,
    middle: float = 0.5,
    outputs: Outputs = Outputs(),
    title: str = "",
) -> Watched:
    """Score the frames of a source until it ends, somebody stops it, or ``outputs.seconds`` are over.

    Memory does not grow with the number of frames. What `outputs` names is written also when the video ended
    early or was stopped, but not if an error is raised.

    Args:
        source: The frames; closed at the end.
        detector: What scores them.
        threshold: Smoothed scores from here on are fake; in [0, 1].
        cropper: What the network sees of a frame.
        smooth: Time constant of the smoothed score, in seconds.
        middle: The model's own threshold: the middle of the scale on which scores are averaged.
        outputs: What else to do.
        title: Name of the video, for the window and the picture.

    Returns:
        The summary, and why it ended if that was not the video's end.

    Raises:
        BddError: If the model fails, or an output cannot be written.
    """
    timeline, smoother, peak = Timeline(threshold, middle), Smoother(smooth, middle), None
    reason = "it has none"
    began = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(closing(source))
        stopped = stack.enter_context(interruptible())
        window = Window(f"bdd: {title}") if outputs.window else None
        if window:
            stack.callback(window.close)
        file = VideoFile(outputs.save_video, source.rate) if outputs.save_video else None
        if file:
            stack.callback(file.discard)
        rate, previous, smoothed, seconds = _Rate(), None, None, 0.0
        for frame in source.frames(lambda: bool(stopped)):
            seconds = frame.seconds
            if outputs.seconds is not None and seconds >= outputs.seconds:
                seconds = outputs.seconds
                break
            try:
                score: Score | None = score_views(detector, [cropper(frame.rgb())], cropper)[0]
            except ImageError as error:
                score, reason = None, str(error)
            if score is None:
                timeline.skip(seconds)
            else:
                smoothed = smoother(seconds, score.probability)
                if timeline.add(seconds, score.probability, smoothed) and outputs.keep_peak:
                    peak = frame
            result = FrameScore(
                frame.index,
                seconds,
                None if score is None else score.probability,
                smoothed,
                None if smoothed is None else verdict(smoothed, threshold),
                None if score is None else score.box,
            )
            if outputs.each:
                outputs.each(result)
            fps = rate.step()
            if (file or window) and not _show(frame, result, threshold, fps, file, window):
                break
            previous = frame
        # The last frame stands as long as any other.
        if previous is not None and seconds == previous.seconds:
            seconds += 1 / source.rate
        interrupted = stopped.signal
        if file:
            file.close()
    elapsed = time.perf_counter() - began
    summary = timeline.summary(seconds, source.dropped)
    if outputs.timeline:
        with complete_file(outputs.timeline) as partial:
            timeline.picture(title, seconds).save(partial, "png")
    problem = source.problem
    if problem is None and interrupted is None and summary.frames == 0:
        problem = f"none of its {summary.unscored} frames could be scored: {reason}"
    size = None if previous is None else (previous.bgr.shape[1], previous.bgr.shape[0])
    return Watched(
        summary, problem, interrupted, elapsed, timeline, None if peak is None else peak.rgb(), size
    )


def _show(
    frame: Frame,
    result: FrameScore,
    threshold: float,
    fps: float,
    file: VideoFile | None,
    window: Window | None,
) -> bool:
    """Whether to go on."""
    caption = Caption(
        result.verdict, result.smoothed, result.fake_probability, threshold, frame.seconds, fps, result.box
    )
    image = draw(frame.bgr, caption)
    if file:
        file.write(image, frame.seconds)
    return window is None or window.show(image)


class _Rate:
    """Frames per second lately."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._interval: float | None = None

    def step(self) -> float:
        now = time.perf_counter()
        interval, self._last = now - self._last, now
        self._interval = interval if self._interval is None else 0.9 * self._interval + 0.1 * interval
        return 1 / max(self._interval, 1e-6)
