"""Images on file systems that Spark reads itself: s3a, gs, hdfs.

Spark's reader of files (``binaryFile``) has no row for an empty file, and does not mention it. Every file needs a row here, so
this module alone uses that reader, and adds the empty files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bdd_tf.cluster.chunks import Entry
from bdd_tf.cluster.frames import paths_frame
from bdd_tf.cluster.hadoop import escaped
from bdd_tf.cluster.inputs import PARQUET, SHARDS, Input
from bdd_tf.edge.images.find import IMAGE_SUFFIXES
from bdd_tf.errors import UsageError

ROWS = 500
"""Names of empty files in one partition."""


def remote_files(spark: Any, found: Input) -> Iterator[Entry]:
    """Yield images, tar or Parquet files on a file system that Spark reads.

    Spark lists the folders, and empty files (of size and time 0) last. Hidden files, and names that begin with an underscore, are
    left out.
    """
    suffixes = {SHARDS: {".tar"}, PARQUET: {".parquet"}}.get(found.kind, IMAGE_SUFFIXES)
    files = _files(spark, [escaped(path) for path in found.paths])
    given = set(found.paths)

    def wanted(path: str) -> bool:
        return os.path.splitext(path)[1].lower() in suffixes or path in given  # noqa: PTH122

    for row in files.select("path", "length", "modificationTime").toLocalIterator():
        if wanted(row.path):
            yield Entry(row.path, row.length, int(row.modificationTime.timestamp() * 1000))
        else:
            found.census.add(Path(row.path), "of another kind")
    for row in _empty(spark, files).toLocalIterator():
        if wanted(row.path):
            yield Entry(row.path, 0, 0)


def contents_of(spark: Any, entries: list[Entry]) -> Any:
    """Return a data frame with ``path`` and ``content`` of listed files; a file that was removed since has no row.

    Args:
        spark: The session.
        entries: At least one entry.
    """
    full, empty = [e for e in entries if e.size], [e for e in entries if not e.size]
    frames = []
    if full:
        files = _files(spark, [escaped(entry.path) for entry in full], missing=True)
        frames.append(files.select("path", "content"))
    if empty:
        frames.append(_without_content(paths_frame(spark, empty, None, ROWS, text=True)))
    return frames[0] if len(frames) == 1 else frames[0].unionByName(frames[1])


def images_below(spark: Any, given: list[str]) -> Any:
    """Return a data frame with ``path`` and ``content`` of the images in folders, of patterns, and of files.

    Spark lists the folders at once; the files are read when the data frame is used.

    Args:
        spark: The session.
        given: URIs and patterns of Hadoop.

    Raises:
        UsageError: If there is nothing.
    """
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    try:
        files = _files(spark, given)
    except AnalysisException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{', '.join(given)} cannot be listed ({reason}); check the path, and the right to list it."
        ) from None
    suffixes = "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    every = files.select("path", "content").unionByName(_without_content(_empty(spark, files)))
    return every.where(F.col("path").rlike(rf"(?i)\.({suffixes})$") | F.col("path").isin(given))


def _files(spark: Any, patterns: list[str], *, missing: bool = False) -> Any:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    # Of a file that was removed since it was listed, the number of rows tells.
    return reader.option("ignoreMissingFiles", str(missing).lower()).load(patterns)


def _empty(spark: Any, files: Any) -> Any:
    """Return a data frame with the ``path`` of the empty files: those that were listed and have no row."""
    listed = [Entry(unquote(path)) for path in files.inputFiles()]
    if not listed:
        return files.select("path")
    return paths_frame(spark, listed, None, ROWS, text=True).join(files.select("path"), "path", "left_anti")


def _without_content(paths: Any) -> Any:
    from pyspark.sql import functions as F

    return paths.withColumn("content", F.lit(bytearray()))
