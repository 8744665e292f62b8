"""Frames of video files and cameras, through OpenCV.

A file gives every frame (or every N-th), however long scoring takes; a camera gives the newest frame there is,
and what came in between is dropped, so that what is shown is never late.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bdd_tf.edge.images import ImageError
from bdd_tf.edge.opencv import load_cv2, openable
from bdd_tf.errors import BddError, UsageError

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".ogv",
        ".3gp",
    }
)
"""Lower-case suffixes by which videos are recognised inside a folder (.ts is TypeScript as often)."""

MAX_FRAME_PIXELS = 8192 * 4320
"""Videos with larger frames are refused (a frame of 8K takes 106 MB)."""

STALLED = 10.0
"""Seconds without a frame after which a camera counts as gone."""

_HEAD = 205  # bytes: as far as the sync byte of a second transport-stream packet
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_MAGIC: tuple[tuple[bytes, int], ...] = (
    (b"AVI ", 8),
    (b"\x1aE\xdf\xa3", 0),  # Matroska, WebM
    (b"\0\0\x01\xba", 0),  # MPEG program stream
    (b"\0\0\x01\xb3", 0),  # MPEG video
    (b"FLV\x01", 0),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0),  # ASF
    (b"OggS", 0),
)
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


class VideoError(ImageError):
    """A video that cannot be read; ``str()`` is one sentence that does not repeat the path."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        index: Of the frame in its file, or of those the camera delivered, from 0; skipped ones count.
        seconds: Since the video's beginning, never falling.
        bgr: uint8 [H, W, 3], in OpenCV's order of colours.
    """

    index: int
    seconds: float
    bgr: np.ndarray

    def rgb(self) -> np.ndarray:
        """The picture as uint8 [H, W, 3], RGB."""
        return np.ascontiguousarray(self.bgr[:, :, ::-1])


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next frame."""

    def release(self) -> None:
        """Close."""


class Frames(Protocol):
    """A source of frames.

    Attributes:
        rate: Frames per second as promised by the source, those that are left out counted out; above 0.
        dropped: Frames so far that came and were not given on.
        problem: Why the frames ended, if not because the video did; None if all is well.
    """

    rate: float
    dropped: int
    problem: str | None

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """The frames, until the video ends or ``stopped()``."""

    def close(self) -> None:
        """Give the device or file back."""


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file begins like a video; False if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return _begins_like_video(file.read(_HEAD))
    except (OSError, ValueError):
        return False


def _begins_like_video(head: bytes) -> bool:
    if head[4:8] in _ATOMS:
        return head[4:8] != b"ftyp" or head[8:12] not in _IMAGE_BRANDS
    # A transport stream, bare or with time stamps.
    if any(head[at : at + 1] == b"G" == head[at + 188 : at + 189] for at in (0, 4)):
        return True
    return any(head[at : at + len(magic)] == magic for magic, at in _MAGIC)


class FileFrames:
    """The frames of a video file, each or every N-th, one after the other.

    Args:
        path: Of the file.
        every: Give on one frame of so many; at least 1.

    Attributes:
        seconds: Length that the file's header promises; None if it says nothing sensible.

    Raises:
        VideoError: If the file is missing, no regular file, empty, no video, or damaged from the start.
        BddError: If OpenCV is not installed.
    """

    def __init__(self, path: str | os.PathLike, every: int = 1) -> None:
        if every < 1:
            raise UsageError(f"--every is {every}; it must be at least 1.")
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
        # Damaged headers promise anything.
        self._native_rate = rate if math.isfinite(rate) and 0.01 <= rate <= 1000 else 25.0
        self.rate = self._native_rate / every
        self.seconds = count / self._native_rate if math.isfinite(count) and 0 < count < 1e9 else None
        self.dropped = 0
        self.problem: str | None = None

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """See `Frames`."""
        index, last = 0, -1.0
        while not stopped():
            # Not to be called again when it failed: past damage OpenCV goes on, but may crash.
            if not self._capture.grab():
                self._check_length(index, last)
                return
            seconds = self._seconds(index, last)
            if index % self._every == 0:
                image = self._retrieve()
                if not _is_picture(image):
                    self.problem = f"frame {index} cannot be decoded; the score is of the frames before it"
                    return
                yield Frame(index, seconds, image)
            index, last = index + 1, seconds

    def close(self) -> None:
        """See `Frames`."""
        self._closing.close()

    def _retrieve(self) -> np.ndarray | None:
        try:
            return self._capture.retrieve()[1]
        except self._cv2.error:  # frames of impossible sizes
            return None

    def _seconds(self, index: int, last: float) -> float:
        """The frame's time stamp; where that is missing or falls, as the frame rate has it."""
        seconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if not math.isfinite(seconds) or (index and seconds <= last) or seconds > last + 3600:
            return 0.0 if index == 0 else last + 1 / self._native_rate
        return max(seconds, 0.0)

    def _check_length(self, read: int, last: float) -> None:
        if read == 0:
            self.problem = "the video is damaged or truncated: no frame can be read"
            return
        reached = last + 1 / self._native_rate
        # Headers are a little off in good files too, and sound may go on after the last frame.
        if self.seconds and self.seconds - reached > max(0.1 * self.seconds, 3 / self._native_rate):
            self.problem = (
                f"the video ends after {reached:.2f} s of the {self.seconds:.2f} s that its header promises "
                "(truncated or damaged); the score is of what could be read"
            )


