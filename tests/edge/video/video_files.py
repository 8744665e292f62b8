"""Small videos, and things that score by brightness or act like a camera."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np

from bdd_tf.edge.images.resize import ResizeRule

RATE = 30
CODECS = {".avi": "FFV1", ".mp4": "mp4v"}


def write_video(path: Path, frames, codec: str | None = None) -> Path:
    """RGB frames uint8 [H, W, 3] as a video of 30 frames/s; .avi is lossless."""
    frames = list(frames)
    code = cv2.VideoWriter_fourcc(*(codec or CODECS[path.suffix]))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, RATE, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def plain(value: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


class Brightness:
    """A detector whose probability is an image's mean brightness."""

    def __init__(self, size: int = 8, threshold: float = 0.5):
        self.resize = ResizeRule.native(size)
        self.threshold = threshold

    def prepare(self):
        pass

    def predict_batch(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (self.resize.size, self.resize.size, 3)
        return images.mean((1, 2, 3)).astype(np.float32) / 255


class StandInCamera:
    """Delivers numbered frames (every pixel of frame i is i modulo 256), one every ``interval`` seconds."""

    def __init__(self, interval: float = 0.005, frames: int | None = None, then=None):
        self.interval = interval
        self.frames = frames
        self.then = then
        self.grabbed = 0
        self.released = threading.Event()
        self.free = threading.Event()

    def get(self, _property):
        return 1 / self.interval

    def read(self):
        assert not self.released.is_set(), "read after release"
        time.sleep(self.interval)
        if self.frames is not None and self.grabbed >= self.frames:
            if self.then == "hang":
                self.free.wait(20)
                return False, None
            if self.then == "raise":
                raise cv2.error("the driver is upset")
            return False, None
        frame = plain(self.grabbed % 256, 8, 8)
        self.grabbed += 1
        return True, frame

    def release(self):
        self.released.set()
