"""The plan of a job: which images belong to which chunk, and which chunks are complete.

It lies in the folder `STATE` of the output, whose name tells Spark's readers to skip it:

- ``job.json``: the model and the options, which a resumed job must share.
- ``chunks/NNNNNN.jsonl.gz``: the entries of a chunk, one JSON array per line.
- ``plan.json``: number of entries by chunk; written last, so that a plan without it is no plan.
- ``done/NNNNNN.json``: written after the rows of a chunk were moved to their place, ``chunk=NNNNNN``.

A chunk is complete if its file in ``done`` exists and all of its entries are still listed with the same size and time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from bdd_tf.cluster.store import Store
from bdd_tf.errors import BddError

STATE = "_bdd"
JOB, PLAN, DONE, CHUNKS, STAGING = (
    f"{STATE}/{n}" for n in ("job.json", "plan.json", "done", "chunks", "staging")
)


class Entry(NamedTuple):
    """An image, or a file with images (tar, Parquet).

    Attributes:
        path: Its path.
        size: Its size in bytes; None if unknown.
        modified: Time of its last modification, in units of its file system; None if unknown.
        value: Value of the column by which the output is partitioned, as text; None without such a column.
    """

    path: str
    size: int | None = None
    modified: int | None = None
    value: str | None = None

    @property
    def key(self) -> bytes:
        """16 bytes that identify the entry."""
        return hashlib.blake2b(self.line(), digest_size=16).digest()

    def line(self) -> bytes:
        """The entry as a line of a chunk's file."""
        return json.dumps(self).encode() + b"\n"


@dataclass
class Planned:
    """Result of `Plan.make`.

    Attributes:
        images: Number of entries in all chunks.
        repeated: Number of entries that were listed more than once, and count once.
        complete: Numbers of the chunks that were complete before.
        outdated: Numbers of the former chunks whose entries have changed; they are replaced.
    """

    images: int = 0
    repeated: int = 0
    complete: tuple[int, ...] = ()
    outdated: tuple[int, ...] = ()


class Plan:
    """Reads and writes the plan of one output.

    Args:
        store: The output.

    Attributes:
        counts: Number of entries by chunk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.counts: dict[int, int] = {}

    def make(self, entries: Iterable[Entry], size: int) -> Planned:
        """Assign entries to chunks, and store the plan. Chunks of a stored plan stay if nothing in them has changed.

        Without any entries, nothing is stored or removed: a folder that is not mounted looks empty.

        Memory grows by about 150 bytes per entry.

        Args:
            entries: All entries; consumed once.
            size: Maximum number of entries of a new chunk.

        Raises:
            BddError: If the stored plan is damaged.
        """
        former = self._former()
        known: dict[bytes, int] = {}  # entry of the former plan: its position
        first: dict[int, int] = {}  # chunk: position of its first entry
        for number in sorted(former):
            first[number] = len(known)
            for entry in self.entries(number):
                known.setdefault(entry.key, len(known))
        listed = bytearray(len(known))
        result = Planned()
        fresh: set[bytes] = set()
        writer = _Writer(self._store, size, 1 + max(former, default=-1))
        for entry in entries:
            key = entry.key
            position = known.get(key)
            if key in fresh or (position is not None and listed[position]):
                result.repeated += 1
            elif position is None:
                fresh.add(key)
                writer.add(entry)
            else:
                listed[position] = 1
        if not fresh and not any(listed):
            return result
        done = set(self._done())
        kept, outdated = {}, []
        for number, count in former.items():
            start = first[number]
            if sum(listed[start : start + count]) == count:
                kept[number] = count
                continue
            outdated.append(number)
            for entry in self.entries(number):
                if listed[known[entry.key]]:
                    writer.add(entry)
        self.counts = kept | writer.close()
        for number in outdated:
            self._forget(number)
        self._store.write(PLAN, json.dumps({"chunks": self.counts}).encode())
        for number in outdated:
            self._store.remove(_chunk(number))
        result.images = sum(self.counts.values())
        result.complete = tuple(sorted(done & set(kept)))
        result.outdated = tuple(outdated)
        return result

    def entries(self, number: int) -> Iterator[Entry]:
        """Yield the entries of a chunk.

        Raises:
            BddError: If its file is missing or damaged.
        """
        content = self._store.read(_chunk(number))
        try:
            for line in gzip.decompress(content or b"").splitlines():
                yield Entry(*json.loads(line))
        except (ValueError, TypeError, OSError, EOFError) as error:
            raise BddError(
                f"{self._store.uri(_chunk(number))} is damaged ({error}); give another --output and start again."
            ) from None

    def pending(self) -> list[int]:
        """Return the numbers of the chunks that are not complete, in order."""
        return sorted(set(self.counts) - set(self._done()))

    def complete(self, number: int, facts: dict[str, Any]) -> None:
        """Record that a chunk is complete.

        Args:
            number: The chunk.
            facts: JSON values about it.
        """
        self._store.write(f"{DONE}/{number:06}.json", json.dumps(facts).encode())

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts about all complete chunks, in order."""
        found = []
        for number in sorted(set(self._done()) & set(self.counts)):
            found.append(json.loads(self._store.read(f"{DONE}/{number:06}.json") or b"{}"))
        return found

    def _former(self) -> dict[int, int]:
        content = self._store.read(PLAN)
        if content is None:
            for number in self._done():
                self._forget(number)
            self._store.remove(CHUNKS)
            return {}
        try:
            return {int(number): int(count) for number, count in json.loads(content)["chunks"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BddError(
                f"{self._store.uri(PLAN)} is damaged; give another --output and start again."
            ) from None

    def _done(self) -> list[int]:
        names = (name.removesuffix(".json") for name in self._store.names(DONE))
        return sorted(int(name) for name in names if name.isdigit())

    def _forget(self, number: int) -> None:
        """Remove the rows of a chunk. The mark goes first, so that no chunk without rows is taken for complete."""
        self._store.remove(f"{DONE}/{number:06}.json")
        self._store.remove(output_folder(number))


class _Writer:
    """Writes the files of new chunks, one after the other."""

    def __init__(self, store: Store, size: int, number: int) -> None:
        self._store, self._size, self._number = store, size, number
        self._lines: list[bytes] = []
        self._counts: dict[int, int] = {}

    def add(self, entry: Entry) -> None:
        self._lines.append(entry.line())
        if len(self._lines) == self._size:
            self._flush()

    def close(self) -> dict[int, int]:
        if self._lines:
            self._flush()
        return self._counts

    def _flush(self) -> None:
        self._store.write(_chunk(self._number), gzip.compress(b"".join(self._lines), 6, mtime=0))
        self._counts[self._number] = len(self._lines)
        self._number, self._lines = self._number + 1, []


def output_folder(number: int) -> str:
    """Return the name of the folder with the rows of a chunk: a partition of the column ``chunk``."""
    return f"chunk={number:06}"


def _chunk(number: int) -> str:
    return f"{CHUNKS}/{number:06}.jsonl.gz"
