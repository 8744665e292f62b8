"""Inputs of `bdd detect` other than files and folders: standard input, lists, globs, archives, URLs."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, redirect_stderr, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from bdd_tf.datasets.archive_names import is_archive
from bdd_tf.edge.detect.loader import Loaded
from bdd_tf.edge.detect.records import Record
from bdd_tf.edge.detect.urls import is_url, without_password
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD, is_image
from bdd_tf.edge.images.opening import MAX_BYTES, read_all
from bdd_tf.edge.video.formats import begins_like_video
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import is_file

if TYPE_CHECKING:
    from bdd_tf.edge.detect.fetch import Fetcher

#: Control characters that no line of a list holds, among the first bytes of the list.
_BINARY = rb"[\x01-\x08\x0e-\x1f\x7f]"
_EXAMINED = 4096


class Inputs:
    """The paths to score, and the names under which they are reported; to be used in a ``with`` statement.

    Args:
        given: Paths as typed: files, folders, globs, archives, or ``-`` for standard input: the bytes of an image or video, or
            a list of paths.
        from_file: A list of paths; None for none.
        fetcher: Fetches URLs; None to refuse them.

    Attributes:
        paths: Files, folders and URLs.

    Raises:
        UsageError: If a path is empty, a URL without a fetcher, or of another scheme than http and https, or a list cannot be
            read, or standard input is given twice.
    """

    def __init__(
        self, given: list[str], from_file: str | None = None, fetcher: Fetcher | None = None
    ) -> None:
        self._closing = ExitStack()
        self._fetcher = fetcher
        self._shown: list[tuple[str, str]] = []  # beginning of a path, and of its name
        self._fetched: dict[str, str] = {}  # path of a fetched file, and its URL
        self._problems: dict[str, str] = {}  # path of a file that was not fetched, and the reason
        self.paths: list[str] = []
        if given.count("-") + (from_file == "-") > 1:
            twice = "as - and as --from-file -" if from_file == "-" else "as - and as -"
            raise UsageError(
                f"standard input is given twice, {twice}; it can be read once: leave one of them out."
            )
        try:
            for path in given:
                self._add(path)
            if from_file is not None:
                content = _standard_input().read(MAX_BYTES) if from_file == "-" else _content(from_file)
                self._add_list(content, from_file)
        except BaseException:
            self._closing.close()
            raise

    def shown(self, path: str) -> str:
        """Return the name under which a path is reported: inside of its archive, a URL, or ``-``."""
        if path in self._fetched:
            return self._fetched[path]
        for start, name in self._shown:
            if path.startswith(start):
                return name + path[len(start) :]
        return path

    @property
    def temporary(self) -> bool:
        """Whether some inputs are in folders that will be deleted."""
        return bool(self._shown) or any(is_url(path) for path in self.paths)

    def local(self) -> Iterator[str]:
        """Yield `paths`; a URL is fetched when its turn comes, and replaced by the path of the file."""
        for number, path in enumerate(self.paths):
            if self._fetcher is None or not is_url(path):
                yield path
            else:
                yield self._fetch(self._fetcher, path, number)

    def loading(self, load: Callable[[Path], Loaded]) -> Callable[[Path], Loaded]:
        """Return a loader that reports the URLs that could not be fetched, and loads other files with the given one."""

        def loader(path: Path) -> Loaded:
            problem = self._problems.get(str(path))
            return load(path) if problem is None else Loaded(path, error=problem)

        return loader

    def named(self, records: Generator[Record, None, None]) -> Generator[Record, None, None]:
        """Yield records with the names of `shown`; closing this generator closes the given one.

        A fetched file is deleted after its record.
        """
        with closing(records):
            for record in records:
                yield record._replace(path=self.shown(record.path))
                if record.path in self._fetched:
                    with suppress(OSError):
                        Path(record.path).unlink(missing_ok=True)

    def __enter__(self) -> Inputs:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.close()

    def _add(self, path: str) -> None:
        if not path:
            raise UsageError(
                "an input is the empty path ''; give an image, a video or a folder (. is this folder)."
            )
        if path == "-":
            self._add_standard_input()
        elif is_url(path):
            self._add_url(path)
        elif any(c in path for c in "*?[") and not os.path.lexists(path):
            import glob

            found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
            if not found:  # an error of this entry alone
                self._problems[str(Path(path))] = "no file matches this pattern"
            for name in found or [path]:
                self._add_file(name)
        else:
            self._add_file(path)

    def _add_file(self, path: str) -> None:
        """Add a file or folder; an archive is unpacked. A damaged one is an error of its own."""
        if is_file(path) and is_archive(Path(path)):
            try:
                with redirect_stderr(io.StringIO()):  # where it is unpacked is of no interest
                    unpacked = str(_unpack(Path(path), self._folder()))
            except BddError as error:
                self._problems[str(Path(path))] = str(error).removeprefix(f"{path} ").rstrip(".")
            else:
                self._shown.append((unpacked, path))
                path = unpacked
        self.paths.append(path)

    def _add_standard_input(self) -> None:
        content = _standard_input().read(MAX_BYTES)
        if not content:
            raise UsageError("standard input is empty; pipe an image, a video or a list of paths into it.")
        if not is_image_or_video(content[:HEAD]):
            return self._add_list(content, "-")
        file = self._folder() / "standard-input"
        file.write_bytes(content)
        self._shown.append((str(file), "-"))
        self.paths.append(str(file))
        return None

    def _add_list(self, content: bytes, name: str) -> None:
        what = "standard input" if name == "-" else name
        if is_image_or_video(content[:HEAD]):
            raise UsageError(
                f"--from-file {what} is an image or a video, not a list of paths; to score it, give it without --from-file."
            )
        paths = _listed(content)
        if paths is None:
            raise UsageError(f"{what} is neither an image, nor a video, nor a list of paths.")
        if not paths:
            raise UsageError(
                f"{what} lists no paths; write one per line (lines that begin with # are comments)."
            )
        if "" in paths:
            raise UsageError(
                f"{what}: path {paths.index('') + 1} of the list is empty; remove the zero byte before which there is none."
            )
        for path in paths:
            if is_url(path):
                self._add_url(path)
            else:
                self._add_file(path)

    def _add_url(self, url: str) -> None:
        shown = without_password(url)
        if not url.lower().startswith(("http://", "https://")):
            raise UsageError(
                f"{shown} is a URL of another scheme than http and https; download the file first."
            )
        if self._fetcher is None:
            raise UsageError(f"{shown} is a URL, and URLs are not fetched unless --fetch is given.")
        self.paths.append(url)

    def _fetch(self, fetcher: Fetcher, url: str, number: int) -> str:
        """Fetch a file, and unpack an archive; return the path of the file, which is missing if there was a problem."""
        folder = self._fetch_folder / str(number)
        file = folder / _file_name(url)
        self._fetched[str(file)] = without_password(url)
        try:
            folder.mkdir()
            fetcher.fetch(url, file)
            if not is_archive(file):
                return str(file)
            unpacked = str(_unpack(file, folder))
            file.unlink()
        except (ImageError, BddError) as error:
            self._problems[str(file)] = str(error).rstrip(".")
            return str(file)
        self._shown.append((unpacked, url))
        return unpacked

    @cached_property
    def _fetch_folder(self) -> Path:
        return self._folder()

    def _folder(self) -> Path:
        import tempfile

        # After Ctrl-C, a thread may still write the file that it fetches.
        folder = tempfile.TemporaryDirectory(prefix="bdd-", ignore_cleanup_errors=True)
        return Path(self._closing.enter_context(folder))


def _unpack(archive: Path, folder: Path) -> Path:
    from bdd_tf.datasets import archives

    return archives.unpack(archive, folder)


def is_image_or_video(head: bytes) -> bool:
    """Return whether a file is an image or a video, by its first `HEAD` bytes."""
    return is_image(head) or begins_like_video(head)


def _listed(content: bytes) -> list[str] | None:
    """Return the paths of a list: one per line without comments, or each ended by a zero byte; None if it is no text."""
    # Windows' editors and shells begin lists with a byte order mark, and write UTF-16: a zero byte in each letter.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = os.fsencode(content.decode("utf-16", "replace"))
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        # Names are exact here (find -print0) and may hold any other byte. Binary data has runs of zeros.
        if b"\0\0\0" in content or (b"\0\0" in content and re.search(_BINARY, content[:_EXAMINED])):
            return None
        return [os.fsdecode(line) for line in content.removesuffix(b"\0").split(b"\0")]
    if re.search(_BINARY, content[:_EXAMINED]):
        return None
    lines = (line.rstrip(b"\r") for line in content.split(b"\n"))
    return [os.fsdecode(line) for line in lines if line.strip() and not line.startswith(b"#")]


def _file_name(url: str) -> str:
    """Return a name for a fetched file: that of the URL, without characters that are special anywhere."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[-80:] or "fetched"


def _standard_input() -> BinaryIO:
    return cast(BinaryIO, getattr(sys.stdin, "buffer", io.BytesIO()))


def _content(path: str) -> bytes:
    try:
        return read_all(path)
    except ImageError as error:
        raise UsageError(f"--from-file {path}: {error}.") from None
