"""Write the band of scores that a file does not decide into its metadata, and change nothing else of the file.

``python -m converters.unsure_band MODEL --metrics metrics-photos-file.json`` takes the band that `bdd evaluate --protocol photos
--file` chose for exactly this file. The old bytes stay as they are behind a new head. Of a bundled model, the recorded digest,
the stored results and the card follow.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bdd_tf.edge.labels import band_of
from bdd_tf.edge.model_digests import record_digests
from bdd_tf.edge.shipped_model import FOLDER, model_path
from bdd_tf.edge.tflite.metadata import METADATA_NAME, VIEWS_FORMAT, embed_metadata, read_metadata
from bdd_tf.errors import BddError, UsageError
from bdd_tf.evaluation.photos.table import table
from bdd_tf.files import write_atomically
from bdd_tf.reports.store import tflite_note
from bdd_tf.runs import Run
from converters.photo_card import PROTOCOL_TABLE, photo_card
from converters.release import RESULTS
from converters.release_photos import is_whole_evaluation


def with_band(content: bytes, low: float, high: float) -> bytes:
    """Return a file with a band; its old bytes are the end of the new ones.

    Args:
        content: A .tflite file with metadata.
        low: Scores from it downwards are REAL, in [0, 1].
        high: Scores from it upwards are FAKE; above ``low``.

    Raises:
        BddError: If the file has no metadata, or the band is impossible.
    """
    metadata = {**read_metadata(content), "format": VIEWS_FORMAT, "unsure": [low, high]}
    band_of(metadata)
    made = embed_metadata(content, METADATA_NAME, json.dumps(metadata).encode())
    if not made.endswith(content):
        raise BddError("writing the metadata changed other bytes of the file; nothing was written.")
    return made


def band_in(document: Path, content: bytes) -> tuple[float, float]:
    """Return the band that an evaluation of exactly this file chose.

    Args:
        document: ``metrics-photos-file.json``.
        content: The file.

    Raises:
        UsageError: If the evaluation was quick, or of another file, or chose no band.
        BddError: If it cannot be read.
    """
    try:
        values = json.loads(document.read_text())
        exact, unsure = is_whole_evaluation(values, content), values["unsure"]
        ends = unsure["low"], unsure["high"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BddError(
            f"{document} is no evaluation with a band ({error}); repeat bdd evaluate --protocol photos --file."
        ) from None
    if not exact:
        raise UsageError(
            f"{document} is of another file, or of a quick evaluation; repeat bdd evaluate --protocol photos --file."
        )
    if ends[0] is None or ends[1] is None:
        raise UsageError(f"{document} chose no band: {'; '.join(unsure['notes'])}")
    return float(ends[0]), float(ends[1])


def write_band(model: Path, document: Path, results: Path = RESULTS) -> Path:
    """Write the band into a file, in place; of a bundled model, update what describes the file.

    Args:
        model: The file.
        document: Of `band_in`.
        results: Folder of stored results.

    Returns:
        The file.
    """
    content = model.read_bytes()
    made = with_band(content, *band_in(document, content))
    kept = Run(results / model.stem)
    bundled = model.resolve().parent == FOLDER and (kept.path / PROTOCOL_TABLE).is_file()
    if bundled:
        write_atomically(kept.path / PROTOCOL_TABLE, f"{table(json.loads(document.read_text()))}\n".encode())
        write_atomically(kept.tflite_note, tflite_note(made))
        write_atomically(model.with_suffix(".md"), photo_card(model.stem, made, kept.path).encode())
    write_atomically(model, made)
    if model.resolve().parent == FOLDER:
        record_digests()
    return model


def main() -> int:
    """Write a band from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m converters.unsure_band", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", help="a .tflite file, or the name of a bundled model")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics-photos-file.json of this file")
    args = parser.parse_args()
    try:
        path = model_path(args.model)
        before = path.stat().st_size
        write_band(path, args.metrics)
    except (BddError, OSError) as error:
        print(f"converters.unsure_band: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    band = read_metadata(path.read_bytes())["unsure"]
    print(f"{path}: unsure {band}, {path.stat().st_size - before:,} bytes more; the weights are as they were")
    return 0


if __name__ == "__main__":
    sys.exit(main())
