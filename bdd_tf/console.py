"""Messages for the user at the terminal."""

from __future__ import annotations

import os
import sys


def say(text: str, prefix: str = "") -> None:
    """Print one message on standard error, and flush it.

    Args:
        text: The message.
        prefix: Program or run that reports it, printed in front as ``prefix: text``; empty for none.
    """
    print(f"{prefix}: {text}" if prefix else text, file=sys.stderr, flush=True)


def option(bdd: str, make: str) -> str:
    """Return an option as the user types it: as in the Makefile if its recipe runs the program, else as in `bdd`.

    The Makefile says so itself: `make` sets MAKELEVEL for every recipe, also for those of other projects that call `bdd`.
    """
    return make if os.environ.get("BDD_MAKE") else bdd
