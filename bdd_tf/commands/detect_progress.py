"""The progress of `bdd detect`: without tqdm, which an installation for detection lacks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from bdd_tf.console import LOG_INTERVAL, has_bars
from bdd_tf.edge.text import visible

#: Seconds before the bar appears, and between two of its pictures.
DELAY, INTERVAL = 0.5, 0.1
_BAR = 20
_ERASE = "\r\x1b[K"


class Progress:
    """Files, rate, and the time left: a bar on the last line of a terminal, else a line now and then.

    Messages are printed in any case.

    Args:
        noun: Name of what is counted, singular.
        quiet: Whether to show nothing.
        count: Counts all files, in a thread, while the first are scored; None if the number is unknown. Without a terminal
            it is called when the first line is due.
        stream: The terminal; None for standard error.
        clock: Returns seconds.
    """

    def __init__(
        self,
        noun: str = "image",
        quiet: bool = False,
        count: Callable[[], Iterable[object]] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bar = not quiet and has_bars(self._stream)
        self._lines = not quiet and not self._bar
        self._noun, self._clock = noun, clock
        self._done = 0
        self._total: int | None = None
        self._visible = self._closed = False
        self._started = self._drawn = clock()
        self._files = count
        if self._bar:
            self._start_count()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        self._erase()

    def step(self) -> None:
        """Count one file."""
        self._done += 1
        now = self._clock()
        if self._lines and now - self._drawn >= LOG_INTERVAL:
            self._start_count()
            print(f"bdd: {self.line(now - self._started)}", file=self._stream, flush=True)
            self._drawn = now
        if not self._bar or now - self._started < DELAY:
            return
        if not self._visible or now - self._drawn >= INTERVAL:
            self._draw(now)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the bar while something else is printed, on the same terminal perhaps."""
        self._erase()
        yield

    def message(self, text: str) -> None:
        """Print one line on standard error without disturbing the bar."""
        with self.aside():
            print(visible(text), file=self._stream, flush=True)

    def _start_count(self) -> None:
        if self._files is not None:
            threading.Thread(target=self._count, args=(self._files,), name="bdd-count", daemon=True).start()
            self._files = None

    def _count(self, count: Callable[[], Iterable[object]]) -> None:
        total = 0
        with suppress(Exception):  # the search that scores reports it
            for _ in count():
                total += 1
                if self._closed:
                    return
            self._total = total

    def _draw(self, now: float) -> None:
        from shutil import get_terminal_size  # imports four kinds of archives

        text = self.line(now - self._started)[: max(get_terminal_size().columns - 1, 10)]
        self._stream.write(f"{_ERASE}{text}")
        self._stream.flush()
        self._drawn, self._visible = now, True

    def _erase(self) -> None:
        if self._visible:
            self._stream.write(_ERASE)
            self._stream.flush()
            self._visible = False

    def line(self, seconds: float) -> str:
        """Return the text of the bar, or of a line, which has none.

        Args:
            seconds: Time since the start.

        Returns:
            Number of files, rate and, as soon as the total is known, share and time left.
        """
        rate = self._done / max(seconds, 1e-9)
        speed = f"{rate:.1f} {self._noun}s/s"
        total = self._total
        if total is None or total < self._done:
            return f"{self._done:,} {self._noun}s  {speed}"
        share = self._done / max(total, 1)
        left = duration((total - self._done) / max(rate, 1e-9))
        text = f"{self._done:,} of {total:,} {self._noun}s  {speed}  {left} left"
        return f"[{('#' * int(share * _BAR)).ljust(_BAR, '-')}] {share:4.0%}  {text}" if self._bar else text


def duration(seconds: float) -> str:
    """Return a time as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
