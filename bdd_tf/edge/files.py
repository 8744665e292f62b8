"""Writing files that are either complete or not there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bdd_tf.errors import BddError, UsageError


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, which takes its place when the block ends without an error.

    Args:
        path: Where the file is to be.

    Yields:
        An empty file's path, to be written to.

    Raises:
        BddError: If the file cannot be written.
    """
    partial = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}-", suffix=".tmp", delete=False
        ) as file:
            partial = Path(file.name)
        yield partial
        partial.chmod(0o644)  # as other programs' files; temporary ones begin private
        partial.replace(path)
    except OSError as error:
        raise BddError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def check_output(option: str, given: str | None, suffix: str) -> Path | None:
    """Refuse a name that cannot be written, before any work is done for it.

    Args:
        option: That gave it, for the error.
        given: What it gave; None if it was not used.
        suffix: What the name must end in: ``".png"``.

    Returns:
        The path; None if the option was not used.

    Raises:
        UsageError: If the name ends otherwise, its folder does not exist, or it is a folder.
    """
    if given is None:
        return None
    path = Path(given)
    if path.suffix.lower() != suffix:
        raise UsageError(f"{option} is {given!r}; its name must end in {suffix}.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} is {given!r}, but there is no folder {path.parent}.")
    if path.is_dir():
        raise UsageError(f"{option} is {given!r}, which is a folder.")
    return path
