"""Worker threads with a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TypeVar

from bdd_tf.service.limits import busy

T = TypeVar("T")


class ClientGone(Exception):
    """The client has closed the connection."""


class Workers:
    """Worker threads, and a bounded queue of jobs for them.

    Args:
        workers: Number of threads.
        queue: Maximum number of waiting jobs.

    Attributes:
        running: Number of jobs in progress.
        waiting: Number of jobs in the queue.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "bdd-worker")
        self._free = asyncio.Semaphore(workers)
        self._most = workers + queue
        self.running = 0
        self.waiting = 0

    async def run(
        self,
        job: Callable[[], T],
        gone: Callable[[], Awaitable[bool]],
        *,
        admitted: bool = False,
        one_by_one: asyncio.Lock | None = None,
    ) -> T:
        """Run a job in a thread as soon as one is free.

        Args:
            job: Called in a thread.
            gone: Returns whether the client has disconnected; called when a thread is free.
            admitted: Whether the job belongs to a request that has already been admitted: it waits for its turn behind
                the jobs of others, even if the queue is full.
            one_by_one: Lock of long jobs, of which only one at a time may take a thread; None for other jobs.

        Returns:
            The job's return value.

        Raises:
            Refusal: 503, if the queue is full.
            ClientGone: If the client disconnected while the job was waiting.
        """
        if self.running + self.waiting >= self._most and not admitted:
            raise busy()
        async with AsyncExitStack() as stack:
            self.waiting += 1
            try:
                if one_by_one is not None:
                    await stack.enter_async_context(one_by_one)
                await stack.enter_async_context(self._free)
            finally:
                self.waiting -= 1
            self.running += 1
            stack.callback(self._stopped)
            if await gone():
                raise ClientGone
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def _stopped(self) -> None:
        self.running -= 1

    def close(self) -> None:
        """Discard waiting jobs; jobs in progress are not interrupted."""
        self._pool.shutdown(wait=False, cancel_futures=True)
