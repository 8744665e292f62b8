"""Digests of the bundled models, recorded at release: does a file have the bytes that were released?"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdd_tf.edge.shipped_model import FOLDER, shipped_models
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import BddError
from bdd_tf.files import write_atomically

DIGESTS = "digests.json"
"""Name of the file beside the models: name of a model file -> ``bytes`` and ``sha256``."""

LICENCE = "LICENSE-MODEL.md"
"""The terms of all bundled weights; the code has another licence."""


@dataclass(frozen=True)
class BundledModel:
    """A bundled model.

    Attributes:
        name: Short name, as ``--model`` takes it.
        path: Its file.
        size: In bytes.
        sha256: Digest of the file as it is.
        recorded: Digest at release; None if none was recorded.
        metadata: Its metadata, unchecked.
    """

    name: str
    path: Path
    size: int
    sha256: str
    recorded: str | None
    metadata: dict[str, Any]

    @property
    def intact(self) -> bool:
        """Whether the file is the one that was released."""
        return self.sha256 == self.recorded

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "file": self.path.name,
            "bytes": self.size,
            "resolution": self.metadata.get("resolution"),
            "backbone": self.metadata.get("backbone"),
            "version": self.metadata.get("version"),
            "unsure": self.metadata.get("unsure"),
            "sha256": self.sha256,
            "recorded": self.recorded,
            "licence": LICENCE,
        }


def bundled_models(folder: Path = FOLDER) -> list[BundledModel]:
    """Return the bundled models, the default one first.

    Args:
        folder: Folder of the models.

    Raises:
        BddError: If a file, its metadata or the digests cannot be read.
    """
    known, found = recorded_digests(folder), []
    for name, path in shipped_models(folder).items():
        content = _read(path)
        try:
            metadata = read_metadata(content)
        except BddError:  # of a damaged file, the digest still says that it is damaged
            metadata = {}
        digest = hashlib.sha256(content).hexdigest()
        found.append(BundledModel(name, path, len(content), digest, known.get(path.name), metadata))
    return found


def recorded_digests(folder: Path = FOLDER) -> dict[str, str]:
    """Return the SHA-256 of each released file by its name; empty if none were recorded.

    Raises:
        BddError: If the record is damaged.
    """
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    try:
        return {str(name): str(row["sha256"]) for name, row in json.loads(_read(path)).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BddError(f"{path} is damaged; install bdd_tf again.") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        BddError: If it cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def record_digests(folder: Path = FOLDER) -> Path:
    """Write the digests of all models of a folder, as a release does; return the file.

    Raises:
        BddError: If a model cannot be read.
    """
    rows = {}
    for path in sorted(folder.glob("*.tflite")):
        content = _read(path)
        rows[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(folder / DIGESTS, (json.dumps(rows, indent=2) + "\n").encode())
    return folder / DIGESTS


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BddError(f"{path} cannot be read: {error.strerror or error}.") from None
