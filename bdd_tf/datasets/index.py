"""Every image of a data set, read once: size, content hashes, readability; remembered between runs."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bdd_tf.edge.images import ImageError, read_image
from bdd_tf.edge.labels import FAKE, LABELS, REAL

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Record:
    """One labelled image file.

    Attributes:
        file: The file.
        path: Its name within the data set, with forward slashes.
        label: 0 = REAL, 1 = FAKE.
        split: ``train``, ``validation``, ``test``, or None where the source has no splits.
        source: What made it (a generator, a camera), for metrics per source; may be empty.
        group: Images of one group never straddle splits; None: the content is the group.
    """

    file: Path
    path: str
    label: int
    split: str | None = None
    source: str = ""
    group: str | None = None


@dataclass(frozen=True)
class Entry:
    """A record with what reading its file found.

    Attributes:
        record: The record.
        file_hash: SHA-256 of the file's bytes, hex.
        pixel_hash: Hash of size and decoded RGB, hex; empty if unreadable.
        width: Pixels; 0 if unreadable.
        height: Pixels; 0 if unreadable.
        error: Why it cannot be read; empty if it can.
    """

    record: Record
    file_hash: str
    pixel_hash: str
    width: int
    height: int
    error: str


def _read(file: Path) -> tuple[str, str, int, int, str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        return "", "", 0, 0, f"cannot be read ({error.strerror})"
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
    """What earlier runs found, by path, size and modification time."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INT, mtime INT, file_hash TEXT, "
            "pixel_hash TEXT, width INT, height INT, error TEXT)"
        )

    def load(self, root: str) -> dict[str, tuple]:
        rows = self._db.execute("SELECT * FROM files WHERE path >= ? AND path < ?", (root, root + "\U0010ffff"))
        return {row[0]: row[1:] for row in rows}

    def store(self, rows: list[tuple]) -> None:
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._db.close()


def index(records: list[Record], cache: Path) -> list[Entry]:
    """Read every file that is new or changed; remember the result.

    Args:
        records: The data set's images.
        cache: Folder of the memory; a file is read again when its size or modification time changed.

    Returns:
        An entry per record, in order.
    """
    if not records:
        return []
    names = [str(r.file.absolute()).encode("utf-8", "surrogateescape").decode("utf-8", "replace") for r in records]
    memo = _Memo(cache / "index.sqlite")
    try:
        import os

        known = memo.load(os.path.commonprefix(names))
        found: dict[int, tuple] = {}
        stale: list[tuple[int, int, int]] = []
        for i, record in enumerate(records):
            try:
                about = record.file.stat()
            except OSError:
                found[i] = ("", "", 0, 0, "does not exist")
                continue
            row = known.get(names[i])
            if row and row[0] == about.st_size and row[1] == about.st_mtime_ns:
                found[i] = row[2:]
            else:
                stale.append((i, about.st_size, about.st_mtime_ns))
        if stale:
            _index_stale(records, names, stale, found, memo)
    finally:
        memo.close()
    return [Entry(record, *found[i]) for i, record in enumerate(records)]


def _index_stale(
    records: list[Record], names: list[str], stale: list[tuple[int, int, int]], found: dict[int, tuple], memo: _Memo
) -> None:
    from tqdm import tqdm

    bar = tqdm(total=len(stale), unit="file", desc="indexing", disable=len(stale) < 2000 or not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(2) as pool:
        for start in range(0, len(stale), 4096):
            chunk = stale[start : start + 4096]
            results = pool.map(_read, [records[i].file for i, _, _ in chunk])
            rows = []
            for (i, size, mtime), result in zip(chunk, results, strict=True):
                found[i] = result
                rows.append((names[i], size, mtime, *result))
            memo.store(rows)
            bar.update(len(chunk))


def fingerprint(entries: Iterable[Entry]) -> str:
    """Hash of everything that prepared data depend on: names, labels, splits, sources and file contents."""
    lines = sorted(
        f"{e.record.path}|{e.record.label}|{e.record.split}|{e.record.source}|{e.record.group}|{e.file_hash}"
        for e in entries
    )
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:16]


def _position(key: str) -> float:
    """A number in [0, 1) determined by the key."""
    return int(hashlib.sha256(f"split|{key}".encode("utf-8", "surrogateescape")).hexdigest()[:13], 16) / 16**13


def assign_splits(entries: list[Entry], validation_fraction: float = 0.05) -> list[Entry]:
    """Give every readable entry a split.

    Without splits in the source, 80 / 10 / 10 % go to train, validation and test; without a validation
    split, ``validation_fraction`` of train becomes one. The choice hashes the group, or else the decoded
    pixels, so that duplicates stay together, whatever the files are called.

    Args:
        entries: Indexed records.
        validation_fraction: In (0, 1).

    Returns:
        The readable entries with ``record.split`` set.
    """
    readable = [e for e in entries if not e.error]
    given = {e.record.split for e in readable}
    result = []
    for entry in readable:
        split = entry.record.split
        position = _position(entry.record.group or entry.pixel_hash)
        if split is None:
            split = "test" if position >= 0.9 else "validation" if position >= 0.8 else "train"
        elif split == "train" and "validation" not in given and position < validation_fraction:
            split = "validation"
        result.append(replace(entry, record=replace(entry.record, split=split)))
    return result


def counts(entries: Iterable[Entry]) -> dict[str, dict[int, int]]:
    """Images per split and class: ``{"train": {REAL: n, FAKE: m}, ...}``, every split and class present."""
    table = {split: {REAL: 0, FAKE: 0} for split in SPLITS}
    for entry in entries:
        table[entry.record.split][entry.record.label] += 1
    return table


def class_name(label: int) -> str:
    """REAL or FAKE."""
    return LABELS[label]
