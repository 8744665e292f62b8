"""How much the service takes on, and the answers for what is more than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bdd_tf.edge.images import MAX_PIXELS

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may cost.

    Attributes:
        upload_bytes: Largest image file.
        pixels: Most pixels of an image.
        workers: Images that are decoded and scored at the same time.
        queue: Images that may wait for a worker.
        buffered_bytes: Uploads held in memory, waiting or still arriving, all together.
        connections: Open connections.
        header_seconds: Within which a request's head must arrive.
        pause_seconds: Longest pause within an upload, and longest wait for a client that does not read.
        upload_seconds: Within which an upload must be complete.
        linger_seconds: How long what is left of a refused upload is read and thrown away, so that its sender reads
            the answer instead of a connection reset.
        shutdown_seconds: How long requests that are under way may take after Ctrl-C.
    """

    upload_bytes: int = 20 * MIB
    pixels: int = MAX_PIXELS
    workers: int = 2
    queue: int = 64
    buffered_bytes: int = 256 * MIB
    connections: int = 512
    header_seconds: float = 10
    pause_seconds: float = 10
    upload_seconds: float = 60
    linger_seconds: float = 2
    shutdown_seconds: float = 10


class Refusal(Exception):
    """An answer that is no result.

    Attributes:
        status: HTTP status.
        sentence: For people: what was given, what is possible.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


def busy() -> Refusal:
    """The polite 503: nothing is wrong, ask again in a second."""
    return Refusal(
        503, "All workers are busy and the queue is full; try again in a second.", {"Retry-After": "1"}
    )


class Buffer:
    """Counts the bytes of all uploads in memory."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One upload's share; given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self._free += share.held

    def _take(self, count: int) -> None:
        if count > self._free:
            raise busy()
        self._free -= count


class Share:
    """What one upload holds of a `Buffer`."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.held = 0

    def take(self, count: int) -> None:
        """Hold ``count`` more bytes.

        Raises:
            Refusal: 503, if uploads fill the buffer.
        """
        self._buffer._take(count)
        self.held += count
