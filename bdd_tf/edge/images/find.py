"""Find image files in folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.formats import HEAD, is_image
from bdd_tf.edge.images.opening import read_head
from bdd_tf.files import is_folder

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jif .jfif .jfi .mpo .png .apng .webp .bmp .dib .gif .tif .tiff .avif .heic .heif .hif .jxl".split()
)
"""Lower-case suffixes by which `find_images` recognises images inside a folder, without opening them."""

EXPLANATION_SUFFIX = ".explain.png"
"""Suffix of the heat maps that `bdd detect --explain` writes next to the images."""

HEAT_MAP = "a heat map of --explain"
HIDDEN = "hidden"
REPEATED = "a folder that was searched before, through a link"

LeftOut = Callable[[Path, str], None]
"""Called with each entry of a folder that is not yielded, and the reason, as a noun phrase."""


class Census:
    """Counts what `find_images` leaves out, by reason; pass `add` as its ``left_out``.

    Attributes:
        reasons: Number of entries by reason.
        examples: The first entry by reason.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, Path] = {}

    def add(self, path: Path, reason: str) -> None:
        """Count one entry."""
        self.reasons[reason] += 1
        self.examples.setdefault(reason, path)

    def summary(self) -> str | None:
        """Return one sentence with all reasons, an example for each; None if nothing was left out."""
        if not self.reasons:
            return None
        total = sum(self.reasons.values())
        parts = [
            f"{count} {reason} ({self.examples[reason].name}{', ...' if count > 1 else ''})"
            for reason, count in self.reasons.most_common()
        ]
        return f"{total} {'entry was' if total == 1 else 'entries were'} left out: {'; '.join(parts)}"


def find_images(
    paths: str | Path | Iterable[str | Path],
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
    left_out: LeftOut | None = None,
    recognise: Callable[[bytes], bool] = is_image,
) -> Iterator[Path]:
    """Yield the given files, and the images in the given folders.

    Args:
        paths: One file or folder, or several. A file is yielded whatever its name. A folder is searched recursively in sorted
            order; hidden files and folders, and files that end in `EXPLANATION_SUFFIX`, are skipped. A folder that
            symbolic links reach twice is searched once.
        suffixes: Lower-case suffixes of the files that a folder is searched for.
        left_out: Called with each entry of a folder that was skipped, and the reason.
        recognise: Called with the first `bdd_tf.edge.images.formats.HEAD` bytes of a file with another suffix; the file
            is yielded if the result is true.

    Yields:
        Paths, lazily. Missing files, unreadable folders and links that lead nowhere are yielded too, so that reading them
        reports the error.
    """
    search = _Search(suffixes, left_out or (lambda path, reason: None), recognise)
    for given in (paths,) if isinstance(paths, (str, os.PathLike)) else paths:
        path = Path(given)
        if is_folder(path):
            yield from search.walk(path)
            search.visited.clear()
        else:
            yield path


class _Search:
    def __init__(
        self, suffixes: frozenset[str], left_out: LeftOut, recognise: Callable[[bytes], bool]
    ) -> None:
        self.suffixes, self.left_out, self.recognise = suffixes, left_out, recognise
        self.visited: set[tuple[int, int]] = set()

    def walk(self, folder: Path) -> Iterator[Path]:
        # Not recursive: folders may be nested deeper than Python's stack.
        levels = [self.entries(folder)]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif entry[1]:
                levels.append(self.entries(entry[0]))
            else:
                yield entry[0]

    def entries(self, folder: Path) -> Iterator[tuple[Path, bool]]:
        """Yield the entries of one folder that are not left out, and whether each is a folder to search."""
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in self.visited:
                self.left_out(folder, REPEATED)
                return
            self.visited.add(identity)
            with os.scandir(folder) as entries:
                found = sorted((entry.name, _kind(entry)) for entry in entries)
        except OSError:
            # Like a missing file: the reader reports the reason.
            yield folder, False
            return
        for name, kind in found:
            if name.startswith("."):
                self.left_out(folder / name, HIDDEN)
            elif kind == "folder":
                yield folder / name, True
            elif name.lower().endswith(EXPLANATION_SUFFIX):
                self.left_out(folder / name, HEAT_MAP)
            # A link that leads nowhere is an error of that entry alone.
            elif kind == "broken" or _suffix(name) in self.suffixes:
                yield folder / name, False
            else:
                reason = self.reason_against(folder / name)
                if reason is None:
                    yield folder / name, False
                else:
                    self.left_out(folder / name, reason)

    def reason_against(self, path: Path) -> str | None:
        """Return why a file whose name says nothing is no image; None if its content is one."""
        try:
            head = read_head(path, HEAD)
        except ImageError as error:
            text = str(error)
            return "not a regular file" if "not a regular file" in text else f"not readable ({text})"
        if not head:
            return "empty"
        return None if self.recognise(head) else "of another kind"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (one Path per file is slow)


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file``, or ``broken`` for a link whose target cannot be examined."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_symlink():
            entry.stat()
    except OSError:
        return "broken"
    return "file"
