"""Names of archives. Apart from `archives`, so that a program that meets none does not import tar and zip."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")


def is_archive(path: Path) -> bool:
    """Return whether a file name is that of a tar or zip archive."""
    return path.name.lower().endswith(SUFFIXES)
