"""Frames, and the interface of their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

MAX_FRAME_PIXELS = 8192 * 4320
"""Larger frames are refused; a frame of this size (8K) takes 106 MB."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: Index in the file, or among the frames delivered by the camera, from 0; skipped frames count.
        seconds: Time since the start of the video; never decreases from frame to frame.
        bgr: uint8 [H, W, 3], in OpenCV's channel order.
    """

    index: int
    seconds: float
    bgr: NDArray[np.uint8]

    def rgb(self) -> NDArray[np.uint8]:
        """Return the frame as uint8 [H, W, 3], RGB."""
        return np.ascontiguousarray(self.bgr[:, :, ::-1])


class Frames(Protocol):
    """A source of frames.

    Attributes:
        rate: Nominal rate of the frames that are yielded, in frames per second; above 0.
        dropped: Number of frames received so far that were not yielded.
        problem: Reason why the frames ended early, as one sentence; None if there was none.
    """

    rate: float
    dropped: int
    problem: str | None

    def frames(self, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Yield frames until the video ends or ``stopped()`` returns True."""

    def close(self) -> None:
        """Release the file or device."""


def is_valid_frame(image: Any) -> TypeGuard[NDArray[np.uint8]]:
    """Return whether OpenCV delivered a frame: uint8 [H, W, 3], not empty, at most `MAX_FRAME_PIXELS`."""
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and 0 < image.size <= 3 * MAX_FRAME_PIXELS
    )
