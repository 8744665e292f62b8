"""`score_images`: scores as a Spark data frame, for notebooks and existing jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bdd_tf.cluster.worker import Model
from bdd_tf.edge.detector import Detector, read_model
from bdd_tf.edge.evidence import find_evidence
from bdd_tf.edge.shipped_model import model_path
from bdd_tf.errors import UsageError


def load_model(model: str | Path | None, *, evidence: bool = False) -> Model:
    """Read a model for the executors, and check that it can be used.

    Args:
        model: Path of a .tflite file, or the name of a bundled model; None for the default one.
        evidence: Whether to search images for evidence of their origin.

    Raises:
        UsageError: If there is no such model.
        BddError: If it cannot be used, or this version of the package finds no evidence.
    """
    if evidence:
        find_evidence(b"")
    path = model_path(model)
    loaded = Model(path.name, read_model(path), evidence)
    with Detector(path):
        return loaded


def score_images(
    spark: Any,
    images: Any,
    *,
    model: str | Path | None = None,
    column: str | None = None,
    evidence: bool = False,
) -> Any:
    """Score images on Spark.

    Nothing is computed before the result is used. Images that cannot be read become rows with ``error``. Each Python worker
    loads the model once. With bytes in a column, ``spark.sql.execution.arrow.maxRecordsPerBatch`` images (10,000 by default)
    are in a worker's memory together: set it to 32 for photographs.

    Args:
        spark: The `pyspark.sql.SparkSession`.
        images: One path or several: files, folders and patterns of this machine, which executors must see too, or of a file
            system that Spark reads (s3a, gs, hdfs). Or a data frame with a column of local paths (string) or of the bytes
            of image files (binary).
        model: Path of a .tflite file, or the name of a bundled model; None for the default one.
        column: The column of paths or bytes of a data frame; None to find it: the only binary one, or else ``path``, or the
            only string.
        evidence: Whether to add the column ``evidence``.

    Returns:
        A `pyspark.sql.DataFrame` with the columns of `bdd_tf.cluster.columns.TYPES`, behind the other columns of a given data
        frame. With a column of bytes, ``path`` is taken from the column of that name.

    Raises:
        UsageError: If an argument is wrong, or there are no such files.
        BddError: If the model cannot be used.
    """
    from bdd_tf.cluster import frames, inputs, remote

    loaded = load_model(model, evidence=evidence)
    if hasattr(images, "mapInPandas"):
        columns = inputs.columns_of(images.dtypes, column)
        used = {columns.source.partition(".")[0], columns.name}
        keep = [name for name in images.columns if name not in used]
        frames.check_names(keep, evidence)
        if columns.holds == inputs.BYTES:
            return frames.score_bytes(images, columns, loaded, keep)
        return frames.score_paths_column(images, loaded, keep, columns.source)
    if column is not None:
        raise UsageError("column is for data frames; leave it out for paths.")
    given = _paths(images)
    by_spark = [inputs.is_remote(path) for path in given]
    if all(by_spark):
        files = remote.images_below(spark, given)
        return frames.score_bytes(files, inputs.Columns(inputs.BYTES, "content", "path"), loaded, [])
    if any(by_spark):
        raise UsageError(
            "the paths are partly of this machine, partly of another file system; score them apart."
        )
    found = inputs.local_input(given)
    if found.kind != inputs.IMAGES:
        raise UsageError(f"{found.paths[0]}: score_images reads images; `bdd score` reads a {found.kind}.")
    entries = list(inputs.local_images(found))
    if not entries:
        raise UsageError(
            f"no images found in {', '.join(given)} ({found.census.summary() or 'it is empty'}); check the path."
        )
    paths = frames.paths_frame(spark, entries, None, 500)
    return frames.score_paths_column(paths, loaded, [])


def _paths(images: str | Path | Sequence[str | Path]) -> list[str]:
    several = [images] if isinstance(images, (str, Path)) else images
    try:
        paths = [str(path) for path in several if isinstance(path, (str, Path))]
        if len(paths) == len(list(several)) > 0:
            return paths
    except TypeError:
        pass
    raise UsageError(
        f"images is a {type(images).__name__}; give a path, a list of paths, or a data frame of paths or bytes."
    )
