"""Archives from outside, unpacked so that nothing in them can harm the machine."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from bdd_tf.errors import BddError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
#: What an archive may unpack to: COCOFake, the largest data set known here, stays well below.
MAX_BYTES = 400 * 1024**3
MAX_FILES = 3_000_000
#: Unpacked bytes per packed byte beyond which an archive of images is no archive of images, and packed bytes
#: per file (CIFAKE, of tiny images, packs a file into 300). Small archives may do as they like up to a floor.
MAX_RATIO, MIN_BYTES_PER_FILE = 200, 64
FLOOR_BYTES, FLOOR_FILES = 64 * 1024**2, 20_000


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar or zip archive."""
    return path.name.lower().endswith(SUFFIXES)


def _checked_name(name: str, archive: Path) -> PurePosixPath:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and ":" in parts.parts[0]) or "\0" in name:
        raise BddError(
            f"{archive} was refused: its entry {name!r} would be written outside the target folder."
        )
    return parts


class _Budget:
    """What an archive may still unpack to, counted as written, not as declared: a header can lie."""

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


def _write(source, target: Path, budget: _Budget) -> None:  # noqa: ANN001 (binary file)
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
            _write(tar.extractfile(member), target / name, budget)


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
        # Someone else unpacked the same archive meanwhile.
        if not target.is_dir():
            raise


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
    print(f"unpacking {archive} into {target.parent}", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        # By name: a plain tar that holds a zip near its end would pass for a zip by content.
        unpacker = _unpack_zip if archive.suffix.lower() == ".zip" else _unpack_tar
        unpacker(archive, partial, _Budget(archive))
        _move_into_place(partial, target)
    except BddError:
        raise
    except Exception as error:
        # Damaged archives make tarfile, zipfile, lzma and zlib raise anything; a full disk ends here too.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BddError(f"{archive} cannot be unpacked: {reason}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
