"""Which model gave a score: the name, version and digest that every output states."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bdd_tf.edge.text import visible


class ModelIdentity(NamedTuple):
    """A model file.

    Attributes:
        name: Name of the file, preceded by its folder for the name in every run, ``model.tflite``.
        version: Version of bdd_tf that wrote the file; None if the file does not say.
        sha256: Digest of the whole file, 64 hexadecimal digits: one changed byte changes it.
    """

    name: str
    version: str | None
    sha256: str

    @classmethod
    def of(cls, path: Path, content: bytes, metadata: dict[str, Any]) -> ModelIdentity:
        """Return the identity of a file.

        Args:
            path: Where it lies.
            content: Its content.
            metadata: Its metadata, unchecked.
        """
        import hashlib  # loads OpenSSL

        version = metadata.get("version")
        return cls(
            model_name(path),
            version if isinstance(version, str) else None,
            hashlib.sha256(content).hexdigest(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return ``name``, ``version`` and ``sha256`` as JSON values."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def sentence(self) -> str:
        """Return the identity as text, for people."""
        version = "" if self.version is None else f", written by bdd_tf {visible(self.version)}"
        return f"Model {visible(self.name)}{version}, SHA-256 {self.sha256}"


def model_name(path: Path) -> str:
    """Return the displayed name of a model file; ``model.tflite`` is preceded by its folder.

    Example:
        >>> model_name(Path("runs/first/model.tflite"))
        'first/model.tflite'
    """
    path = path.absolute()
    return f"{path.parent.name}/{path.name}" if path.name == "model.tflite" else path.name
