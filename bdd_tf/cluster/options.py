"""Options of a job, and the check of its output folder, which needs no Spark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdd_tf.cluster import chunks, inputs
from bdd_tf.cluster.hadoop import Hadoop
from bdd_tf.cluster.store import HadoopStore, LocalStore, Store
from bdd_tf.cluster.worker import Model, local_path
from bdd_tf.errors import BddError, UsageError

DATE = "date"
"""Column with the date of the run."""


@dataclass(frozen=True)
class Options:
    """Options of a job.

    Attributes:
        given: Inputs as typed.
        output: Folder or URI to write to.
        model: The model.
        chunk: Images in a chunk.
        partition_by: `DATE`, ``verdict``, or a column of the table.
        resume: Whether to continue.
        column: Column of paths or bytes; None to find it.
    """

    given: tuple[str, ...]
    output: str
    model: Model
    chunk: int = 100_000
    partition_by: str = DATE
    resume: bool = False
    column: str | None = None


def store_of(output: str, hadoop: Hadoop | None = None) -> Store:
    """Return the store of an output folder.

    Args:
        output: Path or URI.
        hadoop: Access to file systems that only Spark reads.
    """
    if inputs.is_remote(output):
        return HadoopStore(hadoop, output)
    return LocalStore(Path(local_path(output)))


def check_output(store: Store, options: Options) -> bool:
    """Check the output folder before anything is started; return whether there is something to continue.

    Raises:
        UsageError: If it exists and the job is not to be resumed, or it was written with another model or other options.
        BddError: If it is a file, or cannot be read.
    """
    names = store.names()
    # Without a plan, a job ended before it did anything, for example because it found no images.
    if not names or (names == [chunks.STATE] and store.read(chunks.PLAN) is None):
        return False
    content = store.read(chunks.JOB)
    if not options.resume:
        hint = "--resume completes it" if content is not None else "it was not written by `bdd score`"
        raise UsageError(
            f"--output {options.output} exists already; {hint}; give the name of a new folder otherwise."
        )
    if content is None:
        raise UsageError(
            f"--output {options.output} exists and was not written by `bdd score`; give the name of a new folder."
        )
    try:
        former = dict(json.loads(content))
    except (ValueError, TypeError):
        raise BddError(
            f"{store.uri(chunks.JOB)} is damaged; give another --output and start again."
        ) from None
    if former.get("model") != options.model.digest:
        raise UsageError(
            f"--output {options.output} was scored with another model ({former.get('name')}, SHA-256 "
            f"{str(former.get('model'))[:12]}; this one, {options.model.name}, has {options.model.digest[:12]}); give that "
            "model with --model, or another --output."
        )
    for key, value in shared(options).items():
        if former.get(key) != value:
            option = f"--{key.replace('_', '-')}"
            raise UsageError(
                f"--output {options.output} was begun with {option} {former.get(key)}, not {value}; repeat it to resume, or "
                "give another --output."
            )
    return True


def shared(options: Options) -> dict[str, Any]:
    """What a resumed job has in common with the one before."""
    return {
        # Absolute, because relative paths mean other files when the job is resumed in another folder.
        "input": [
            path if inputs.is_remote(path) else str(Path(local_path(path)).absolute())
            for path in options.given
        ],
        "partition_by": options.partition_by,
        "evidence": options.model.evidence,
        "column": options.column,
    }
