"""What is shown on top of a video's frames, and where it goes: a window, a video file."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf.edge.crops import Box
from bdd_tf.edge.labels import FAKE, LABELS
from bdd_tf.edge.opencv import load_cv2, openable, why_no_window
from bdd_tf.errors import BddError, UsageError

SMALLEST_SIDE = 240
"""Frames with a shorter side are enlarged (whole pixels, by a whole number), so that the text fits."""

_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_LONGEST_HOLD = 10  # seconds that one frame may stand in a written video, whatever time stamps say
_RED, _GREEN, _GREY, _WHITE, _DARK = (
    (43, 57, 192),
    (98, 127, 42),
    (150, 150, 150),
    (255, 255, 255),
    (30, 30, 30),
)


@dataclass(frozen=True)
class Caption:
    """What a frame says.

    Attributes:
        verdict: By the smoothed score; None while nothing was scored.
        probability: The smoothed score, in [0, 1].
        raw: This frame's own score; None if it had nothing to score.
        threshold: In [0, 1].
        seconds: Of the frame, in the video.
        rate: Frames per second that are being scored.
        box: Part of the frame to be marked.
    """

    verdict: str | None
    probability: float | None
    raw: float | None
    threshold: float
    seconds: float
    rate: float
    box: Box | None = None


def draw(bgr: np.ndarray, caption: Caption) -> np.ndarray:
    """Write a caption on a copy of a frame: verdict, probability as number and bar, time, frames per second.

    Args:
        bgr: uint8 [H, W, 3]; not changed.
        caption: What to write.

    Returns:
        uint8 [H', W', 3], BGR, both sides even (codecs ask for that): [H, W] or, of small frames, a multiple.
    """
    cv2 = load_cv2("a video")
    height, width = bgr.shape[:2]
    wanted = min(-(-SMALLEST_SIDE // min(height, width)), 4096 // max(height, width))
    # Very thin frames stay thin (their longer side would have no end), but two pixels they need.
    times = max(wanted, 2 if min(height, width) == 1 else 1)
    image = np.repeat(np.repeat(bgr, times, 0), times, 1)
    height, width = (side - side % 2 for side in image.shape[:2])
    image = np.ascontiguousarray(image[:height, :width])
    colour = _GREY if caption.verdict is None else _RED if caption.verdict == LABELS[FAKE] else _GREEN
    unit = max(10, min(width // 48, height // 22))  # px: height of a letter
    panel = min(height, round(3.4 * unit))
    image[:panel] = image[:panel] // 4 + np.uint8(0.75 * _DARK[0])
    scale = unit / 22

    def text(words: str, x: int, y: float, size: float, tint: tuple[int, int, int]) -> int:
        thickness = max(1, round(2 * size * scale))
        font = cv2.FONT_HERSHEY_SIMPLEX
        if x < 0:
            x += width - cv2.getTextSize(words, font, size * scale, thickness)[0][0]
        cv2.putText(image, words, (x, round(y)), font, size * scale, tint, thickness, cv2.LINE_AA)
        return x

    pad = unit // 2
    if caption.probability is None:
        text("nothing scored yet", pad, 1.6 * unit, 1, _WHITE)
    else:
        text(f"{caption.verdict} {caption.probability:.2f}", pad, 1.6 * unit, 1.3, _lighter(colour))
    text(f"{caption.seconds:.2f} s", -pad, 1.2 * unit, 0.7, _WHITE)
    raw = "no face" if caption.raw is None else f"frame {caption.raw:.2f}"
    text(f"{raw}   {caption.rate:.1f} fps", -pad, 2.2 * unit, 0.7, _WHITE)
    top, bottom = round(2.6 * unit), round(3.0 * unit)
    right = width - pad
    cv2.rectangle(image, (pad, top), (right, bottom), _GREY, -1)
    if caption.probability is not None:
        end = pad + round((right - pad) * caption.probability)
        cv2.rectangle(image, (pad, top), (end, bottom), colour, -1)
    mark = pad + round((right - pad) * caption.threshold)
    cv2.line(image, (mark, top - unit // 6), (mark, bottom + unit // 6), _WHITE, max(1, unit // 10))
    if caption.box is not None:
        b = Box(*(value * times for value in caption.box))
        line = max(2, min(height, width) // 200)
        cv2.rectangle(image, (b.left, b.top), (b.left + b.width - 1, b.top + b.height - 1), colour, line)
    return image


def _lighter(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """For letters on a dark ground."""
    return tuple(min(255, value + 70) for value in colour)  # type: ignore[return-value]


class VideoFile:
    """Writes frames into a video at an even rate, each standing as long as it did; renamed when complete.

    Args:
        path: Ends in .mp4 (MPEG-4) or .avi (Motion JPEG).
        rate: Frames per second, above 0.

    Raises:
        UsageError: If the name ends otherwise.
        BddError: If the file cannot be written (raised by the first `write`).
    """

    def __init__(self, path: str | os.PathLike, rate: float) -> None:
        self._path = Path(path)
        check_video_name(self._path)
        self._partial = self._path.with_name(f".{self._path.stem}.{os.getpid()}.tmp{self._path.suffix}")
        self._rate = rate
        self._writer = None
        self._closing = ExitStack()
        self._shape: tuple[int, int] | None = None
        self._written = 0

    def write(self, bgr: np.ndarray, seconds: float) -> None:
        """Add a frame uint8 [H, W, 3], H and W even, which is shown from ``seconds`` on."""
        cv2 = load_cv2("a video")
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*_CODECS[self._path.suffix.lower()])
            self._shape = bgr.shape[:2]
            name = self._closing.enter_context(openable(self._partial))
            self._writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, self._rate, self._shape[::-1])
            if not self._writer.isOpened():
                self.discard()
                raise BddError(
                    f"--save-video: {self._path} cannot be written; does its folder exist, and may you write there?"
                )
        if bgr.shape[:2] != self._shape:  # a video may change its size on the way; a file cannot
            bgr = cv2.resize(bgr, self._shape[::-1])
        due = round(seconds * self._rate) + 1
        for _ in range(min(due - self._written, round(_LONGEST_HOLD * self._rate) + 1)):
            self._writer.write(bgr)
        # Frames that come sooner than the rate are left out; after a hold that was cut the clock goes on.
        self._written = max(due, self._written)

    def close(self) -> None:
        """Finish the file and give it its name; nothing is left if no frame was written."""
        if self._release():
            self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove what was written."""
        self._release()
        self._partial.unlink(missing_ok=True)

    def _release(self) -> bool:
        """Whether there was anything to be finished."""
        if self._writer is None:
            return False
        self._writer.release()
        self._writer = None
        self._closing.close()
        return True


