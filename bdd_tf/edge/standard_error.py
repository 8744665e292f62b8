"""Standard error without the lines that native libraries write to it. Standard library only."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator


@contextlib.contextmanager
def without_lines(unwanted: re.Pattern[bytes]) -> Iterator[None]:
    """Remove lines from standard error; all others are printed at the end of the block.

    Not thread-safe: the file descriptor belongs to the whole process.

    Args:
        unwanted: Searched in each line.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    import tempfile  # not needed where standard error is left alone

    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            caught.seek(0)
            for line in caught:
                if not unwanted.search(line):
                    os.write(terminal, line)
            os.close(terminal)
