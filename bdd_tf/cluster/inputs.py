"""What to score: images in folders, tables of paths, tables with the bytes of images, and tar shards."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdd_tf.cluster.chunks import Entry
from bdd_tf.cluster.hadoop import Hadoop, Status, escaped
from bdd_tf.cluster.worker import local_path
from bdd_tf.edge.images.find import IMAGE_SUFFIXES, Census, find_images
from bdd_tf.errors import BddError, UsageError

IMAGES, CSV, PARQUET, SHARDS = "images", "CSV table", "Parquet table", "tar shards"
PATHS, BYTES = "paths", "bytes"

IMAGES_PER_FILE = 10_000
"""A tar or Parquet file counts as that many images when chunks are made; the real number is known after reading it."""

_REMOTE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip")
_SUFFIX_KIND = {".csv": CSV, ".parquet": PARQUET, ".tar": SHARDS}


@dataclass
class Input:
    """Inputs of one kind.

    Attributes:
        kind: `IMAGES`, `CSV`, `PARQUET` or `SHARDS`.
        paths: Files and folders, patterns expanded; local paths without a scheme.
        remote: Whether they are on a file system that only Spark reads.
        census: Counts what is left out of folders.
    """

    kind: str
    paths: list[str]
    remote: bool
    census: Census = field(default_factory=Census)


def is_remote(path: str) -> bool:
    """Return whether a path has another scheme than ``file:``."""
    return _REMOTE.match(path) is not None


def file_uri(path: str | Path) -> str:
    """Return a local path for Spark. Unlike in other URIs, no character is escaped."""
    return f"file://{Path(path).absolute()}"


def local_input(given: list[str]) -> Input:
    """Find out what is given, of local paths.

    Args:
        given: Files, folders and patterns.

    Raises:
        UsageError: If there is no such path, or they are of several kinds.
    """
    paths: list[str] = []
    for text in given:
        path = local_path(text)
        if any(c in path for c in "*?[") and not os.path.lexists(path):
            found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
            if not found:
                raise UsageError(
                    f"--input {text}: no file matches this pattern; quote it, and check the folder."
                )
            paths += found
        elif not path or not os.path.lexists(path):
            raise UsageError(
                f"--input {text!r}: there is no such file or folder; give images, a folder, a pattern, a table or tar files."
            )
        else:
            paths.append(path)
    return _one_kind([(path, _local_kind(path)) for path in paths], remote=False)


def remote_input(hadoop: Hadoop, given: list[str]) -> Input:
    """Find out what is given, of paths on file systems that Spark knows.

    Args:
        hadoop: Access to the file systems.
        given: URIs and patterns.

    Raises:
        UsageError: As `local_input`.
        BddError: If a file system cannot be used.
    """
    found: list[tuple[str, str]] = []
    for text in given:
        statuses = hadoop.glob(text)
        if not statuses:
            raise UsageError(f"--input {text}: there is nothing; check the path, and the right to list it.")
        found += [(status.path, _remote_kind(hadoop, status)) for status in statuses]
    return _one_kind(found, remote=True)


def _one_kind(found: list[tuple[str, str]], remote: bool) -> Input:
    kinds = {kind: path for path, kind in reversed(found)}
    if len(kinds) > 1:
        examples = ", ".join(f"{kind} ({path})" for kind, path in kinds.items())
        raise UsageError(f"the inputs are of several kinds: {examples}; run `bdd score` once for each.")
    return Input(found[0][1], [path for path, _ in found], remote)


def _file_kind(name: str) -> str | None:
    lower = name.lower()
    if lower.endswith(_PACKED):
        raise UsageError(
            f"{name} is a compressed archive; unpack it, or make tar files (tar -cf), which several workers can read."
        )
    return _SUFFIX_KIND.get(os.path.splitext(lower)[1])  # noqa: PTH122


def _local_kind(path: str) -> str:
    if not os.path.isdir(path):  # noqa: PTH112
        return _file_kind(path) or IMAGES
    try:
        with os.scandir(path) as entries:
            names = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise UsageError(
            f"--input {path} cannot be read: {error.strerror or error}; give a folder that you may read."
        ) from None
    return _folder_kind(names, lambda name: [(inner.name, False) for inner in Path(path, name).iterdir()])


def _remote_kind(hadoop: Hadoop, status: Status) -> str:
    if not status.is_folder:
        return _file_kind(status.name) or IMAGES

    def inner(uri: str) -> list[tuple[str, bool]]:
        return [(child.name, child.is_folder) for child in hadoop.children(uri)]

    return _folder_kind(inner(status.path), lambda name: inner(f"{status.path}/{name}"))


def _folder_kind(names: list[tuple[str, bool]], inside: Any) -> str:
    """Return the kind of a folder: that of its tables or tar files, also those in partitions (``name=value``)."""
    for name, is_folder in names:
        lower = name.lower()
        if not is_folder and lower.endswith((".parquet", ".tar")):
            return _SUFFIX_KIND[os.path.splitext(lower)[1]]  # noqa: PTH122
    for name, is_folder in names:
        if is_folder and "=" in name and any(n.lower().endswith(".parquet") for n, _ in inside(name)):
            return PARQUET
    return IMAGES


def local_images(found: Input) -> Iterator[Entry]:
    """Yield the images in local files and folders, as `bdd detect` finds them."""
    for path in find_images(found.paths, IMAGE_SUFFIXES, found.census.add):
        yield stat_entry(str(path))


def local_files(found: Input) -> Iterator[Entry]:
    """Yield the tar or Parquet files in local files and folders."""
    suffix = ".tar" if found.kind == SHARDS else ".parquet"
    for path in found.paths:
        if os.path.isdir(path):  # noqa: PTH112
            for inner in sorted(Path(path).rglob(f"*{suffix}")):
                if not any(part.startswith((".", "_")) for part in inner.relative_to(path).parts):
                    yield stat_entry(str(inner))
        else:
            yield stat_entry(path)


def stat_entry(path: str, value: str | None = None) -> Entry:
    """Return the entry of a local file; without size and time if it cannot be examined, which its row will report."""
    try:
        status = os.stat(path)  # noqa: PTH116 (one Path per image is slow)
    except (OSError, ValueError):
        return Entry(path, value=value)
    return Entry(path, status.st_size, status.st_mtime_ns, value)


def read_table(spark: Any, found: Input, paths: Iterable[str] | None = None) -> Any:
    """Read a Parquet or CSV table.

    Args:
        spark: The session.
        found: The input.
        paths: Some of its files; None for the whole input.

    Returns:
        The data frame; CSV needs a header, and all of its columns are text.
    """
    files = [
        escaped(file if found.remote else file_uri(file))
        for file in (found.paths if paths is None else paths)
    ]
    if found.kind == CSV:
        return spark.read.option("header", "true").csv(files)
    return (
        spark.read.option("basePath", _base(found)).parquet(*files)
        if _base(found)
        else spark.read.parquet(*files)
    )


def _base(found: Input) -> str | None:
    """The folder below which partitions (``name=value``) become columns, of a single folder."""
    if len(found.paths) != 1 or found.paths[0].lower().endswith(".parquet"):
        return None
    return found.paths[0] if found.remote else file_uri(found.paths[0])


@dataclass(frozen=True)
class Columns:
    """Columns of a table.

    Attributes:
        holds: `PATHS` or `BYTES`.
        source: Column of paths, or expression of the bytes (``image.bytes``).
        name: Of bytes, the column with the name of each image; None if there is none.
    """

    holds: str
    source: str
    name: str | None = None


def columns_of(types: list[tuple[str, str]], given: str | None = None) -> Columns:
    """Find the column of paths or of bytes.

    Args:
        types: Name and Spark type of each column (``DataFrame.dtypes``).
        given: Column that the user named; None to find it.

    Raises:
        UsageError: If there is none, or several.
    """
    by_name = dict(types)
    possible = ", ".join(f"{name} ({kind})" for name, kind in types) or "there are none"
    if given is not None and given not in by_name:
        raise UsageError(f"the table has no column {given!r}; its columns: {possible}.")
    binary = [
        name if kind == "binary" else f"{name}.bytes"
        for name, kind in types
        if (kind == "binary" or (kind.startswith("struct<") and re.search(r"[<,]bytes:binary[,>]", kind)))
        and given in (None, name)
    ]
    if len(binary) == 1:
        return Columns(BYTES, binary[0], "path" if by_name.get("path") == "string" else None)
    text = [name for name, kind in types if kind == "string" and given in (None, name)]
    if not binary and ("path" in text or len(text) == 1):
        name = "path" if "path" in text else text[0]
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
            raise UsageError(
                f"the column of paths is named {name}, like an image: a CSV table needs a header in its first row, such as path."
            )
        return Columns(PATHS, name)
    raise UsageError(
        f"the column of paths (string) or image bytes (binary) is not clear; name it with --column. Columns: {possible}."
    )


def table_paths(rows: Iterable[tuple[Any, Any]], hadoop: Hadoop | None) -> Iterator[Entry]:
    """Yield the entries of a table of paths.

    Args:
        rows: Path, and value of the column by which the output is partitioned.
        hadoop: Access to file systems that only Spark reads; None to take every path for a local one.

    Raises:
        UsageError: If a path is empty.
    """
    for number, (path, value) in enumerate(rows, 1):
        if not path:
            raise UsageError(f"row {number} of the table has no path; remove it.")
        text = None if value is None else str(value)
        if not is_remote(path) or hadoop is None:
            yield stat_entry(local_path(path) if not is_remote(path) else path, text)
            continue
        try:
            status = hadoop.status(path)
        except BddError:
            status = None
        yield (
            Entry(path, value=text)
            if status is None
            else Entry(status.path, status.size, status.modified, text)
        )