def check_video_name(path: str | os.PathLike) -> None:
    """Refuse names that no codec is known for.

    Raises:
        UsageError: If the suffix is neither .mp4 nor .avi.
    """
    if Path(path).suffix.lower() not in _CODECS:
        raise UsageError(f"--save-video is {str(path)!r}; its name must end in {' or '.join(_CODECS)}.")


class Window:
    """A preview window.

    Args:
        title: Its title, which is its name.

    Raises:
        BddError: If this OpenCV has no windows, or there is no display.
    """

    def __init__(self, title: str) -> None:
        reason = why_no_window()
        if reason:
            raise BddError(f"no window can be shown: {reason}.")
        self._cv2 = load_cv2("a window")
        self._title = title.encode("ascii", "backslashreplace").decode()  # others crash OpenCV
        self._shown = False

    def show(self, bgr: np.ndarray) -> bool:
        """Show a frame uint8 [H, W, 3].

        Returns:
            False when the person closed the window, or pressed q or Esc in it.
        """
        cv2 = self._cv2
        if not self._shown:
            # Without Qt's buttons, and so that a large frame fits the screen.
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            height, width = bgr.shape[:2]
            scale = min(1.0, 1280 / width, 720 / height)
            cv2.resizeWindow(self._title, max(1, round(width * scale)), max(1, round(height * scale)))
        if self._shown and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        cv2.imshow(self._title, bgr)
        self._shown = True
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        """Take the window away."""
        if self._shown:
            self._cv2.destroyWindow(self._title)
            self._shown = False
