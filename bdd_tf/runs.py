"""The run folder: where each file of an experiment lives (DESIGN: Contracts)."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from bdd_tf.errors import BddError, UsageError

RUNS_DIR = "runs"


@dataclass(frozen=True)
class Run:
    """Paths inside ``runs/NAME``."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The experiment, YAML."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """States to resume from, and the best weights so far."""
        return self.path / "checkpoints"

    @property
    def best_weights(self) -> Path:
        """Weights of the epoch with the best validation AUC so far."""
        return self.checkpoints / "best.weights.h5"

    @property
    def weights(self) -> Path:
        """Weights of the finished run (the best epoch's)."""
        return self.path / "model.weights.h5"

    @property
    def history(self) -> Path:
        """One line per finished epoch."""
        return self.path / "history.csv"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def tflite(self) -> Path:
        """The converted file."""
        return self.path / "model.tflite"

    def twin(self, kind: str) -> Path:
        """A binary network's file for runtimes without our delegate, ``float`` or ``int8``."""
        return self.path / f"model-{kind}.tflite"

    @property
    def figures(self) -> Path:
        """Pictures."""
        return self.path / "figures"

    def metrics(self, split: str) -> Path:
        """Metrics of a split."""
        return self.path / f"metrics-{split}.json"

    def scores(self, split: str) -> Path:
        """Score of every image of a split."""
        return self.path / f"scores-{split}.csv"


def run_named(name: str, runs_dir: str | Path = RUNS_DIR) -> Run:
    """The run folder for a name, or for a path to one; it need not exist.

    Raises:
        UsageError: For a name that is no plain folder name.
    """
    if "/" in name:
        return Run(Path(name))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise UsageError(f"run name {name!r} should be letters, digits, '.', '_', '+' and '-'.")
    return Run(Path(runs_dir) / name)


def existing_run(name: str, runs_dir: str | Path = RUNS_DIR) -> Run:
    """A run folder that exists.

    Raises:
        UsageError: If there is none; lists those there are.
    """
    run = run_named(name, runs_dir)
    if run.config.is_file():
        return run
    folder = run.path.parent
    others = sorted(p.parent.name for p in folder.glob("*/config.yaml")) if folder.is_dir() else []
    known = f"runs in {folder}: {', '.join(others)}" if others else f"there are no runs in {folder} yet"
    raise UsageError(f"no run {name!r} ({run.config} is missing); {known}. `make train` makes one.")


def read_history(path: Path) -> list[dict[str, int | float | None]]:
    """Rows of ``history.csv``, one per finished epoch.

    Args:
        path: The file; any columns, ``epoch`` among them.

    Returns:
        By column: ``epoch`` and ``images`` as int, all else as float; None where a cell holds no finite number.

    Raises:
        BddError: If the file is missing, unreadable or holds no finished epoch.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise BddError(f"{path} does not exist; `make train` writes it.") from error
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


def trained_weights(run: Run) -> Path:
    """The weights of a finished run, or the best so far of an unfinished one.

    Raises:
        BddError: If there are none yet.
    """
    for path in (run.weights, run.best_weights):
        if path.is_file():
            return path
    raise BddError(
        f"run {run.name} has no trained weights yet ({run.weights} is missing); "
        f"finish it with the same `make train` command."
    )
