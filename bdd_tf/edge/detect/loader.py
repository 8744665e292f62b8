"""Load and crop images in a thread, ahead of the network. Memory does not depend on the number of files."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.edge.evidence import Evidence, find_evidence
from bdd_tf.edge.evidence.find import MOST_BYTES
from bdd_tf.edge.images.crops import Cropper, Views
from bdd_tf.edge.images.decode import open_image, read_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD
from bdd_tf.edge.images.opening import read_all
from bdd_tf.edge.images.out_of_distribution import Deviation, TrainingStatistics
from bdd_tf.edge.images.views import ViewRule, size_of
from bdd_tf.edge.stability import views_of_copies
from bdd_tf.edge.video.formats import VIDEO_SUFFIXES, begins_like_video, is_video
from bdd_tf.edge.view_scores import BATCH

THUMBNAIL = 192
"""Maximum length of a thumbnail's longer side, in pixels."""

PREVIEW = 640
"""Maximum length of a preview's longer side, in pixels."""


class Loaded(NamedTuple):
    """A file before it is scored: an image, a video, or an error.

    Attributes:
        path: Path of the file.
        views: Views of the image; None for videos and errors.
        error: Reason why the image cannot be read.
        is_video: Whether the file is a video; its content has not been read.
        thumbnail: JPEG thumbnail, if requested.
        size: Width and height of the image in pixels; None for videos and errors.
        deviation: Deviation from the training images.
        copies: Returns the views of its degraded copies by name (`bdd_tf.edge.stability`); of none unless requested.
        preview: The image, reduced to at most `PREVIEW` pixels, if requested.
        evidence: What the file's metadata says, if requested.
    """

    path: Path
    views: Views | None = None
    error: str | None = None
    is_video: bool = False
    thumbnail: bytes | None = None
    size: tuple[int, int] | None = None
    deviation: Deviation | None = None
    copies: Callable[[], Mapping[str, Views]] = dict
    preview: Image.Image | None = None
    evidence: tuple[Evidence, ...] = ()


class Later:
    """Views that are cut once, by whichever thread asks first: the loader's, or the one that scores."""

    def __init__(self, cut: Callable[[], Mapping[str, Views]]) -> None:
        self._cut: Callable[[], Mapping[str, Views]] | None = cut
        self._found: Mapping[str, Views] = {}
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[str, Views]:
        """Return the views."""
        with self._lock:
            if self._cut is not None:
                self._found, self._cut = self._cut(), None
            return self._found


class ImageLoader:
    """Decodes image files and cuts them into views.

    Args:
        cropper: Cuts the images.
        thumbnails: Whether to make thumbnails.
        trained_on: Statistics for the out-of-distribution check; None to omit the check.
        previews: Whether to make previews, for pictures of explanations.
        check: Whether to cut degraded copies, too.
        evidence: Whether to look for evidence in the file's metadata.
    """

    def __init__(
        self,
        cropper: Cropper,
        *,
        thumbnails: bool = False,
        trained_on: TrainingStatistics | None = None,
        previews: bool = False,
        check: bool = False,
        evidence: bool = False,
    ) -> None:
        self._cropper = cropper
        self._thumbnails = thumbnails
        self._trained_on = trained_on
        self._previews = previews
        self._check = check
        self._evidence = evidence
        # Slices of an array are cheaper than parts of a PIL image if a large share of the pixels is used.
        resized = not isinstance(cropper.rule, ViewRule)
        self._needs_array = resized and (thumbnails or cropper.how is not None)

    def __call__(self, path: Path, content: bytes | None = None) -> Loaded:
        """Load one file; errors are returned in ``error``.

        Args:
            path: The file.
            content: Its bytes, if they were read before; the path is a mere name then.
        """
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return Loaded(path, is_video=True)
        try:
            source = self._source(path) if content is None else content
            image = read_image(source) if self._needs_array else open_image(source)
            views = self._cropper(image)
        except ImageError as error:
            # The content is checked for a video only if the file is not an image, to avoid opening each file twice.
            video = is_video(path) if content is None else begins_like_video(content[:HEAD])
            return Loaded(path, is_video=True) if video else Loaded(path, error=str(error))
        size = size_of(image)
        deviation = self._cropper.check(views, size, self._trained_on)
        evidence = self._found(source, image)
        copies: Callable[[], Mapping[str, Views]] = dict
        if self._check:
            copies = Later(partial(views_of_copies, image, self._cropper))
        if self._previews or self._thumbnails:
            copies()  # the image becomes a preview or thumbnail, which happens in place
        shown = preview(image) if self._previews else None
        small = thumbnail(image) if self._thumbnails else None
        return Loaded(path, views, thumbnail=small, size=size, deviation=deviation, copies=copies, preview=shown,
                      evidence=evidence)  # fmt: skip

    def _source(self, path: Path) -> Path | bytes:
        """What is decoded and walked: the bytes of a file, so that it is read once; of a large one its path."""
        try:
            once = self._evidence and path.stat().st_size <= MOST_BYTES
        except (OSError, ValueError):  # the decoder tells why
            once = False
        return read_all(path) if once else path

    def _found(self, source: Path | bytes, image: Image.Image | NDArray[np.uint8]) -> tuple[Evidence, ...]:
        if not self._evidence:
            return ()
        try:
            return find_evidence(source, image)
        except ImageError:  # the file was removed after it was decoded
            return ()


def preview(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Return a smaller copy of an image; a PIL image in mode RGB is reduced in place first.

    Args:
        image: uint8 [H, W, 3], RGB, or a PIL image in mode RGB.

    Returns:
        At most `PREVIEW` pixels long.
    """
    small = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small.thumbnail((PREVIEW, PREVIEW), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small.copy()


def thumbnail(image: Image.Image | NDArray[np.uint8], strip: Image.Image | None = None) -> bytes:
    """Make a JPEG thumbnail.

    Args:
        image: uint8 [H, W, 3], RGB, or a PIL image in mode RGB, which becomes the thumbnail in place.
        strip: Image to append below, resized to the width of the thumbnail.

    Returns:
        The JPEG file.
    """
    small = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if strip is not None:
        both = Image.new("RGB", (small.width, small.height + strip.height))
        both.paste(small)
        both.paste(strip.resize((small.width, strip.height)), (0, small.height))
        small = both
    with io.BytesIO() as file:
        small.save(file, "jpeg", quality=82)
        return file.getvalue()


def load_ahead(
    paths: Iterable[Path],
    load: Callable[[Path], Loaded],
    most: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[list[Loaded], None, None]:
    """Load files in a thread and yield them in batches.

    A batch holds the files that are loaded when the consumer asks for it, at least one: the first result is not
    delayed until a batch is full.

    Args:
        paths: Any number of files; consumed lazily, in the thread.
        load: Called in the thread for each path.
        most: Maximum number of loaded files that wait for the consumer.
        meanwhile: Called by the consumer while the thread loads the first file.

    Yields:
        Batches of at most `bdd_tf.edge.view_scores.BATCH` files, in order. An exception in the thread is raised here.
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
                item = load(path)
                put(item)
                item.copies()  # while the image itself is scored
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="bdd-load-ahead", daemon=True)
    thread.start()
    try:
        meanwhile()
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
