"""The part that runs in Spark's Python workers: one detector each, batches of files, one row per image.

It imports `bdd_tf.edge` and nothing else of the project, so that executors need no TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bdd_tf import __version__
from bdd_tf.cluster.columns import Facts, result_types, row
from bdd_tf.edge.detect.loader import ImageLoader, Loaded
from bdd_tf.edge.detect.score import score_paths
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence import find_evidence
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.find import EXPLANATION_SUFFIX, IMAGE_SUFFIXES
from bdd_tf.edge.images.formats import HEAD, is_image
from bdd_tf.edge.images.opening import open_regular, read_all
from bdd_tf.errors import BddError

LARGEST = 512 * 1024**2
"""Larger files are error rows: workers share the memory of their machine, and Spark moves no larger values."""

ROWS = 256
"""Rows of one batch of results, of inputs whose number of images is not known."""

Frame = Any  # pandas has no types of its own


@dataclass(frozen=True)
class Model:
    """A .tflite file on its way to the executors.

    Attributes:
        name: Name of the file, for messages.
        content: Its bytes.
        evidence: Whether to search the images for evidence of their origin.
    """

    name: str
    content: bytes
    evidence: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes:
        name: Path or name under which it is reported.
        content: Bytes of the file; None if there is an error.
        error: Reason why it could not be read.
    """

    name: str
    content: bytes | None = None
    error: str | None = None


_loaded: dict[str, Detector] = {}  # one entry: the detector of this process


def detector_of(model: Model) -> Detector:
    """Return this process's detector for a model. Spark reuses its Python workers, so that each loads it once."""
    digest = model.digest
    if digest not in _loaded:
        _loaded.clear()
        with tempfile.TemporaryDirectory(prefix="bdd-") as folder:
            path = Path(folder) / (PurePosixPath(model.name).name or "model.tflite")
            path.write_bytes(model.content)
            _loaded[digest] = Detector(path)
    return _loaded[digest]


def rows(model: Model, sources: Iterable[Source]) -> Iterator[dict[str, Any]]:
    """Score images; a thread loads the next ones meanwhile.

    Args:
        model: The model.
        sources: Any number of images; consumed lazily, in a thread.

    Yields:
        One row per image, in order (`bdd_tf.cluster.columns.row`).
    """
    detector = detector_of(model)
    cropper = detector.cropper()
    loader = ImageLoader(cropper, trained_on=detector.trained_on, evidence=model.evidence)
    facts: deque[Facts] = deque()
    current: list[Source] = []

    def names() -> Iterator[Path]:
        for source in sources:
            current[:] = [source]
            yield Path(source.name)

    def load(path: Path) -> Loaded:
        # Called in the thread that consumes `names`, right after each name.
        source = current[0]
        if source.content is None:
            facts.append(Facts(source.name))
            return Loaded(path, error=source.error)
        facts.append(Facts.of(source.name, source.content))
        return loader(path, source.content)

    identity = detector.identity.to_dict()
    for record in score_paths(detector, names(), detector.decide, cropper=cropper, loader=load):
        yield row(record._replace(model=identity), facts.popleft(), evidence=model.evidence)


def score_frames(
    frames: Iterable[Frame],
    model: Model,
    path: str,
    content: str | None,
    keep: list[str],
    folder: str,
) -> Iterator[Frame]:
    """Score the images of data frames, for ``mapInPandas``.

    Args:
        frames: pandas data frames with one row per image.
        model: The model.
        path: Column of paths, text or the bytes of a file name; null if an image has no name.
        content: Column with the bytes of image files; None to read the paths.
        keep: Columns to pass on.
        folder: Folder to which relative paths belong: that of the driver.

    Yields:
        One data frame per given one that is not empty: the columns to keep, then those of `result_types`.
    """
    import pandas

    kept: deque[Frame] = deque()

    def sources() -> Iterator[Source]:
        for frame in frames:
            if len(frame):
                kept.append(frame[keep].reset_index(drop=True))
                contents = [None] * len(frame) if content is None else frame[content]
                for name, data in zip(frame[path], contents, strict=True):
                    yield _read(name, folder) if content is None else _given(name, data)

    found: list[dict[str, Any]] = []
    for values in rows(model, sources()):
        found.append(values)
        if len(found) == len(kept[0]):
            yield pandas.concat([kept.popleft(), _frame(found, model)], axis=1)
            found = []


