"""Metrics files (JSON) and score files (CSV)."""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import BddError
from bdd_tf.files import write_atomically
from bdd_tf.metrics.classification import Labels, Scores, _checked_probabilities

SCORE_COLUMNS = ("path", "label", "fake_probability")


#: Maximum size of a decompressed table of scores, in bytes.
SCORES_LIMIT = 128 << 20


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(path: str | Path, document: dict | list) -> Path:
    """Write JSON (UTF-8, indented, strict: no NaN) atomically; NumPy numbers and arrays become plain ones and lists.

    Returns:
        The path.

    Raises:
        ValueError: For NaN or infinity; nothing is written.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    # A file name that is not UTF-8 contains lone surrogates; backslashreplace writes them as JSON's own escapes.
    write_atomically(Path(path), (text + "\n").encode("utf-8", "backslashreplace"))
    return Path(path)


def write_scores_csv(
    path: str | Path,
    paths: Sequence[str | Path],
    labels: Labels,
    scores: Scores,
) -> Path:
    """Write ``path,label,fake_probability`` (0 = REAL, 1 = FAKE), one line per image, atomically.

    Probabilities are written with enough digits to restore the same float64.

    Returns:
        The path.

    Raises:
        BddError: For mismatched or impossible input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if len(paths) != len(labels):
        raise BddError(f"each image needs a path; got {len(paths)} paths for {len(labels)} images.")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(SCORE_COLUMNS)
    table.writerows((str(p), int(y), repr(float(s))) for p, y, s in zip(paths, labels, scores, strict=True))
    # File names on Linux are bytes. Python represents those that are not UTF-8 with surrogates, which are written back.
    write_atomically(Path(path), text.getvalue().encode("utf-8", "surrogateescape"))
    return Path(path)


def _score_text(path: Path) -> io.TextIOBase:
    if path.suffix != ".xz":
        return path.open(newline="", encoding="utf-8", errors="surrogateescape")
    # A few bytes can decompress to gigabytes. The limit suffices for a million images.
    with lzma.open(path) as file:
        content = file.read(SCORES_LIMIT + 1)
    if len(content) > SCORES_LIMIT:
        raise BddError(
            f"{path} unpacks to more than {SCORES_LIMIT:,} bytes, which is too large for a table of scores."
        )
    return io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")


def read_scores_csv(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a file of :func:`write_scores_csv`, also compressed (``.xz``).

    Returns:
        Paths, labels (int64 [N]) and fake probabilities (float64 [N]).

    Raises:
        BddError: If the file is missing or damaged; states the line.
    """
    path = Path(path)
    paths, labels, scores = [], [], []
    try:
        with _score_text(path) as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header) != SCORE_COLUMNS:
                raise BddError(
                    f"{path} should begin with {','.join(SCORE_COLUMNS)}; it has {','.join(header)[:80]!r}."
                )
            for row in lines:
                try:
                    name, digit, number = row
                    label, score = {"0": REAL, "1": FAKE}[digit], float(number)
                    if not 0 <= score <= 1:
                        raise ValueError(number)
                except (ValueError, KeyError) as error:
                    raise BddError(
                        f"{path}, line {lines.line_num}: expected path, label (0 or 1) and probability; "
                        f"got {','.join(row)[:80]!r}."
                    ) from error
                paths.append(name)
                labels.append(label)
                scores.append(score)
    except FileNotFoundError as error:
        raise BddError(f"{path} does not exist; `bdd evaluate` writes it.") from error
    except (OSError, EOFError, lzma.LZMAError, csv.Error) as error:
        raise BddError(f"{path} cannot be read: {error}") from error
    return paths, np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64)
