"""The output folder: small files of the plan, and the folders that Spark writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from bdd_tf.errors import BddError
from bdd_tf.files import write_atomically


class Store(Protocol):
    """A folder on some file system. Names are relative to it, with slashes."""

    def uri(self, name: str = "") -> str:
        """Return a path that Spark understands."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file; a process that is killed leaves the old file, or the complete new one."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder, sorted; empty if there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it exists."""

    def move(self, name: str, target: str) -> None:
        """Move a folder to a name that does not exist."""

    def locked(self) -> AbstractContextManager[None]:
        """Let no other process write to this folder within a block, as far as the file system allows.

        Raises:
            BddError: If one does.
        """


class LocalStore:
    """A folder of this machine, or one that is mounted on all machines.

    Args:
        folder: The folder, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def uri(self, name: str = "") -> str:
        """See `Store`."""
        return f"file://{self._folder / name}"  # Spark's paths have no escapes

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(self._folder / name, "read", error) from None

    def write(self, name: str, content: bytes) -> None:
        """See `Store`."""
        try:
            write_atomically(self._folder / name, content)
        except OSError as error:
            raise _failed(self._folder / name, "written", error) from None

    def names(self, folder: str = "") -> list[str]:
        """See `Store`."""
        try:
            return sorted(path.name for path in (self._folder / folder).iterdir())
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise BddError(
                f"{self._folder} is a file, or below one; give the name of a new --output folder."
            ) from None
        except OSError as error:
            raise _failed(self._folder / folder, "read", error) from None

    def remove(self, name: str) -> None:
        """See `Store`."""
        path = self._folder / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(path, "removed", error) from None

    def move(self, name: str, target: str) -> None:
        """See `Store`."""
        try:
            (self._folder / name).rename(self._folder / target)
        except OSError as error:
            raise _failed(self._folder / target, "written", error) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Store`. The system frees the lock of a process that ends."""
        handle = self._lock()
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _lock(self) -> int | None:
        try:
            import fcntl
        except ImportError:  # Windows
            return None
        path = self._folder / "_bdd" / "lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise _failed(path, "written", error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BddError(
                f"another `bdd score` writes to {self._folder}; wait for it, or give another --output."
            ) from None
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        return handle


class HadoopStore:
    """A folder on a file system that Spark knows: s3a, gs, hdfs.

    There is no lock, and `move` is atomic only where the file system's rename is; a chunk counts as complete after it.

    Args:
        hadoop: Access to the file systems.
        folder: URI of the folder.
    """

    def __init__(self, hadoop: Any, folder: str) -> None:
        self._hadoop, self._folder = hadoop, folder.rstrip("/")

    def uri(self, name: str = "") -> str:
        """See `Store`."""
        return f"{self._folder}/{name}" if name else self._folder

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        content: bytes | None = self._hadoop.read(self.uri(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """See `Store`."""
        temporary = f"{self.uri(name)}.tmp"
        self._hadoop.write(temporary, content)
        self._hadoop.remove(self.uri(name))
        self._hadoop.move(temporary, self.uri(name))

    def names(self, folder: str = "") -> list[str]:
        """See `Store`."""
        return sorted(found.name for found in self._hadoop.children(self.uri(folder)))

    def remove(self, name: str) -> None:
        """See `Store`."""
        self._hadoop.remove(self.uri(name))

    def move(self, name: str, target: str) -> None:
        """See `Store`."""
        self._hadoop.move(self.uri(name), self.uri(target))

    def locked(self) -> AbstractContextManager[None]:
        """See `Store`."""
        return nullcontext()


def _failed(path: Path, what: str, error: OSError) -> BddError:
    return BddError(
        f"{path} cannot be {what}: {error.strerror or error}; give an --output folder that you may write to."
    )
