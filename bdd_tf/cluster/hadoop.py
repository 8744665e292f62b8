"""File systems that Spark knows (s3a, gs, hdfs, ...), through the JVM of the driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bdd_tf.errors import BddError

T = TypeVar("T")
_SPECIAL = "\\[]{}*?^"


@dataclass(frozen=True)
class Status:
    """A file or folder.

    Attributes:
        path: URI of the file.
        name: Last part of the path.
        is_folder: Whether it is a folder.
        size: Size in bytes.
        modified: Time of its last modification, in milliseconds.
    """

    path: str
    name: str
    is_folder: bool
    size: int
    modified: int


class Hadoop:
    """Access to the file systems of a Spark session.

    Every failure of a file system raises `BddError` with its first line.

    Args:
        spark: The session.
    """

    def __init__(self, spark: Any) -> None:
        self._jvm = spark.sparkContext._jvm
        self._conf = spark.sparkContext._jsc.hadoopConfiguration()

    def glob(self, pattern: str) -> list[Status]:
        """Return what matches a pattern of Hadoop; empty if nothing does."""

        def find() -> list[Status]:
            path, files = self._open(pattern)
            return [_status(found) for found in files.globStatus(path) or ()]

        return _tried(pattern, find)

    def status(self, uri: str) -> Status | None:
        """Return the status of a file or folder; None if there is none."""

        def find() -> Status | None:
            path, files = self._open(uri)
            return _status(files.getFileStatus(path)) if files.exists(path) else None

        return _tried(uri, find)

    def children(self, folder: str) -> list[Status]:
        """Return the files and folders in a folder; empty if there is no such folder."""

        def find() -> list[Status]:
            path, files = self._open(folder)
            return [_status(found) for found in files.listStatus(path)] if files.exists(path) else []

        return _tried(folder, find)

    def read(self, uri: str) -> bytes | None:
        """Return the content of a small file; None if there is none."""

        def read() -> bytes | None:
            path, files = self._open(uri)
            if not files.exists(path):
                return None
            stream = files.open(path)
            try:
                return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
            finally:
                stream.close()

        return _tried(uri, read)

    def write(self, uri: str, content: bytes) -> None:
        """Write a small file."""

        def write() -> None:
            path, files = self._open(uri)
            stream = files.create(path, True)
            try:
                stream.write(bytearray(content))
            finally:
                stream.close()

        _tried(uri, write)

    def remove(self, uri: str) -> None:
        """Remove a file or folder, if it exists."""

        def remove() -> None:
            path, files = self._open(uri)
            files.delete(path, True)

        _tried(uri, remove)

    def move(self, uri: str, target: str) -> None:
        """Rename a file or folder.

        Raises:
            BddError: If the target exists, or the file system refuses.
        """

        def move() -> bool:
            path, files = self._open(uri)
            return bool(files.rename(path, self._path(target)))

        if not _tried(target, move):
            raise BddError(f"{uri} cannot be renamed to {target}; remove what is there, and resume.")

    def _path(self, uri: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(uri)

    def _open(self, uri: str) -> tuple[Any, Any]:
        path = self._path(uri)
        return path, path.getFileSystem(self._conf)


def escaped(path: str) -> str:
    """Return a path for Spark's readers, which take every path for a pattern."""
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in path)


def _status(found: Any) -> Status:
    path = found.getPath()
    return Status(
        path.toString(), path.getName(), found.isDirectory(), found.getLen(), found.getModificationTime()
    )


def _tried(uri: str, work: Callable[[], T]) -> T:
    from py4j.protocol import Py4JJavaError

    try:
        return work()
    except Py4JJavaError as error:
        reason = str(error.java_exception.getMessage() or error.java_exception.getClass().getName())
        raise BddError(
            f"{uri} cannot be used: {reason.splitlines()[0]}; Spark needs the file system's library (--packages of "
            "spark-submit) and the right to use the path."
        ) from None
