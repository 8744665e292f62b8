"""Read the frames of video files with OpenCV."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bdd_tf.edge.checks import whole_number
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD
from bdd_tf.edge.images.opening import read_head
from bdd_tf.edge.opencv import load_cv2, openable
from bdd_tf.edge.video.formats import begins_like_video
from bdd_tf.edge.video.frames import MAX_FRAME_PIXELS, Frame, is_valid_frame


class VideoError(ImageError):
    """A video that cannot be read; ``str()`` is one sentence without the path."""


class FileFrames:
    """Yields all frames of a video file, or every N-th.

    Args:
        path: Path of the file.
        every: Yield every N-th frame, at least 1.

    Attributes:
        rate: See `bdd_tf.edge.video.frames.Frames`.
        seconds: Duration according to the file's header; None if the header has no plausible value.

    Raises:
        VideoError: If the file is missing, empty, not a regular file, not a video, or damaged at the start.
        BddError: If OpenCV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        every = whole_number("--every", every, 1)
        _check_file(Path(path))
        self._cv2 = cv2 = load_cv2("a video")
        self._every = every
        self._closing = ExitStack()
        name = self._closing.enter_context(openable(Path(path)))
        self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        self._closing.callback(self._capture.release)
        if not self._capture.isOpened():
            self.close()
            raise VideoError(
                "the video is damaged or truncated, or its codec is unknown here: no frame can be read"
            )
        width, height, rate, count = (
            self._capture.get(p)
            for p in (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_COUNT,
            )
        )
        if width * height > MAX_FRAME_PIXELS:
            self.close()
            raise VideoError(
                f"its frames have {width:.0f}x{height:.0f} pixels, more than the limit of {MAX_FRAME_PIXELS:,}"
            )
        # Damaged headers contain arbitrary values.
        self._native_rate = rate if math.isfinite(rate) and 0.01 <= rate <= 1000 else 25.0
        self.rate: float = self._native_rate / every
        self.seconds = count / self._native_rate if math.isfinite(count) and 0 < count < 1e9 else None
        self.dropped = 0
        self.problem: str | None = None

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yield frames; see `bdd_tf.edge.video.frames.Frames`."""
        index, last = 0, -1.0
        while not stopped():
            # Reading ends at the first failure: OpenCV would continue behind the damage, but may crash.
            if not self._capture.grab():
                self._check_length(index, last)
                return
            seconds = self._seconds(index, last)
            if index % self._every == 0:
                image = self._retrieve()
                if not is_valid_frame(image):
                    self.problem = f"frame {index} cannot be decoded; the score is of the frames before it"
                    return
                yield Frame(index, seconds, image)
            index, last = index + 1, seconds

    def close(self) -> None:
        """Release the file."""
        self._closing.close()

    def _retrieve(self) -> Any:
        try:
            return self._capture.retrieve()[1]
        except self._cv2.error:  # frames of impossible sizes
            return None

    def _seconds(self, index: int, last: float) -> float:
        """Return the frame's time stamp; derive it from the frame rate if it is missing or decreases."""
        seconds: float = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if not math.isfinite(seconds) or (index and seconds <= last) or seconds > last + 3600:
            return 0.0 if index == 0 else last + 1 / self._native_rate
        return max(seconds, 0.0)

    def _check_length(self, read: int, last: float) -> None:
        if read == 0:
            self.problem = "the video is damaged or truncated: no frame can be read"
            return
        reached = last + 1 / self._native_rate
        # The header of an intact file may be slightly wrong too, and its sound may outlast the last frame.
        if self.seconds and self.seconds - reached > max(0.1 * self.seconds, 3 / self._native_rate):
            self.problem = (
                f"the video ends after {reached:.2f} s of the {self.seconds:.2f} s that its header promises "
                "(truncated or damaged); the score is of what could be read"
            )


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError("this is a folder, not a video")
        if not path.exists():
            raise VideoError("no such file")
        head = read_head(path, HEAD)
    except (OSError, ValueError) as error:
        raise VideoError(f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    except ImageError as error:
        raise VideoError(str(error)) from None
    if not head:
        raise VideoError("the file is empty (0 bytes)")
    # This also refuses playlists, from which FFmpeg would open other files and URLs.
    if not begins_like_video(head):
        raise VideoError("not a video in a known format (MP4, MOV, AVI, Matroska, WebM, MPEG, FLV, WMV, Ogg)")
