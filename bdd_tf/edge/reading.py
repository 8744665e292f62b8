"""Images read, cut and shown small, ahead of the network; memory stays flat."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bdd_tf.edge.crops import Cropper, Views
from bdd_tf.edge.detector import BATCH
from bdd_tf.edge.familiarity import Strangeness, TrainedOn
from bdd_tf.edge.images import ImageError, load_sized, read_image

THUMBNAIL = 192
"""Longer side of a thumbnail, in pixels, at most."""


@dataclass(frozen=True)
class Loaded:
    """A file as far as it is known before the network saw it: an image, a video, or an error.

    Attributes:
        path: As found.
        views: What the network is to see of the image.
        error: Why it cannot be read.
        is_video: Whether it is one; nothing has been read of it then.
        thumbnail: A JPEG, if asked for.
        size: Width and height in pixels of an image that could be read.
        strangeness: What sets it apart from the training images.
    """

    path: Path
    views: Views | None = None
    error: str | None = None
    is_video: bool = False
    thumbnail: bytes | None = None
    size: tuple[int, int] | None = None
    strangeness: Strangeness | None = None


class Reader:
    """Reads a file and cuts it for the network.

    Args:
        cropper: What the network is to see.
        thumbnails: Whether to make them.
        trained_on: What the model was trained on; None: nothing is said to be strange.
    """

    def __init__(
        self, cropper: Cropper, *, thumbnails: bool = False, trained_on: TrainedOn | None = None
    ) -> None:
        self._cropper = cropper
        self._thumbnails = thumbnails
        self._trained_on = trained_on

    def __call__(self, path: Path) -> Loaded:
        """Read one file; what is wrong with it is said in ``error``."""
        from bdd_tf.edge.capture import VIDEO_SUFFIXES, is_video

        if path.suffix.lower() in VIDEO_SUFFIXES:
            return Loaded(path, is_video=True)
        try:
            if self._cropper.how is None and not self._thumbnails:
                seen, size = load_sized(path, self._cropper.rule)
                return Loaded(path, Views(seen[None]), size=size, strangeness=self._strangeness(size, seen))
            image = read_image(path)
            views = self._cropper(image)
        except ImageError as error:
            # Only now is it worth while to look what else the file could be.
            return Loaded(path, is_video=True) if is_video(path) else Loaded(path, error=str(error))
        size = (image.shape[1], image.shape[0])
        # A tile or a face is a part: only its image's size can be compared.
        whole = self._cropper.how in (None, "center")
        strangeness = self._strangeness(size, views.images[0] if whole else None)
        small = thumbnail(image) if self._thumbnails else None
        return Loaded(path, views, thumbnail=small, size=size, strangeness=strangeness)

    def _strangeness(self, size: tuple[int, int], seen: np.ndarray | None) -> Strangeness | None:
        return None if self._trained_on is None else self._trained_on.strangeness(*size, seen)


def thumbnail(image: np.ndarray, strip: Image.Image | None = None) -> bytes:
    """A small JPEG.

    Args:
        image: uint8 [H, W, 3], RGB.
        strip: Put below, as wide as the thumbnail.
    """
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if strip is not None:
        both = Image.new("RGB", (small.width, small.height + strip.height))
        both.paste(small)
        both.paste(strip.resize((small.width, strip.height)), (0, small.height))
        small = both
    with io.BytesIO() as file:
        small.save(file, "jpeg", quality=82)
        return file.getvalue()


def load_ahead(paths: Iterable[Path], read: Callable[[Path], Loaded], most: int) -> Iterator[list[Loaded]]:
    """Batches of whatever has been read meanwhile, at least one file each, so that the first is not late.

    Args:
        paths: Any number; consumed lazily, in a thread.
        read: Called there for each.
        most: Files that may wait.
    """
    loaded: queue.Queue[Loaded | BaseException | None] = queue.Queue(maxsize=most)
    stop = threading.Event()

    def put(item: Loaded | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                return loaded.put(item, timeout=0.1)
        return None

    def run() -> None:
        try:
            for path in paths:
                if stop.is_set():
                    return
                put(read(path))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="bdd-read-ahead", daemon=True)
    thread.start()
    try:
        more = True
        while more:
            batch: list[Loaded] = []
            item = loaded.get()
            while True:
                if item is None:
                    more = False
                    break
                if isinstance(item, BaseException):
                    raise item
                batch.append(item)
                if len(batch) == min(BATCH, most):
                    break
                try:
                    item = loaded.get_nowait()
                except queue.Empty:
                    break
            if batch:
                yield batch
    finally:
        stop.set()