class CameraFrames:
    """The newest frame of a camera, each time one is asked for.

    A thread reads the camera as fast as it delivers and keeps one frame only: what nobody took when the next
    one comes is dropped.

    Args:
        device: Number of the camera, as text or int, or its device file (``/dev/video2``).
        capture: An opened capture instead (`capture_name` then is all that ``device`` is for).
        stalled: Seconds without a frame after which the camera counts as gone.

    Raises:
        UsageError: If ``device`` names no camera.
        BddError: If it cannot be opened, or OpenCV is not installed.
    """

    def __init__(self, device: str | int, capture: Capture | None = None, stalled: float = STALLED) -> None:
        self.name = f"camera {device}"
        self._capture = _open_camera(device) if capture is None else capture
        self._stalled = stalled
        self.rate = _camera_rate(self._capture)
        self.dropped = 0
        self.problem: str | None = None
        self._newest: Frame | None = None
        self._over: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grab, name="bdd-camera", daemon=True)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """See `Frames`; ends too when the camera is unplugged, with the reason in ``problem``."""
        self._thread.start()
        waited_since = time.monotonic()
        while not stopped():
            with self._changed:
                if self._newest is None and self._over is None:
                    self._changed.wait(0.1)
                frame, self._newest = self._newest, None
                over = self._over
            if frame is not None:
                yield frame
                waited_since = time.monotonic()
            elif over is not None:
                self.problem = over
                return
            elif time.monotonic() - waited_since > self._stalled:
                self.problem = f"no frame came for {self._stalled:g} s; is the camera covered by another program, or stuck?"
                return

    def close(self) -> None:
        """See `Frames`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)
        # A driver that hangs holds its thread; releasing under it would crash.
        if not self._thread.is_alive():
            self._capture.release()

    def _grab(self) -> None:
        began = last = time.monotonic()
        index = 0
        try:
            while not self._stop.is_set():
                read, image = self._capture.read()
                now = time.monotonic()
                if read and _is_picture(image):
                    with self._changed:
                        self.dropped += self._newest is not None
                        self._newest = Frame(index, now - began, image)
                        self._changed.notify()
                    index, last = index + 1, now
                elif now - last > min(2.0, self._stalled / 2):
                    # Single failures pass; some cameras begin with a few.
                    raise OSError("it stopped delivering frames" if index else "it delivers no frames")
                else:
                    time.sleep(0.02)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            with self._changed:
                self._over = (
                    f"the camera is gone ({reason}); was it unplugged?"
                    if index
                    else f"the camera was opened, but {reason}; does another program use it?"
                )
                self._changed.notify()


def camera_files() -> list[str]:
    """The cameras' device files, on Linux; elsewhere nothing can be listed."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def _open_camera(device: str | int) -> Capture:
    text = str(device)
    if not (text.isdecimal() and len(text) < 4) and not text.startswith("/dev/"):
        raise UsageError(
            f"--camera is {text!r}; it must be a camera's number (0 is the first) or its device file "
            "(/dev/video0). Video files are given as a PATH."
        )
    cv2 = load_cv2("a camera")
    source: int | str = int(text) if text.isdecimal() else text
    if sys.platform.startswith("linux"):
        _check_device(f"/dev/video{text}" if text.isdecimal() else text)
        capture = cv2.VideoCapture(source, cv2.CAP_V4L2)
    else:
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        raise BddError(f"camera {text} cannot be opened; is it in use by another program, or not a camera?")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _check_device(path: str) -> None:
    """On Linux it is known why a camera would not open."""
    if not Path(path).exists():
        found = camera_files()
        others = f"there are {', '.join(found)}" if found else "there are no cameras on this machine"
        raise BddError(f"there is no camera {path}; {others}.")
    if not Path(path).is_char_device():
        raise BddError(f"{path} is not a camera, but another kind of file.")
    if not os.access(path, os.R_OK | os.W_OK):
        raise BddError(
            f"no permission to open {path}; on most systems: sudo usermod -aG video $USER, then log in again."
        )


def _camera_rate(capture: Capture) -> float:
    with suppress(Exception):
        rate = float(capture.get(load_cv2("a camera").CAP_PROP_FPS))  # type: ignore[attr-defined]
        if 1 <= rate <= 240:
            return rate
    return 30.0


def _is_picture(image: Any) -> bool:
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and 0 < image.size <= 3 * MAX_FRAME_PIXELS
    )


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError("this is a folder, not a video")
        if not path.exists():
            raise VideoError("no such file")
        # A named pipe would wait for ever, and some devices never end.
        if not path.is_file():
            raise VideoError("this is not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError) as error:
        raise VideoError(f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not head:
        raise VideoError("the file is empty (0 bytes)")
    # Playlists, which FFmpeg would follow to other files and addresses, end here.
    if not _begins_like_video(head):
        raise VideoError("not a video in a known format (MP4, MOV, AVI, Matroska, WebM, MPEG, FLV, WMV, Ogg)")
