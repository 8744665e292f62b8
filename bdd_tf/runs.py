"""The run folder and the paths of its files (docs/architecture.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdd_tf.edge.labels import Band
from bdd_tf.errors import BddError, UsageError

RUNS_DIR = "runs"
#: Folder in a run's folder that does not make it a run.
WORKER_LOGS = "workers"
#: False positive rates for which `bdd evaluate` always chooses a threshold.
FALSE_ALARMS = (0.001, 0.01, 0.05)


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
        """Folder of the states to resume from and of the best weights so far."""
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
        """Training history, one line per finished epoch."""
        return self.path / "history.csv"

    @property
    def imported(self) -> Path:
        """Origin of imported weights: file, SHA-256, layout, hub and revision."""
        return self.path / "imported.json"

    @property
    def trainer(self) -> Path:
        """Module, options and device of a training in PyTorch (bdd_tf/pytorch/train.py); `bdd train` writes none."""
        return self.path / "trainer.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def tflite(self) -> Path:
        """The converted file."""
        return self.path / "model.tflite"

    def delegate_free(self, kind: str) -> Path:
        """The ``float`` or ``int8`` export of a binary network, which needs no delegate."""
        return self.path / f"model-{kind}.tflite"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    def worker_log(self, index: int) -> Path:
        """Messages of a process of `bdd train --processes`."""
        return self.path / WORKER_LOGS / f"worker-{index}.log"

    def metrics(self, split: str) -> Path:
        """Metrics of a split."""
        return self.path / f"metrics-{split}.json"

    @property
    def photo_protocol(self) -> Path:
        """Result of the photo protocol per condition and source, in short."""
        return self.path / "protocol-photos.json"

    @property
    def probes(self) -> Path:
        """Probes for shortcuts on the crops of a training on photographs."""
        return self.path / "probes.json"

    def robustness(self, split: str) -> Path:
        """Robustness of a split to perturbations."""
        return self.path / f"robustness-{split}.json"

    def scores(self, split: str) -> Path:
        """Score of every image of a split."""
        return self.path / f"scores-{split}.csv"

    def compact_scores(self, split: str) -> Path:
        """Rounded and compressed scores, as in stored results (:mod:`bdd_tf.reports.store`)."""
        return self.path / f"scores-{split}.csv.xz"

    @property
    def tflite_note(self) -> Path:
        """Size and SHA-256 of the .tflite file, which stored results do not contain."""
        return self.path / "tflite.json"

    def benchmarks(self) -> list[Path]:
        """Outputs of `bdd benchmark --output` in this folder, sorted by name."""
        return sorted(self.path.glob("benchmark*.json"))


def run_named(name: str, runs_dir: str | Path = RUNS_DIR) -> Run:
    """Return the run folder of a name or path. It need not exist.

    Raises:
        UsageError: If the name is not a plain folder name.
    """
    if "/" in name:
        return Run(Path(name))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise UsageError(f"run name {name!r} should be letters, digits, '.', '_', '+' and '-'.")
    return Run(Path(runs_dir) / name)


def check_run_folder(run: Run) -> None:
    """Check that the folder of a run exists or can be created.

    Raises:
        UsageError: If there is a file in its place, or in that of a folder above it.
    """
    for path in (run.path, *run.path.parents):
        if path.is_dir():
            return
        if os.path.lexists(path):
            raise UsageError(
                f"the run's folder would be {run.path}, but {path} is not a folder; choose another name or folder."
            )


def existing_run(name: str, runs_dir: str | Path = RUNS_DIR) -> Run:
    """Return the folder of an existing run.

    Raises:
        UsageError: If it does not exist; lists the existing runs.
    """
    run = run_named(name, runs_dir)
    if run.config.is_file():
        return run
    folder = run.path.parent
    others = sorted(p.parent.name for p in folder.glob("*/config.yaml")) if folder.is_dir() else []
    known = f"runs in {folder}: {', '.join(others)}" if others else f"there are no runs in {folder} yet"
    raise UsageError(f"no run {name!r} ({run.config} is missing); {known}. `bdd train` creates one.")


@dataclass(frozen=True)
class Validated:
    """Values chosen on a run's validation split.

    Attributes:
        threshold: Calibrated scores at or above it are called FAKE; in [0, 1].
        temperature: Divisor of the logits (:mod:`bdd_tf.metrics.calibration`); above 0.
        thresholds: Maximum false positive rate (a string such as ``"0.01"``) -> the lowest threshold in [0, 1] that
            keeps it; None if there are too few validation images to determine it.
        scale: Factors of the mean logit of 1, 2, ... native views, for a run with the rule ``views``.
        unsure: Band of calibrated scores that are not decided; None unless the photo protocol chose one.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    thresholds: dict[str, float | None] = field(default_factory=dict)
    scale: tuple[float, ...] = (1.0,)
    unsure: Band | None = None


