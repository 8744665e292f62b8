"""Workers behind a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bdd_tf.service.limits import busy

T = TypeVar("T")


class ClientGone(Exception):
    """Whoever asked has closed the connection."""


class Workers:
    """Threads that work on images, and a queue of bounded length before them.

    Attributes:
        running: Jobs under way.
        waiting: Jobs in the queue.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "bdd-worker")
        self._free = asyncio.Semaphore(workers)
        self._most = workers + queue
        self.running = 0
        self.waiting = 0

    async def run(self, job: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """Do a job when its turn comes.

        Args:
            job: Called in a thread.
            gone: Whether the client has gone; asked when a thread is free.

        Returns:
            What the job returns.

        Raises:
            Refusal: 503, if the queue is full.
            ClientGone: If the client left while it waited.
        """
        if self.running + self.waiting >= self._most:
            raise busy()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            if await gone():
                raise ClientGone
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self.running -= 1
            self._free.release()

    def close(self) -> None:
        """Take no more jobs; those in threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)
