"""Resource limits of the service, and the errors for requests beyond them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bdd_tf.edge.images.errors import MAX_PIXELS

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits for a single request and for all requests together.

    Attributes:
        upload_bytes: Maximum size of an image file, in bytes.
        request_bytes: Maximum size of all image files of one request together, in bytes.
        images: Maximum number of image files of one request.
        pixels: Maximum number of pixels of an image.
        workers: Maximum number of images decoded and scored at the same time.
        queue: Maximum number of images that wait for a worker.
        buffered_bytes: Maximum memory for all uploads, in bytes, both waiting and still arriving.
        connections: Maximum number of open connections.
        header_seconds: Time limit for the head of a request.
        pause_seconds: Time limit for a pause within an upload, and for a client that does not read its answer.
        upload_seconds: Time limit for a complete upload.
        linger_seconds: Time during which the rest of a refused upload is read and discarded, so that the client
            receives the answer instead of a connection reset.
        shutdown_seconds: Time limit for requests in progress after Ctrl-C.
    """

    upload_bytes: int = 20 * MIB
    request_bytes: int = 64 * MIB
    images: int = 100
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
    """An HTTP error.

    Attributes:
        status: HTTP status.
        sentence: Message for the user: the input, and the possible values or a remedy.
        headers: Additional response headers.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


def busy() -> Refusal:
    """Return the error for a full queue: 503 with a Retry-After header of one second."""
    return Refusal(
        503, "All workers are busy and the queue is full; try again in a second.", {"Retry-After": "1"}
    )


class Buffer:
    """Accounts for the memory of all uploads.

    Args:
        size: Total, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Yield the share of one upload; its bytes are released at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.give(share.held)

    def take(self, count: int) -> None:
        """Reserve ``count`` bytes.

        Raises:
            Refusal: 503, if the buffer is full.
        """
        if count > self._free:
            raise busy()
        self._free -= count

    def give(self, count: int) -> None:
        """Release ``count`` bytes."""
        self._free += count


class Share:
    """Bytes of a `Buffer` that one upload has reserved.

    Attributes:
        held: Number of bytes.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.held = 0

    def take(self, count: int) -> None:
        """Reserve ``count`` more bytes.

        Raises:
            Refusal: 503, if the buffer is full.
        """
        self._buffer.take(count)
        self.held += count

    def give(self, count: int) -> None:
        """Release ``count`` bytes of the share before its end, since they are no longer held.

        Args:
            count: At most ``held``.
        """
        self._buffer.give(count)
        self.held -= count
