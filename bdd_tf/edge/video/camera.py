"""Read the latest frame of a camera with OpenCV.

While one frame is scored, the frames that arrive are dropped, so that the displayed frame is always current.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

from bdd_tf.edge.opencv import load_cv2
from bdd_tf.edge.video.frames import Frame, is_valid_frame
from bdd_tf.errors import BddError, UsageError

STALLED = 10.0
"""Seconds without a frame after which a camera is considered disconnected."""


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that `CameraFrames` uses."""

    def read(self) -> tuple[bool, Any]:
        """Return whether a frame was read, and the frame."""

    def get(self, prop: int) -> float:
        """Return a property of the device."""

    def release(self) -> None:
        """Close the device."""


class CameraFrames:
    """Yields the latest frame of a camera each time the consumer is ready.

    A thread reads the camera at full rate and keeps only the latest frame; a frame that was not consumed before the
    next one arrives is dropped.

    Args:
        device: Number of the camera, or path of its device file (``/dev/video2``).
        capture: An open capture to read from; ``device`` then only names the source.
        stalled: Seconds without a frame after which the camera is considered disconnected.

    Raises:
        UsageError: If ``device`` is neither a number nor a device file.
        BddError: If the camera cannot be opened, or OpenCV is not installed.
    """

    def __init__(self, device: str | int, capture: Capture | None = None, stalled: float = STALLED) -> None:
        self.name = f"camera {device}"
        self._capture = _open_camera(device) if capture is None else capture
        self._stalled = stalled
        self.rate = _camera_rate(self._capture)
        self.dropped = 0
        self.problem: str | None = None
        self._latest: Frame | None = None
        self._failure: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grab, name="bdd-camera", daemon=True)

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yield frames; see `bdd_tf.edge.video.frames.Frames`. If the camera fails, ``problem`` holds the reason."""
        self._thread.start()
        waited_since = time.monotonic()
        while not stopped():
            with self._changed:
                if self._latest is None and self._failure is None:
                    self._changed.wait(0.1)
                frame, self._latest = self._latest, None
                failure = self._failure
            if frame is not None:
                yield frame
                waited_since = time.monotonic()
            elif failure is not None:
                self.problem = failure
                return
            elif time.monotonic() - waited_since > self._stalled:
                self.problem = (
                    f"no frame came for {self._stalled:g} s; is the camera used by another program, or stuck?"
                )
                return

    def close(self) -> None:
        """Stop the thread and release the device."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)
        # A blocked driver blocks the thread; releasing the device during the call would crash.
        if not self._thread.is_alive():
            self._capture.release()

    def _grab(self) -> None:
        began = last = time.monotonic()
        index = 0
        try:
            while not self._stop.is_set():
                read, image = self._capture.read()
                now = time.monotonic()
                if read and is_valid_frame(image):
                    with self._changed:
                        self.dropped += self._latest is not None
                        self._latest = Frame(index, now - began, image)
                        self._changed.notify()
                    index, last = index + 1, now
                elif now - last > min(2.0, self._stalled / 2):
                    # Single failures are tolerated; some cameras deliver a few at the start.
                    raise OSError("it stopped delivering frames" if index else "it delivers no frames")
                else:
                    time.sleep(0.02)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            with self._changed:
                self._failure = (
                    f"the camera is gone ({reason}); was it unplugged?"
                    if index
                    else f"the camera was opened, but {reason}; does another program use it?"
                )
                self._changed.notify()


def camera_files() -> list[str]:
    """Return the device files of the cameras on Linux; empty on other systems."""
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
    return cast("Capture", capture)


def _check_device(path: str) -> None:
    """Explain why a camera cannot be opened; only Linux provides the reasons.

    Raises:
        BddError: If the device file is missing, is not a device, or is not accessible.
    """
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
        rate = float(capture.get(load_cv2("a camera").CAP_PROP_FPS))
        if 1 <= rate <= 240:
            return rate
    return 30.0