def score_shards(
    frames: Iterable[Frame], model: Model, path: str, content: str | None, folder: str
) -> Iterator[Frame]:
    """Score the images inside of tar files, for ``mapInPandas``.

    Args:
        frames: pandas data frames with one row per tar file.
        model: The model.
        path: Column of paths, text or the bytes of a file name.
        content: Column with the bytes of the tar files; None to read the paths.
        folder: Folder to which relative paths belong.

    Yields:
        Data frames of at most `ROWS` rows, with the columns of `result_types`.
    """

    def sources() -> Iterator[Source]:
        for frame in frames:
            contents = [None] * len(frame) if content is None else frame[content]
            for name, data in zip(frame[path], contents, strict=True):
                yield from members(_text(name), folder if data is None else io.BytesIO(data))

    found: list[dict[str, Any]] = []
    for values in rows(model, sources()):
        found.append(values)
        if len(found) == ROWS:
            yield _frame(found, model)
            found = []
    if found:
        yield _frame(found, model)


def members(name: str, source: io.BytesIO | str) -> Iterator[Source]:
    """Yield the images inside of a tar file; a damaged one is an error of its own after the images before the damage.

    Args:
        name: Path of the tar file, in front of the names of its images.
        source: The open file, or the folder to which the path is relative.
    """
    try:
        # Uncompressed only: then no header can claim more bytes than the file has.
        with (
            open_regular(os.path.join(source, local_path(name)))  # noqa: PTH118
            if isinstance(source, str)
            else source as opened,
            tarfile.open(fileobj=opened, mode="r:") as tar,
        ):
            for member in tar:
                inner = PurePosixPath(member.name)
                hidden = any(part.startswith(".") and part != "." for part in inner.parts)
                if not member.isreg() or hidden or member.name.lower().endswith(EXPLANATION_SUFFIX):
                    continue
                known = inner.suffix.lower() in IMAGE_SUFFIXES
                shown = f"{name}/{inner}"
                if member.size > LARGEST:
                    if known:
                        yield Source(shown, error=_too_large())
                    continue
                stream = tar.extractfile(member)
                data = b"" if stream is None else stream.read()
                if known or is_image(data[:HEAD]):
                    yield Source(shown, data)
    except ImageError as error:
        yield Source(name, error=str(error))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        yield Source(name, error=f"the tar file is damaged ({error}); images behind the damage are missing")


def check(frames: Iterable[Frame], model: Model, example: str | None) -> Iterator[Frame]:
    """Examine this worker, for ``mapInPandas``: one row with the version of bdd_tf and the first problem, if any.

    Args:
        frames: Data frames whose content is ignored.
        model: The model, which is loaded.
        example: A local path that must exist here; None for none.
    """
    import pandas

    for _ in frames:
        pass
    problem = None
    try:
        detector_of(model)
        if model.evidence:
            find_evidence(b"")
        if example is not None and not os.path.lexists(example):
            problem = f"it has no {example}"
    except BddError as error:
        problem = str(error)
    yield pandas.DataFrame({"version": [__version__], "problem": [problem]}, dtype=object)


def local_path(path: str) -> str:
    """Return a path without the scheme ``file:``.

    Raises:
        ImageError: If it has another scheme.
    """
    if path.startswith("file:"):
        return "/" + path.removeprefix("file:").lstrip("/")
    scheme, separator, _ = path.partition("://")
    if separator and scheme.replace("+", "").isalnum():
        raise ImageError(
            f"{scheme}:// is read by Spark alone: give the bytes, spark.read.format('binaryFile').load(...)"
        )
    return path


def _read(name: Any, folder: str) -> Source:
    if name is None:
        return Source("", error="the path is null")
    text = _text(name)
    try:
        path = local_path(text)
        return Source(str(Path(path)), read_all(os.path.join(folder, path), LARGEST))  # noqa: PTH118
    except ImageError as error:
        return Source(text, error=str(error))


def _given(name: Any, content: Any) -> Source:
    text = "" if name is None else _text(name)
    if content is None or isinstance(content, float):  # pandas' NaN
        return Source(text, error="there are no bytes: the value is null")
    if len(content) > LARGEST:
        return Source(text, error=_too_large())
    return Source(text, bytes(content))


def _too_large() -> str:
    return f"the file has more than {LARGEST:,} bytes, which is the limit"


def _text(name: Any) -> str:
    return name if isinstance(name, str) else os.fsdecode(bytes(name))


def _frame(found: list[dict[str, Any]], model: Model) -> Frame:
    import pandas

    columns = list(result_types(evidence=model.evidence))
    # As objects: pandas would turn whole numbers with nulls between them into floats.
    return pandas.DataFrame(
        [[values[name] for name in columns] for values in found], columns=columns, dtype=object
    )
