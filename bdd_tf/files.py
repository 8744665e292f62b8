"""Atomic file writes, checks of paths that a user gave, and the location of the cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bdd_tf.errors import BddError, UsageError

_KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))


def replaced_file(path: Path) -> Path:
    """Return the file that writing to a path replaces: where its symbolic links lead.

    Args:
        path: Path of a file that exists or not.

    Returns:
        The path, or the target of the link, which need not exist.

    Raises:
        UsageError: If there is something else than a regular file: a folder, a pipe, a device.
        OSError: If the path cannot be examined, such as a link to itself.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        kind = next((word for is_kind, word in _KINDS if is_kind(mode)), "device")
        raise UsageError(f"{path} is a {kind}, not a regular file; give the path of a file.")
    return Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114


@contextmanager
def replace_atomically(path: Path, suffix: str = ".tmp", *, follow: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name, then rename it.

    A reader, or a process that is killed in between, leaves either the old file or the complete new one. Of a symbolic
    link the target is replaced. A new file has the permissions of the process's umask; an existing one keeps its own.

    Args:
        path: Final path of the file. Its folder must exist.
        suffix: Suffix of the temporary name, for writers that choose the format by it (``".weights.h5"``).
        follow: False: replace a symbolic link itself. For files whose names no user gave, in folders that others fill.

    Yields:
        Path of an empty temporary file in the same folder. If the block ends without an exception, this file
        replaces ``path``; otherwise it is deleted.

    Raises:
        UsageError: If the path is something else than a regular file.
        OSError: If the folder is not writable, or the rename fails.
    """
    path = Path(path)
    if follow or not os.path.islink(path):  # noqa: PTH114
        path = replaced_file(path)
    old = stat.S_IMODE(path.stat().st_mode) if is_file(path) and not os.path.islink(path) else None  # noqa: PTH114
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}{suffix}")
    # The system applies the umask; reading it would change it for a moment, in all threads.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if old is None else 0o600))
    try:
        yield temporary
        if old is not None:
            temporary.chmod(old)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` with `replace_atomically`; create missing parent folders.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def complete_file(path: Path, suffix: str = ".tmp", *, follow: bool = True) -> Iterator[Path]:
    """`replace_atomically` for output files that a user named: an `OSError` becomes a `BddError`.

    Args:
        path: Final path of the file. Its folder must exist.
        suffix: Suffix of the temporary name.
        follow: As in `replace_atomically`.

    Yields:
        Path of an empty temporary file to write to.

    Raises:
        UsageError: If the path is something else than a regular file.
        BddError: If the file cannot be written.
    """
    try:
        with replace_atomically(path, suffix, follow=follow) as temporary:
            yield temporary
    except OSError as error:
        raise BddError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_output(option: str, given: str | None, suffix: str = "") -> Path | None:
    """Check an output path before any work is done.

    Args:
        option: Option that gave the path, for the error message: ``"--html"``.
        given: Value of the option; None if the option was not used.
        suffix: Required suffix, lower case: ``".png"``; empty if any will do.

    Returns:
        The path; None if the option was not used.

    Raises:
        UsageError: If the suffix differs, the folder does not exist, or the path names a folder, a pipe or a device.
    """
    if given is None:
        return None
    path = Path(given)
    if suffix and path.suffix.lower() != suffix:
        raise UsageError(f"{option} is {given!r}; its name must end in {suffix}.")
    if not is_folder(path.parent):
        raise UsageError(
            f"{option} is {given!r}, but there is no folder {path.parent}; give a file in a folder that exists."
        )
    if is_folder(path):
        raise UsageError(f"{option} is {given!r}, which is a folder; give the path of a file.")
    if given.endswith(("/", os.sep)):
        raise UsageError(f"{option} is {given!r}, which ends like a folder; give the path of a file.")
    if exists(path) and not is_file(path):
        try:
            replaced_file(path)
        except UsageError as error:
            # An output of any suffix is text that standard output would hold.
            hint = "" if suffix else " `> FILE` redirects standard output."
            raise UsageError(f"{option}: {error}{hint}") from None
    return path


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether there is such a file or folder.

    Unlike `Path.exists`, the result is False also for a name that no file can have: too long, or with a zero byte.
    """
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether there is such a regular file; False for impossible names, as in `exists`."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether there is such a folder; False for impossible names, as in `exists`."""
    return os.path.isdir(path)  # noqa: PTH112


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths name one file, which need not exist."""
    if exists(one) and exists(other):
        return Path(one).samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other processes in a ``with`` block, if the system supports file locks.

    Args:
        path: A file for the lock; created with its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Folder for indexes, unpacked archives and prepared data: ``BDD_CACHE``, else ``data/cache`` (relative)."""
    return Path(os.environ.get("BDD_CACHE") or Path("data") / "cache")
