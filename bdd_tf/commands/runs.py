"""`bdd runs`: list the runs of a folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bdd_tf.config import Experiment, read_fields
from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import RUNS_DIR, Run
from bdd_tf.training.history import finished_epochs

#: Key of a row -> heading of its column.
_COLUMNS = {
    "run": "run",
    "data": "data",
    "network": "network",
    "epochs": "epochs",
    "validation_auc": "val. AUC",
    "validation_accuracy": "val. acc.",
    "test_auc": "test AUC",
    "test_accuracy": "test acc.",
    "bytes": "file, bytes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bdd runs`."""
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(RUNS_DIR), help="folder of the runs (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def main(args: argparse.Namespace) -> int:
    """Run `bdd runs`; return the exit code.

    Raises:
        UsageError: If the folder does not exist.
    """
    if not args.runs_dir.is_dir():
        raise UsageError(f"there is no folder {args.runs_dir} yet; bdd train creates it with the first run.")
    rows = [row_of(Run(path.parent)) for path in sorted(args.runs_dir.glob("*/config.yaml"))]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no runs in {args.runs_dir}; bdd train creates one.")
    else:
        print(table(rows))
    return 0


def row_of(run: Run) -> dict[str, Any]:
    """Describe a run.

    Returns:
        ``run``; ``data``; ``network`` (backbone, channels, resolution); ``epochs`` (finished of all); AUC and accuracy of
        the validation and the test split, in [0, 1]; ``bytes`` of the .tflite file; ``problem``. None for what there is
        not; a damaged run has only ``run`` and ``problem``.
    """
    row: dict[str, Any] = {**dict.fromkeys(_COLUMNS), "run": run.name, "problem": None}
    try:
        # Not as an Experiment: a run of a plug-in is listed without the plug-in.
        defaults = {field.name: field.default for field in dataclasses.fields(Experiment)}
        config = {**defaults, **read_fields(run.config)}
        done = len(finished_epochs(run))
    except BddError as error:
        return {**row, "problem": str(error)}
    row["data"] = " ".join(str(part) for part in (config["dataset"], config["data_dir"]) if part)
    row["network"] = f"{config['backbone']} {','.join(config['channels'])} {config['resolution']}"
    row["epochs"] = f"{done}/{config['epochs']}"
    for split in ("validation", "test"):
        try:
            document = json.loads(run.metrics(split).read_text())
            row |= {f"{split}_{key}": document[key] for key in ("auc", "accuracy")}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not evaluated on this split
    if run.tflite.is_file():
        row["bytes"] = run.tflite.stat().st_size
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows of `row_of` as a table, one run per line."""
    lines = [list(_COLUMNS.values())]
    for row in rows:
        if row["problem"]:
            lines.append([row["run"], row["problem"], *[""] * (len(_COLUMNS) - 2)])
        else:
            lines.append([_cell(row[key]) for key in _COLUMNS])
    widths = [
        max(len(line[i]) for line in lines if not (i == 1 and line[2] == "")) for i in range(len(_COLUMNS))
    ]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
