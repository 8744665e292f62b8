"""The one way to open a file that a user names: never a pipe, a socket, a device or a folder, and never waiting."""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import suppress
from typing import BinaryIO, TypeGuard

from bdd_tf.edge.images.errors import ImageError
from bdd_tf.errors import UsageError

MAX_BYTES = 4 * 1024**3
"""Larger files are refused: ``/proc/kcore`` claims to have 128 TiB."""

_PART = 1 << 20
_TEXT = "an image is read from a binary file, and this file is open as text; open it by open(path, 'rb')."

_KINDS = (
    (stat.S_ISDIR, "this is a folder, not an image"),
    (stat.S_ISFIFO, "this is a named pipe, not a regular file"),
    (stat.S_ISSOCK, "this is a socket, not a regular file"),
    (stat.S_ISCHR, "this is a device, not a regular file"),
    (stat.S_ISBLK, "this is a device, not a regular file"),
)


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading.

    The file is opened without blocking and examined afterwards, so that no other file can take its place in between.

    Args:
        path: The file; symbolic links are followed.

    Returns:
        The open binary file. A read that would wait, as of ``/proc/kmsg``, raises `OSError` instead.

    Raises:
        ImageError: If there is no such file, it cannot be opened, or it is a folder, pipe, socket or device.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (creating a Path per image is slow); opening a tape rewinds it
        if stat.S_ISDIR(mode):
            _refuse_unreadable(path)
        _refuse(mode)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            raise ImageError("this symbolic link leads back to itself") from None
        raise ImageError(f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        _refuse(os.fstat(handle).st_mode)
        return open(handle, "rb")  # noqa: PTH123 (a descriptor)
    except BaseException:
        os.close(handle)
        raise


def read_head(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        ImageError: As for `open_regular`, or if the file cannot be read.
    """
    with open_regular(path) as file:
        try:
            return file.read(count) or b""
        except OSError as error:
            raise ImageError(f"the file cannot be read: {error.strerror or error}") from None


def read_all(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        ImageError: As for `open_regular`, or if the file is larger or cannot be read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ImageError(f"the file has more than {limit:,} bytes, which is the limit")
        try:
            return file.read() or b""
        except OSError as error:
            raise ImageError(f"the file cannot be read: {error.strerror or error}") from None


def is_file_object(source: object) -> TypeGuard[BinaryIO]:
    """Return whether an object is an open file, such as `io.BytesIO`."""
    return callable(getattr(source, "read", None))


def read_object(file: BinaryIO) -> bytes:
    """Return the content of an open binary file of at most `MAX_BYTES`, from its beginning if it can seek.

    The file stays open.

    Raises:
        ImageError: If the file is larger, closed, or cannot be read.
        UsageError: If it is open as text.
    """
    parts: list[bytes] = []
    size = 0
    try:
        with suppress(AttributeError, OSError):  # a pipe
            file.seek(0)
        while part := file.read(_PART):
            if isinstance(part, str):
                raise UsageError(_TEXT)
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise ImageError(f"the file has more than {MAX_BYTES:,} bytes, which is the limit")
    except UnicodeDecodeError:
        raise UsageError(_TEXT) from None
    except (OSError, ValueError) as error:
        raise ImageError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return b"".join(parts)


def _refuse_unreadable(folder: str | os.PathLike[str]) -> None:
    """Name the reason why a folder could not be searched, if there is one."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise ImageError(f"this folder cannot be read: {error.strerror or error}") from None


def _refuse(mode: int) -> None:
    for matches, reason in _KINDS:
        if matches(mode):
            raise ImageError(reason)
