"""Messages for the user at the terminal."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

#: Seconds between two lines of progress if standard error is no terminal, but a log file for example.
LOG_INTERVAL = 30
_BAR_INTERVAL = 0.5
_LINE = "{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt} {unit}, {rate_fmt}{postfix}, {elapsed} elapsed, {remaining} left"


def say(text: str, prefix: str = "") -> None:
    """Print one message on standard error, and flush it.

    Args:
        text: The message.
        prefix: Program or run that reports it, printed in front as ``prefix: text``; empty for none.
    """
    print(f"{prefix}: {text}" if prefix else text, file=sys.stderr, flush=True)


def has_bars(stream: TextIO) -> bool:
    """Return whether a progress bar can be drawn on a stream: whether it is a terminal that can erase a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def progress_bar(total: int, unit: str, desc: str, *, initial: int = 0, disable: bool = False) -> Any:
    """Make a progress bar on standard error: a bar on a terminal, else a line every `LOG_INTERVAL` seconds.

    Args:
        total: Number of things.
        unit: Name of one of them, e.g. ``"img"``.
        desc: What is done with them, in front of the bar.
        initial: Number of them that are done already.
        disable: Whether to draw nothing.

    Returns:
        A `tqdm.tqdm` for a ``with`` statement; its ``update`` counts.
    """
    from tqdm import tqdm

    terminal = has_bars(sys.stderr)
    interval = _BAR_INTERVAL if terminal else LOG_INTERVAL
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=desc,
        disable=disable,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=terminal,
        delay=0 if terminal else 1e-3,  # no line before the first thing
        **({} if terminal else {"file": _Lines(sys.stderr), "bar_format": _LINE}),
    )


class _Lines:
    """A file for tqdm that writes each picture of its bar as a line of its own, without carriage returns."""

    encoding = "utf-8"

    def __init__(self, file: TextIO) -> None:
        self._file, self._last = file, ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:  # tqdm draws the end twice
            self._last = line
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


def option(bdd: str, make: str) -> str:
    """Return an option as the user types it: as in the Makefile if its recipe runs the program, else as in `bdd`.

    The Makefile says so itself: `make` sets MAKELEVEL for every recipe, also for those of other projects that call `bdd`.
    """
    return make if os.environ.get("BDD_MAKE") else bdd
