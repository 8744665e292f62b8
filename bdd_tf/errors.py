"""Errors meant for people: the command line prints their text and exits with their code."""


class BddError(Exception):
    """Something could not be done; the message says what was given and what to do. Exit code 1."""

    exit_code = 1


class UsageError(BddError):
    """The request itself is wrong (unknown name, missing path, impossible size). Exit code 2."""

    exit_code = 2


def one_of(kind: str, given: object, possible: list[str] | tuple[str, ...]) -> UsageError:
    """An error that echoes an unknown name and lists the possible ones.

    Args:
        kind: What the name denotes, e.g. ``"backbone"``.
        given: What was received.
        possible: The accepted names.

    Returns:
        The exception, for the caller to raise.
    """
    import difflib

    close = difflib.get_close_matches(str(given), possible, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(f"unknown {kind} {str(given)!r}; possible: {', '.join(possible)}.{hint}")
