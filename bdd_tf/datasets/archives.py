"""Archives from outside, unpacked so that nothing in them can harm the machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from bdd_tf.errors import BddError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
#: What an archive may unpack to: COCOFake, the largest data set known here, stays well below.
MAX_BYTES = 400 * 1024**3
MAX_FILES = 3_000_000
#: Unpacked bytes per packed byte beyond which an archive of images is no archive of images.
MAX_RATIO = 200


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar or zip archive."""
    return path.name.lower().endswith(SUFFIXES)


def _checked_name(name: str, archive: Path) -> PurePosixPath:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and ":" in parts.parts[0]) or "\0" in name:
        raise BddError(f"{archive} was refused: its entry {name!r} would be written outside the target folder.")
    return parts


class _Budget:
    def __init__(self, archive: Path):
        self.archive, self.files, self.bytes = archive, 0, 0
        self.limit = min(MAX_BYTES, max(archive.stat().st_size * MAX_RATIO, 64 * 1024**2))

    def take(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > MAX_FILES or self.bytes > self.limit:
            raise BddError(
                f"{self.archive} was refused: it unpacks to more than {self.limit >> 20} MiB or {MAX_FILES:,} files."
            )


def _write(source, target: Path, budget: _Budget) -> None:  # noqa: ANN001 (binary file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while chunk := source.read(1 << 20):
            # Counted as written, not as declared: a header can lie.
            budget.bytes += len(chunk)
            if budget.bytes > budget.limit:
                budget.take(0)
            out.write(chunk)


def _unpack_tar(archive: Path, target: Path, budget: _Budget) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _checked_name(member.name, archive)
            if member.isdir():
                continue
            if not member.isfile():
                raise BddError(f"{archive} was refused: its entry {member.name!r} is a link or a device.")
            budget.take(0)
            _write(tar.extractfile(member), target / name, budget)


def _unpack_zip(archive: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as pack:
        for member in pack.infolist():
            name = _checked_name(member.filename, archive)
            if member.is_dir():
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BddError(f"{archive} was refused: its entry {member.filename!r} is a link.")
            budget.take(0)
            with pack.open(member) as source:
                _write(source, target / name, budget)


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack an archive once.

    Args:
        archive: A tar (plain, gz, xz, bz2) or zip file.
        cache: Folder under which the unpacked tree is kept while the archive stays unchanged.

    Returns:
        The folder with the archive's content.

    Raises:
        BddError: If the archive is damaged, holds links, devices or paths that lead outside, or unpacks to
            far more than images do. Nothing of it is left behind then.
    """
    about = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{about.st_size}|{about.st_mtime_ns}".encode()).hexdigest()[:16]
    target = cache / "unpacked" / f"{archive.name.split('.')[0]}-{key}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        unpacker = _unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar
        unpacker(archive, partial, _Budget(archive))
        os.replace(partial, target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as e:
        # lzma and zlib errors are among these or below; the archive is at fault, not the program.
        raise BddError(f"{archive} cannot be unpacked: {e}") from e
    except Exception as e:
        if isinstance(e, BddError) or type(e).__module__ not in ("_lzma", "lzma", "zlib"):
            raise
        raise BddError(f"{archive} cannot be unpacked: {e}") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
