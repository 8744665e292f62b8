"""The columns of a table of scores: the keys of `bdd detect --json`, and facts about the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from bdd_tf.edge.detect.records import Record

TYPES = {
    "path": "string",
    "fake_probability": "double",
    "verdict": "string",
    "error": "string",
    "note": "string",
    "views": "struct<crops:int,padded:boolean,featureless:boolean>",
    "model": "struct<name:string,version:string,sha256:string>",
    "sha256": "string",
    "width": "int",
    "height": "int",
    "bytes": "bigint",
}
"""Name and Spark type of each column, in order. ``views`` is null where `bdd detect --json` has no such key, and ``width``,
``height`` of images that cannot be decoded."""

EVIDENCE = "evidence"
"""The additional column of ``--evidence``; null where nothing was found."""
_EVIDENCE_TYPE = "array<struct<kind:string,says:string,where:string,strength:string>>"


@dataclass(frozen=True)
class Facts:
    """Facts about a file besides its score.

    Attributes:
        path: Path or name under which the file is reported.
        sha256: Hash of the content, hexadecimal; None if the file could not be read.
        size: Size of the file; None if it could not be read.
    """

    path: str
    sha256: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, path: str, content: bytes) -> Facts:
        """Return the facts about a file.

        Args:
            path: Path or name of the file.
            content: Its bytes.
        """
        return cls(path, hashlib.sha256(content).hexdigest(), len(content))


def result_types(*, evidence: bool = False) -> dict[str, str]:
    """Return `TYPES`, with the column `EVIDENCE` on request."""
    return {**TYPES, EVIDENCE: _EVIDENCE_TYPE} if evidence else dict(TYPES)


def row(record: Record, facts: Facts, *, evidence: bool = False) -> dict[str, Any]:
    """Return one row of the table, as a mapping from column to value.

    Args:
        record: Result for one image, as `bdd detect` makes it.
        facts: Facts about the same file.
        evidence: Whether there is the column `EVIDENCE`.
    """
    values = record.to_dict()
    width, height = record.size or (None, None)
    values.update(
        path=valid_text(facts.path), sha256=facts.sha256, bytes=facts.size, width=width, height=height
    )
    values["error"] = None if record.error is None else valid_text(record.error)
    return {name: values.get(name) for name in result_types(evidence=evidence)}


def valid_text(path: str) -> str:
    """Return text that is valid UTF-8, which Parquet requires: other bytes of a file name become ``\\\\udcXX``."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