def validated(run: Run) -> Validated:
    """Read ``metrics-validation.json`` and, for a run on photographs, ``metrics-photos.json``.

    The photo protocol chooses all thresholds on real sources that training never saw, and the scale of several views.

    Returns:
        The chosen values; threshold 0.5, temperature 1 and no other thresholds if the file or its threshold is missing.

    Raises:
        BddError: If temperature or thresholds are damaged, or the protocol was run with other weights.
    """
    try:
        document = json.loads(run.metrics("validation").read_text())
        threshold = _within(document["threshold"], 0, 1)
    except (OSError, ValueError, KeyError, TypeError):
        return Validated()
    try:
        # Versions without a temperature chose the threshold on uncalibrated scores: temperature 1.
        temperature = _within(document.get("temperature", 1.0), 1e-6, 1e6)
        rows = document.get("thresholds", {}).items()
        thresholds = {
            f"{_within(rate, 0, 1):g}": None if row["threshold"] is None else _within(row["threshold"], 0, 1)
            for rate, row in rows
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # No partial result: thresholds are only valid together with their temperature.
        raise BddError(
            f"{run.metrics('validation')} is damaged ({error}); bdd evaluate --run {run.name} --split validation "
            "writes it again."
        ) from error
    chosen = Validated(threshold, temperature, thresholds)
    return _from_photo_protocol(run, chosen) if run.metrics("photos").is_file() else chosen


def _from_photo_protocol(run: Run, chosen: Validated) -> Validated:
    again = f"bdd evaluate --run {run.name} --protocol photos writes it again."
    try:
        document = json.loads(run.metrics("photos").read_text())
        threshold = _score(document["threshold"]["logit"], chosen.temperature)
        thresholds = {
            f"{_within(rate, 0, 1):g}": None if logit is None else _score(logit, chosen.temperature)
            for rate, logit in document["threshold"].get("logits", {}).items()
        }
        whole = document.get("whole") or {}
        scale = tuple(_within(factor, 1e-6, 1e6) for factor in whole.get("scale") or (1.0,))
        ends = [(document.get("unsure") or {}).get(f"{end}_logit") for end in ("low", "high")]
        low, high = (None if end is None else _score(end, chosen.temperature) for end in ends)
        weights = document["detector"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BddError(f"{run.metrics('photos')} is damaged ({error}); {again}") from error
    if weights != hashlib.sha256(trained_weights(run).read_bytes()).hexdigest():
        raise BddError(f"{run.metrics('photos')} was written for other weights; {again}")
    return dataclasses.replace(
        chosen,
        threshold=threshold,
        thresholds=thresholds or chosen.thresholds,
        scale=scale,
        unsure=None if low is None or high is None or low >= high else (low, high),
    )


def _score(logit: Any, temperature: float) -> float:
    """The calibrated score of an uncalibrated logit."""
    calibrated = _within(logit, -1e6, 1e6) / temperature
    return 1 / (1 + math.exp(-max(min(calibrated, 700.0), -700.0)))


def unchosen_notes(run: Run) -> list[str]:
    """Say that a run's threshold is the default one, if nothing chose another; else return nothing."""
    if run.metrics("validation").is_file():
        return []
    return [
        f"no threshold was chosen for {run.name} yet, so that it is 0.5; bdd evaluate --run {run.name} --split validation "
        "chooses one."
    ]


def evaluation_notes(run: Run) -> list[str]:
    """Return the notes of the evaluation on the validation split; none if there was no evaluation."""
    try:
        notes = json.loads(run.metrics("validation").read_text()).get("notes", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _within(value: Any, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high:
        raise ValueError(f"{number:g} is not in [{low:g}, {high:g}]")
    return number


def trained_weights(run: Run) -> Path:
    """Return the weights of a finished run, or the best ones so far of an unfinished run.

    Raises:
        BddError: If the run has no weights yet.
    """
    for path in (run.weights, run.best_weights):
        if path.is_file():
            return path
    raise BddError(
        f"run {run.name} has no trained weights yet ({run.weights} is missing); "
        f"finish it with the same `bdd train` command."
    )
