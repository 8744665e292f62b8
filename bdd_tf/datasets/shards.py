"""Prepared images as files of records, written by several processes.

The order of a split's records is that of a hash of their names, which is known before any image is read. So each file is a
task of its own: a process reads, resizes and writes one image after another. Files and records do not depend on the number
of processes, no image passes through the main process, and none stays in memory.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bdd_tf.datasets.index import Entry, Record
from bdd_tf.edge.images.decode import load_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import BddError
from bdd_tf.files import usable_cores
from bdd_tf.legacy_keras import tf

import tensorflow_datasets as tfds  # isort: skip

#: Bytes of pixels per file, unless that were more than `_MANY_FILES`; then the files grow up to `_MOST_BYTES`.
_FILE_BYTES, _MANY_FILES, _MOST_BYTES = 16 * 1024**2, 1024, 1024**3
#: Images from which several processes are used by default: below, starting them takes longer than the work.
SEVERAL_FROM = 20_000


@dataclass(frozen=True)
class Task:
    """One file to write.

    Attributes:
        path: The file.
        split: Name of its split.
        entries: Its images, in order.
        rule: The resize rule.
    """

    path: Path
    split: str
    entries: tuple[Entry, ...]
    rule: ResizeRule


def default_processes(images: int) -> int:
    """Return how many processes prepare so many images if the user gives no number."""
    return usable_cores() if images >= SEVERAL_FROM else 1


def features(rule: ResizeRule) -> tfds.features.FeaturesDict:
    """Return the features of a record."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(rule.size, rule.size, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(LABELS)),
            "path": tfds.features.Text(),
            "source": tfds.features.Text(),
            "pixel_hash": tfds.features.Text(),
        }
    )


def stored_path(record: Record) -> str:
    """Return a record's path as stored: bytes that are not UTF-8 are escaped."""
    return record.path.encode("utf-8", "backslashreplace").decode()


def ordered(entries: Sequence[Entry], split: str) -> list[Entry]:
    """Return the images of a split in the order of their records: by a hash, with the classes mixed.

    Raises:
        BddError: If two images have one name.
    """
    salt = hashlib.md5(split.encode(), usedforsecurity=False)

    def key(entry: Entry) -> tuple[bytes, str]:
        # As tensorflow-datasets orders them, so that data prepared by it and by this module agree.
        path, digest = stored_path(entry.record), salt.copy()
        digest.update(path.replace("\\", "/").encode())
        return digest.digest(), path

    keyed = sorted(((key(e), e) for e in entries if e.record.split == split), key=lambda pair: pair[0])
    for (one, entry), (other, _) in pairwise(keyed):
        if one == other:
            raise BddError(f"two images of the {split} split are named {entry.record.path}; rename one.")
    return [entry for _, entry in keyed]


def parts(count: int, rule: ResizeRule) -> list[range]:
    """Divide so many images of a split among its files: contiguous, of almost equal length."""
    total = count * rule.size**2 * 3
    files = max(1, min(_MANY_FILES, -(-total // _FILE_BYTES)), -(-total // _MOST_BYTES))
    files = min(files, max(count, 1))
    return [range(i * count // files, (i + 1) * count // files) for i in range(files)]


def example(entry: Entry, rule: ResizeRule) -> dict:
    """Return the features of an image.

    Raises:
        BddError: If the file was changed, or cannot be scaled.
    """
    from PIL import Image

    record = entry.record
    try:
        content = record.file.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != entry.file_hash:
        # The prepared data would not match their fingerprint.
        raise BddError(f"{record.file} changed while it was being prepared; run the same command again.")
    try:
        pixels = load_image(content, rule)
    except ImageError as error:
        raise BddError(f"{record.file} cannot be prepared: {error}.") from error
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    return {
        "image": png.getvalue(),
        "label": record.label,
        "path": stored_path(record),
        "source": record.source,
        "pixel_hash": entry.pixel_hash,
    }


def write(task: Task, each: Callable[[], object] = lambda: None) -> int:
    """Write one file.

    Args:
        task: The file and its images.
        each: Called after every image.

    Returns:
        Bytes of its records.

    Raises:
        BddError: As for :func:`example`.
        OSError: If the file cannot be written.
    """
    kinds = features(task.rule)
    serializer = tfds.core.example_serializer.ExampleSerializer(kinds.get_serialized_info())
    size = 0
    try:
        with tf.io.TFRecordWriter(str(task.path)) as file:
            for entry in task.entries:
                record = serializer.serialize_example(kinds.encode_example(example(entry, task.rule)))
                file.write(record)
                size += len(record)
                each()
    except tf.errors.OpError as error:
        # Such an error cannot return from another process.
        raise OSError(f"{task.path}: {error.message}") from None
    return size


def write_all(
    tasks: Sequence[Task], processes: int, done: Callable[[int], object] = lambda images: None
) -> list[int]:
    """Write files by several processes.

    Args:
        tasks: The files.
        processes: At least 1; with 1, this process writes them.
        done: Called with a number of further images that are written.

    Returns:
        Bytes of records per file, in the order of the tasks.

    Raises:
        BddError: As for :func:`write`, or if a process is killed; the others are stopped.
        OSError: If a file cannot be written.
    """
    if min(processes, len(tasks)) == 1:
        return [write(task, lambda: done(1)) for task in tasks]
    sizes = [0] * len(tasks)
    try:
        for number, size in _in_processes(tasks, min(processes, len(tasks))):
            sizes[number] = size
            done(len(tasks[number].entries))
    except BrokenProcessPool:
        raise BddError(
            "a process that prepared images was killed, perhaps for want of memory; run the same command again with fewer "
            "processes (bdd data prepare --processes)."
        ) from None
    return sizes


def _in_processes(tasks: Sequence[Task], processes: int) -> Iterator[tuple[int, int]]:
    """Number and size of each file as it is finished."""
    # A fork would copy TensorFlow's locks in whatever state its threads hold them.
    context = multiprocessing.get_context("spawn")
    earlier = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        futures = {pool.submit(write, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BaseException:
        # A file may take minutes.
        for process in set(multiprocessing.active_children()) - earlier:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
