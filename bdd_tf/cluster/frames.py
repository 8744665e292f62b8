"""Spark data frames of images become data frames of scores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bdd_tf.cluster.chunks import Entry
from bdd_tf.cluster.columns import result_types
from bdd_tf.cluster.inputs import Columns
from bdd_tf.cluster.worker import Model, score_frames, score_shards
from bdd_tf.errors import UsageError

_PATH, _CONTENT = "__bdd_path", "__bdd_content"
ARROW = "spark.sql.execution.arrow.maxRecordsPerBatch"
"""Setting for the rows of an Arrow batch."""
_THRESHOLD = "spark.sql.execution.arrow.localRelationThreshold"


def paths_frame(spark: Any, entries: list[Entry], keep: str | None, step: int, *, text: bool = False) -> Any:
    """Return a data frame with the paths of entries.

    Args:
        spark: The session.
        entries: At least one entry.
        keep: Name of the column of values; None for none.
        step: Rows in each partition.
        text: Whether ``path`` is text; otherwise the bytes of the file name, which need not be valid UTF-8.
    """
    import pandas

    values: dict[str, list[Any]] = {
        "path": [entry.path if text else os.fsencode(entry.path) for entry in entries]
    }
    types = {"path": "string" if text else "binary"}
    if keep is not None:
        values[keep] = [entry.value for entry in entries]
        types[keep] = "string"
    # Spark makes one partition of each batch, unless it takes the table for a small one.
    with _settings(spark, {ARROW: str(step), _THRESHOLD: "0"}):
        return spark.createDataFrame(pandas.DataFrame(values, dtype=object), _schema(types))


def score_paths_column(frame: Any, model: Model, keep: list[str], path: str = "path") -> Any:
    """Score the files that a column of local paths names; ``keep`` are columns to pass on."""
    from pyspark.sql import functions as F

    folder = str(Path.cwd())
    selected = frame.select(F.col(_quoted(path)).alias(_PATH), *(_quoted(name) for name in keep))
    return selected.mapInPandas(
        lambda frames: score_frames(frames, model, _PATH, None, keep, folder),
        _result_schema(selected, keep, model),
    )


def score_bytes(frame: Any, columns: Columns, model: Model, keep: list[str]) -> Any:
    """Score a column with the bytes of image files; ``keep`` are columns to pass on.

    Images without a name are reported as ``FILE#ROW`` of their Parquet file.
    """
    from pyspark.sql import functions as F

    if columns.name is not None:
        name = F.col(_quoted(columns.name))
    elif _has_rows(frame):
        name = F.concat(F.col("_metadata.file_path"), F.lit("#"), F.col("_metadata.row_index").cast("string"))
    else:
        name = F.lit(None).cast("string")
    source = ".".join(_quoted(part) for part in columns.source.split("."))
    selected = frame.select(
        name.alias(_PATH), F.col(source).alias(_CONTENT), *(_quoted(column) for column in keep)
    )
    return selected.mapInPandas(
        lambda frames: score_frames(frames, model, _PATH, _CONTENT, keep, ""),
        _result_schema(selected, keep, model),
    )


def score_tar_files(frame: Any, model: Model, *, remote: bool) -> Any:
    """Score the images inside of tar files: a column ``path``, and ``content`` if Spark reads the files."""
    content = "content" if remote else None
    folder = str(Path.cwd())
    return frame.mapInPandas(
        lambda frames: score_shards(frames, model, "path", content, folder),
        _schema(result_types(evidence=model.evidence)),
    )


def check_names(keep: list[str], evidence: bool) -> None:
    """Refuse columns that are named like a result.

    Raises:
        UsageError: If there is one.
    """
    taken = sorted(set(keep) & set(result_types(evidence=evidence)))
    if taken:
        raise UsageError(
            f"the data frame has columns named {', '.join(taken)}, as the result has; rename or drop them first."
        )


@contextmanager
def _settings(spark: Any, changed: dict[str, str]) -> Iterator[None]:
    """Change settings of a session within a block."""
    before = {key: spark.conf.get(key) for key in changed}
    try:
        for key, value in changed.items():
            spark.conf.set(key, value)
        yield
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)


def _has_rows(frame: Any) -> bool:
    """Return whether a data frame comes from Parquet files, which number their rows."""
    from pyspark.errors import AnalysisException

    try:
        frame.select("_metadata.file_path", "_metadata.row_index").schema  # noqa: B018
    except AnalysisException:
        return False
    return True


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _schema(types: dict[str, str]) -> str:
    return ", ".join(f"{_quoted(name)} {kind}" for name, kind in types.items())


def _result_schema(selected: Any, keep: list[str], model: Model) -> Any:
    from pyspark.sql.types import StructType, _parse_datatype_string

    results = _parse_datatype_string(_schema(result_types(evidence=model.evidence)))
    return StructType([selected.schema[name] for name in keep] + list(results.fields))
