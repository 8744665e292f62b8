"""Errors caused by input or environment: the command line prints their text and exits with their code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence


class BddError(Exception):
    """An operation failed. The message names the input and suggests a remedy. Exit code 1."""

    exit_code = 1


class UsageError(BddError):
    """The request is invalid (unknown name, missing path, value out of range). Exit code 2."""

    exit_code = 2


def exit_code(work: Callable[[], object], prefix: str) -> int:
    """Run a program's work.

    Args:
        work: The work.
        prefix: Name of the program, in front of the message.

    Returns:
        0; after a `BddError`, whose text is printed on standard error, the error's exit code.
    """
    try:
        work()
    except BddError as error:
        print(f"{prefix}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def one_of(kind: str, given: object, possible: Sequence[str]) -> UsageError:
    """Build the error for an unknown name: it repeats the name and lists the possible ones.

    Args:
        kind: Kind of thing that is named, e.g. ``"backbone"``.
        given: The name received.
        possible: The accepted names.

    Returns:
        The exception, for the caller to raise.
    """
    return UsageError(
        f"unknown {kind} {str(given)!r}; possible: {', '.join(possible)}.{did_you_mean(given, possible)}"
    )


def did_you_mean(given: object, possible: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: a question with the most similar name.

    Args:
        given: The name received; upper and lower case are alike.
        possible: The accepted names.

    Returns:
        The question with a space in front; empty if no name is similar.
    """
    import difflib  # here, because only the error path needs it

    by_lower = {name.lower(): name for name in possible}
    close = difflib.get_close_matches(str(given).lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""
