"""The run folder: where each file of an experiment lives (DESIGN: Contracts)."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    def trainer(self) -> Path:
        """Who trained, where that was not `bdd train` (converters/torch_training.py)."""
        return self.path / "trainer.json"

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

    def robustness(self, split: str) -> Path:
        """What perturbations do to the scores of a split."""
        return self.path / f"robustness-{split}.json"

    def scores(self, split: str) -> Path:
        """Score of every image of a split."""
        return self.path / f"scores-{split}.csv"

    def compact_scores(self, split: str) -> Path:
        """The same, rounded and compressed: what a stored result keeps (:mod:`bdd_tf.reports.store`)."""
        return self.path / f"scores-{split}.csv.xz"

    @property
    def tflite_note(self) -> Path:
        """Size and SHA-256 of a .tflite file that a stored result does not keep."""
        return self.path / "tflite.json"

    def benchmarks(self) -> list[Path]:
        """What `bdd benchmark --output` left here, by name."""
        return sorted(self.path.glob("benchmark*.json"))


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


@dataclass(frozen=True)
class Validated:
    """What was chosen on a run's validation split.

    Attributes:
        threshold: Calibrated scores from here on are called FAKE; in [0, 1].
        temperature: By which logits are divided (:mod:`bdd_tf.calibration`); above 0.
        thresholds: For rates of false alarms (text such as ``"0.01"``): those in [0, 1] at which so large a share of
            REAL images, at most, is called FAKE; None where the validation images do not tell.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    thresholds: dict[str, float | None] = field(default_factory=dict)


def validated(run: Run) -> Validated:
    """Read ``metrics-validation.json``; 0.5, 1 and no thresholds where it is missing or does not say."""
    try:
        document = json.loads(run.metrics("validation").read_text())
        threshold = _within(document["threshold"], 0, 1)
    except (OSError, ValueError, KeyError, TypeError):
        return Validated()
    try:
        # Runs of versions without it chose their threshold on the network's own scores: temperature 1.
        temperature = _within(document.get("temperature", 1.0), 1e-6, 1e6)
        rows = document.get("thresholds", {}).items()
        thresholds = {
            f"{_within(rate, 0, 1):g}": None if row["threshold"] is None else _within(row["threshold"], 0, 1)
            for rate, row in rows
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Half of it would be worse than nothing: thresholds belong to their temperature.
        raise BddError(
            f"{run.metrics('validation')} is damaged ({error}); make evaluate RUN={run.name} SPLIT=validation "
            "writes it anew."
        ) from error
    return Validated(threshold, temperature, thresholds)


def _within(value: Any, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high:
        raise ValueError(f"{number:g} is not in [{low:g}, {high:g}]")
    return number


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
