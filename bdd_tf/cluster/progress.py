"""Progress and result of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a job.

    Attributes:
        chunks: Complete chunks.
        all_chunks: Number of chunks.
        images: Scored images, an estimate within a chunk.
        all_images: Number of images; of tar files and tables of bytes, that of files.
        resumed: Images among them that were complete at the start.
        seconds: Time since the first chunk of this process was started.
        noun: What is counted.
    """

    chunks: int
    all_chunks: int
    images: int
    all_images: int
    resumed: int
    seconds: float
    noun: str = "image"


@dataclass(frozen=True)
class Summary:
    """Result of a job.

    Attributes:
        images: Number of rows in the whole output.
        verdicts: Number of rows by verdict.
        example: The most frequent error and its number, in the chunks of this process; None if there was none.
        scored: Number of rows that this process wrote.
        seconds: Time for those.
    """

    images: int
    verdicts: dict[str, int]
    example: tuple[str, int] | None
    scored: int
    seconds: float


@contextmanager
def every(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Call a function at intervals, in a thread, until the block ends; its failures end the calls alone."""
    stop = threading.Event()

    def run() -> None:
        try:
            while not stop.wait(seconds):
                work()
        except Exception:  # the job itself reports what is wrong with Spark
            return

    thread = threading.Thread(target=run, name="bdd-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)
