"""Index of a data set's images: size, content hashes and readability, cached between runs."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import PIL

from bdd_tf.console import progress_bar
from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.opening import read_all
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import usable_cores

SPLITS = ("train", "validation", "test")
#: Increase when reading or hashing changes. With Pillow's version it identifies the cached rows that are still valid.
READER = 1
#: Pillow and hashlib release the interpreter lock. Measured on CIFAKE, in files per second: 7,500 with two threads, 5,700
#: with two processes, 4,000 with one process. Larger images leave the lock for longer.
_THREADS = max(2, min(usable_cores(), 16))


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image file.

    Attributes:
        file: The file.
        path: Its name within the data set, with forward slashes.
        label: 0 = REAL, 1 = FAKE.
        split: ``train``, ``validation`` or ``test``; None if the source has no splits.
        source: Generator or camera, for metrics per source; may be empty.
        group: All images of one group go to the same split; None: the image's content is the group.
    """

    file: Path
    path: str
    label: int
    split: str | None = None
    source: str = ""
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and the properties of its file.

    Attributes:
        record: The record.
        file_hash: SHA-256 of the file's bytes, hex.
        pixel_hash: Hash of size and decoded RGB, hex; empty if unreadable.
        width: Pixels; 0 if unreadable.
        height: Pixels; 0 if unreadable.
        error: Reason why it cannot be read; else empty.
    """

    record: Record
    file_hash: str
    pixel_hash: str
    width: int
    height: int
    error: str


def _read(file: Path) -> tuple[str, str, int, int, str]:
    try:
        content = read_all(file)
    except ImageError as error:
        return "", "", 0, 0, str(error)
    file_hash = hashlib.sha256(content).hexdigest()
    try:
        pixels = read_image(content)
    except ImageError as error:
        return file_hash, "", 0, 0, str(error)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}|".encode())
    digest.update(pixels.tobytes())
    return file_hash, digest.hexdigest()[:32], width, height, ""


class _Memo:
    """Cache of earlier results, by path, size, modification and change time."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60)
        self._table = f"files_{READER}_pillow_{''.join(c if c.isalnum() else '_' for c in PIL.__version__)}"
        columns = "path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, file_hash TEXT, pixel_hash TEXT, "
        columns += "width INT, height INT, error TEXT"
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({columns})")

    def load(self, root: str) -> dict[str, tuple]:
        """Return the rows whose path starts with ``root``, by path."""
        rows = self._db.execute(
            f"SELECT * FROM {self._table} WHERE path >= ? AND path < ?", (root, root + "\U0010ffff")
        )
        return {row[0]: row[1:] for row in rows}

    def store(self, rows: list[tuple]) -> None:
        with self._db:
            self._db.executemany(
                f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def close(self) -> None:
        self._db.close()


def _open_memo(cache: Path) -> _Memo:
    path = cache / "index.sqlite"
    try:
        try:
            return _Memo(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # The cache is damaged. It is rebuilt from the files.
            path.unlink()
            return _Memo(path)
    except (OSError, sqlite3.Error) as error:
        raise BddError(
            f"the cache {cache} cannot be written ({error}); set BDD_CACHE to another folder."
        ) from error


def index(records: list[Record], cache: Path) -> list[Entry]:
    """Read every new or changed file and cache the result.

    Args:
        records: The data set's images.
        cache: Folder of the cache; a file is read again if its size or times have changed.

    Returns:
        An entry per record, in order.

    Raises:
        BddError: If the cache cannot be written.
    """
    if not records:
        return []
    names = [os.path.abspath(r.file).encode("utf-8", "backslashreplace").decode() for r in records]  # noqa: PTH100
    memo = _open_memo(cache)
    try:
        known = memo.load(os.path.commonprefix(names))  # noqa: RUF071 (characters are meant)
        found: dict[int, tuple] = {}
        stale: list[tuple[int, tuple[int, int, int]]] = []
        for i, record in enumerate(records):
            try:
                about = os.stat(record.file)  # noqa: PTH116 (half the time of Path.stat, for every file)
            except OSError as error:
                found[i] = ("", "", 0, 0, f"the file cannot be opened: {error.strerror}")
                continue
            state = (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
            row = known.get(names[i])
            if row and row[:3] == state:
                found[i] = row[3:]
            else:
                stale.append((i, state))
        if stale:
            _read_stale(records, names, stale, found, memo)
    except sqlite3.Error as error:
        raise BddError(
            f"{cache / 'index.sqlite'} cannot be used ({error}); remove it, or free its disk."
        ) from error
    finally:
        memo.close()
    return [Entry(record, *found[i]) for i, record in enumerate(records)]


def _read_stale(
    records: list[Record],
    names: list[str],
    stale: list[tuple[int, tuple[int, int, int]]],
    found: dict[int, tuple],
    memo: _Memo,
) -> None:
    bar = progress_bar(len(stale), "file", "indexing", disable=len(stale) < 2000)
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        # Stored in chunks, so that the work of an interrupted run is not repeated.
        for start in range(0, len(stale), 4096):
            chunk = stale[start : start + 4096]
            results = list(pool.map(_read, [records[i].file for i, _ in chunk]))
            found.update((i, result) for (i, _), result in zip(chunk, results, strict=True))
            # Files that could not be opened are not cached: they may become readable without a change.
            memo.store([(names[i], *state, *found[i]) for i, state in chunk if found[i][0]])
            bar.update(len(chunk))


def fingerprint(entries: Iterable[Entry]) -> str:
    """Hash all inputs of prepared data: names, labels, splits, sources and file contents."""
    lines = sorted(
        json.dumps(
            [e.record.path, e.record.label, e.record.split, e.record.source, e.record.group, e.file_hash]
        )
        for e in entries
    )
    digest = hashlib.sha256("\n".join(lines).encode())
    return digest.hexdigest()[:16]


def _position(key: str) -> float:
    """Map a key to a number in [0, 1) by a hash."""
    return (
        int(hashlib.sha256(f"split|{key}".encode("utf-8", "surrogateescape")).hexdigest()[:13], 16) / 16**13
    )


def assign_splits(
    entries: list[Entry], validation_fraction: float = 0.05, train_fraction: float = 1.0
) -> list[Entry]:
    """Assign a split to every readable entry.

    If the source has no splits, 80 / 10 / 10 % of the images go to train, validation and test. If only validation is
    missing, ``validation_fraction`` of train becomes the validation split. The choice depends on a hash of the group, or
    else of the decoded pixels, so duplicates stay together whatever their file names. ``train_fraction`` selects by the
    same hash, so a smaller fraction is a subset of a larger one.

    Args:
        entries: Indexed records.
        validation_fraction: In (0, 1).
        train_fraction: Fraction of the training split that is kept, in (0, 1].

    Returns:
        The readable entries with ``record.split`` set.

    Raises:
        UsageError: If a fraction is out of its range.
    """
    if not 0 < validation_fraction < 1:
        raise UsageError(f"validation_fraction must be in (0, 1); got {validation_fraction}.")
    if not 0 < train_fraction <= 1:
        raise UsageError(f"train_fraction must be in (0, 1]; got {train_fraction}.")
    readable = [e for e in entries if not e.error]
    given = {e.record.split for e in readable}
    result = []
    for entry in readable:
        split = entry.record.split
        position = _position(entry.record.group or entry.pixel_hash)
        low, high = 0.0, 1.0  # hash interval of the training split
        if split is None:
            high = 0.8
            split = "test" if position >= 0.9 else "validation" if position >= high else "train"
        elif split == "train" and "validation" not in given:
            low = validation_fraction
            split = "validation" if position < low else "train"
        if split == "train" and position >= low + train_fraction * (high - low):
            continue
        result.append(replace(entry, record=replace(entry.record, split=split)))
    return result


def counts(entries: Iterable[Entry]) -> dict[str, dict[int, int]]:
    """Count images per split and class: ``{"train": {REAL: n, FAKE: m}, ...}``, with every split and class.

    Args:
        entries: Entries with splits.
    """
    table = {split: {REAL: 0, FAKE: 0} for split in SPLITS}
    for entry in entries:
        table[str(entry.record.split)][entry.record.label] += 1
    return table
