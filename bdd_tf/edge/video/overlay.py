"""Draw the verdict on a video's frames, and show them in a window or write them to a video file."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.edge.opencv import load_cv2, openable, why_no_window
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import complete_file

SMALLEST_SIDE = 240
"""Frames with a shorter side below this are enlarged by an integer factor, so that the text fits."""

_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_LONGEST_HOLD = 10  # seconds; maximum duration of one frame in a written video, whatever its time stamps say
_Colour = tuple[int, int, int]
# In OpenCV's channel order, BGR.
_RED: _Colour = (43, 57, 192)
_GREEN: _Colour = (98, 127, 42)
_GREY: _Colour = (150, 150, 150)
_WHITE: _Colour = (255, 255, 255)
_PANEL = 30  # grey level of the panel behind the text


@dataclass(frozen=True)
class Caption:
    """Values to draw on a frame.

    Attributes:
        verdict: Verdict on the smoothed score; None before the first score.
        probability: Smoothed score, in [0, 1]; None before the first score.
        raw: Score of this frame alone; None if there was nothing to score.
        threshold: Decision threshold, in [0, 1].
        seconds: Time of the frame in the video.
        rate: Frames scored per second.
        box: Part of the frame to outline.
        note: How the frame differs from the training images, drawn at the lower edge; None if it does not.
    """

    verdict: str | None
    probability: float | None
    raw: float | None
    threshold: float
    seconds: float
    rate: float
    box: Box | None = None
    note: str | None = None


def draw(bgr: NDArray[np.uint8], caption: Caption) -> NDArray[np.uint8]:
    """Draw a caption on a copy of a frame: verdict, score as number and bar, time, and frames per second.

    Args:
        bgr: uint8 [H, W, 3]; not modified.
        caption: The values to draw.

    Returns:
        uint8 [H', W', 3], BGR, with H' and W' even, as codecs require. Small frames are enlarged by an integer factor;
        an odd last row or column is removed.
    """
    image, times = _enlarged(bgr)
    colour = {LABELS[FAKE]: _RED, LABELS[REAL]: _GREEN}.get(caption.verdict or "", _GREY)
    _draw_panel(image, caption, colour)
    if caption.note is not None:
        _draw_note(image, f"unreliable: {caption.note}")
    if caption.box is not None:
        height, width = image.shape[:2]
        b = Box(*(value * times for value in caption.box))
        line = max(2, min(height, width) // 200)
        corner = (b.left + b.width - 1, b.top + b.height - 1)
        load_cv2("a video").rectangle(image, (b.left, b.top), corner, colour, line)
    return image


def _enlarged(bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Return a copy with even sides, and the factor by which it is larger."""
    height, width = bgr.shape[:2]
    wanted = min(-(-SMALLEST_SIDE // min(height, width)), 4096 // max(height, width))
    # Very thin frames remain thin, since their longer side would become huge, but need at least two pixels.
    times = max(wanted, 2 if min(height, width) == 1 else 1)
    image = np.repeat(np.repeat(bgr, times, 0), times, 1)
    height, width = (side - side % 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width]), times


def _draw_panel(image: NDArray[np.uint8], caption: Caption, colour: _Colour) -> None:
    """Darken the upper part of the image and draw text and score bar on it."""
    cv2 = load_cv2("a video")
    height, width = image.shape[:2]
    unit = max(10, min(width // 48, height // 22))  # px: height of a letter
    panel = min(height, round(3.4 * unit))
    image[:panel] = image[:panel] // 4 + np.uint8(0.75 * _PANEL)
    scale = unit / 22

    def text(words: str, x: int, y: float, size: float, tint: _Colour) -> None:
        thickness = max(1, round(2 * size * scale))
        font = cv2.FONT_HERSHEY_SIMPLEX
        if x < 0:  # from the right edge
            x += width - cv2.getTextSize(words, font, size * scale, thickness)[0][0]
        cv2.putText(image, words, (x, round(y)), font, size * scale, tint, thickness, cv2.LINE_AA)

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


def _draw_note(image: NDArray[np.uint8], note: str) -> None:
    """Darken the lower edge and write on it, in letters small enough for the width."""
    cv2 = load_cv2("a video")
    height, width = image.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, height // 480)
    (length, letters), below = cv2.getTextSize(note, font, 1.0, thickness)
    scale = min(max(10, height // 30) / letters, 0.96 * width / length)
    strip = min(height, round(scale * (letters + 2 * below)) + 4)
    image[height - strip :] = image[height - strip :] // 4 + np.uint8(0.75 * _PANEL)
    where = (round(0.02 * width), height - round(scale * below) - 2)
    cv2.putText(image, note, where, font, scale, _WHITE, thickness, cv2.LINE_AA)


def _lighter(colour: _Colour) -> _Colour:
    """Return a lighter colour, for text on the dark panel."""
    blue, green, red = (min(255, value + 70) for value in colour)
    return blue, green, red


class VideoFile:
    """Writes frames to a video file with a constant frame rate; the file appears when it is complete.

    Each frame is repeated or skipped according to its time stamp.

    Args:
        path: Path that ends in .mp4 (MPEG-4) or .avi (Motion JPEG).
        rate: Frames per second, above 0.

    Raises:
        UsageError: If the path has another suffix.
        BddError: If the file cannot be written (raised by the first `write`).
    """

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        self._path = Path(path)
        check_video_name(self._path)
        self._rate = rate
        self._writer: Any = None
        self._closing = ExitStack()
        self._size = (0, 0)
        self._written = 0

    def write(self, bgr: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame.

        Args:
            bgr: uint8 [H, W, 3], BGR, H and W even. Frames of another size than the first are resized.
            seconds: Time from which on the frame is shown.
        """
        cv2 = load_cv2("a video")
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*_CODECS[self._path.suffix.lower()])
            self._size = bgr.shape[1], bgr.shape[0]
            partial = self._closing.enter_context(complete_file(self._path, self._path.suffix))
            name = self._closing.enter_context(openable(partial))
            self._writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, self._rate, self._size)
            if not self._writer.isOpened():
                self.discard()
                raise BddError(
                    f"--save-video: OpenCV cannot write {self._path}; try the other suffix, .mp4 or .avi."
                )
        if (bgr.shape[1], bgr.shape[0]) != self._size:  # a stream may change its frame size; a file cannot
            bgr = cv2.resize(bgr, self._size)
        due = round(seconds * self._rate) + 1
        for _ in range(min(due - self._written, round(_LONGEST_HOLD * self._rate) + 1)):
            self._writer.write(bgr)
        # Frames that are closer than the frame interval are skipped. Time advances by the whole gap, even where the
        # repetition of a frame was limited.
        self._written = max(due, self._written)

    def close(self) -> None:
        """Finish the file and rename it; if no frame was written, no file is left."""
        self._release()
        self._closing.close()

    def discard(self) -> None:
        """Delete the incomplete file."""
        self._release()
        with suppress(_Discarded), self._closing:
            raise _Discarded

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


class _Discarded(Exception):
    """Ends the writing of a file that shall not appear."""


def check_video_name(path: str | os.PathLike[str]) -> None:
    """Refuse an output path without a known codec.

    Raises:
        UsageError: If the suffix is neither .mp4 nor .avi.
    """
    if Path(path).suffix.lower() not in _CODECS:
        raise UsageError(f"--save-video is {str(path)!r}; its name must end in {' or '.join(_CODECS)}.")


class Window:
    """A preview window, opened by the first frame.

    Args:
        title: Title of the window.

    Raises:
        BddError: If this build of OpenCV has no windows, or there is no display.
    """

    def __init__(self, title: str) -> None:
        reason = why_no_window()
        if reason:
            raise BddError(f"no window can be shown: {reason}.")
        self._cv2 = load_cv2("a window")
        self._title = title.encode("ascii", "backslashreplace").decode()  # OpenCV crashes on other characters
        self._shown = False

    def show(self, bgr: NDArray[np.uint8]) -> bool:
        """Show a frame.

        Args:
            bgr: uint8 [H, W, 3], BGR.

        Returns:
            False if the user closed the window, or pressed q or Esc in it.
        """
        cv2 = self._cv2
        if not self._shown:
            # Hide Qt's toolbar, and scale large frames down to fit the screen.
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
        """Close the window."""
        if self._shown:
            self._cv2.destroyWindow(self._title)
            self._shown = False
