"""The history of a run: one row per finished epoch."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from bdd_tf.errors import BddError
from bdd_tf.files import write_atomically
from bdd_tf.runs import Run

HISTORY = (
    "epoch",
    "images",
    "loss",
    "accuracy",
    "learning_rate",
    "validation_loss",
    "validation_accuracy",
    "validation_auc",
    "seconds",
)


def finished_epochs(run: Run) -> list[dict]:
    """Return the rows of a run's history, with all keys of :data:`HISTORY`; empty before the first epoch ends."""
    rows = read_history(run.history) if run.history.is_file() else []
    return [{key: row.get(key) for key in HISTORY} for row in rows]


def waited(rows: list[dict]) -> int:
    """Return the number of epochs since the one with the best validation AUC."""
    aucs = [row["validation_auc"] or 0 for row in rows]
    return len(aucs) - 1 - aucs.index(max(aucs)) if aucs else 0


def ends_early(rows: list[dict], patience: int) -> bool:
    """Return whether the validation AUC has not improved for so many epochs; never with a patience of 0."""
    return 0 < patience <= waited(rows)


def write_history(path: Path, rows: list[dict]) -> None:
    """Write ``history.csv`` atomically."""
    text = io.StringIO()
    table = csv.DictWriter(text, HISTORY, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def read_history(path: Path) -> list[dict[str, int | float | None]]:
    """Read ``history.csv``.

    Args:
        path: The file; any columns, ``epoch`` among them.

    Returns:
        One dict per finished epoch: ``epoch`` and ``images`` as int, the others as float; None for a cell without a finite
        number.

    Raises:
        BddError: If the file is missing, unreadable or holds no finished epoch.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise BddError(f"{path} does not exist; `bdd train` writes it.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BddError(f"{path} cannot be read: {error}") from error
    if not rows or any(row.get("epoch") is None for row in rows):
        raise BddError(f"{path} holds no finished epoch.")
    return rows


def _cell(name: str, text: object) -> int | float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if name in ("epoch", "images") else number
