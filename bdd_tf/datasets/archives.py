"""Unpack untrusted archives: no paths outside the target, no links or devices, no decompression bombs."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from bdd_tf.errors import BddError

#: Limits of the unpacked size. COCOFake, the largest supported data set, is well below them.
MAX_BYTES = 400 * 1024**3
MAX_FILES = 3_000_000
#: Limits for archives of images: unpacked bytes per packed byte, and packed bytes per file (CIFAKE's tiny images take 300
#: packed bytes each). They do not apply to small archives, below the floors.
MAX_RATIO, MIN_BYTES_PER_FILE = 200, 64
FLOOR_BYTES, FLOOR_FILES = 64 * 1024**2, 20_000


def _checked_name(name: str, archive: Path) -> PurePosixPath:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and ":" in parts.parts[0]) or "\0" in name:
        raise BddError(
            f"{archive} was refused: its entry {name!r} would be written outside the target folder."
        )
    return parts


class _Budget:
    """The remaining size that an archive may unpack to. Counts written bytes, because a header can declare a wrong size."""

    def __init__(self, archive: Path):
        size = archive.stat().st_size
        self.archive, self.files, self.bytes = archive, 0, 0
        self.max_bytes = min(MAX_BYTES, max(size * MAX_RATIO, FLOOR_BYTES))
        self.max_files = min(MAX_FILES, max(size // MIN_BYTES_PER_FILE, FLOOR_FILES))

    def take(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size
        if self.files > self.max_files or self.bytes > self.max_bytes:
            raise BddError(
                f"{self.archive} was refused: it would unpack to more than {self.max_bytes >> 20:,} MiB or "
                f"{self.max_files:,} files, which an archive of images of its size does not."
            )


def _write(source: IO[bytes], target: Path, budget: _Budget) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while chunk := source.read(1 << 20):
            budget.take(0, len(chunk))
            out.write(chunk)


def _unpack_tar(archive: Path, target: Path, budget: _Budget) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _checked_name(member.name, archive)
            budget.take(1, 0)
            if member.isdir():
                continue
            if not member.isfile():
                raise BddError(f"{archive} was refused: its entry {member.name!r} is a link or a device.")
            source = tar.extractfile(member)
            assert source is not None, "only links and devices have no content"
            _write(source, target / name, budget)


def _unpack_zip(archive: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as pack:
        for member in pack.infolist():
            name = _checked_name(member.filename, archive)
            budget.take(1, 0)
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise BddError(f"{archive} was refused: its entry {member.filename!r} is a link or a device.")
            with pack.open(member) as source:
                _write(source, target / name, budget)


def _move_into_place(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError:
        # Another process unpacked the same archive in the meantime.
        if not target.is_dir():
            raise


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack an archive, unless this was done before.

    Args:
        archive: A tar (plain, gz, xz, bz2) or zip file.
        cache: Folder for the unpacked tree, which is reused until the archive changes.

    Returns:
        The folder with the archive's content.

    Raises:
        BddError: If the archive is damaged, contains links, devices or paths outside the target, or unpacks to far more
            than images do. Nothing of it is kept then.
    """
    about = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{about.st_size}|{about.st_mtime_ns}".encode()).hexdigest()[:16]
    target = cache / "unpacked" / f"{archive.name.split('.')[0]}-{key}"
    if target.is_dir():
        return target
    print(f"unpacking {archive} into {target.parent}", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        # By name: zipfile accepts a plain tar that contains a zip near its end.
        unpacker = _unpack_zip if archive.suffix.lower() == ".zip" else _unpack_tar
        unpacker(archive, partial, _Budget(archive))
        _move_into_place(partial, target)
    except BddError:
        raise
    except Exception as error:
        # Damaged archives make tarfile, zipfile, lzma and zlib raise arbitrary exceptions. A full disk ends here, too.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BddError(f"{archive} cannot be unpacked: {reason}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
