"""Stored results: the small files of a run, without weights, in ``results/NAME``, which is under version control.

They suffice to make reports on any machine, without the data and the weights.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import os
import shutil
import tempfile
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.metrics import score_files
from bdd_tf.reports.parsing import LIMIT, number, read_json, read_yaml
from bdd_tf.runs import RUNS_DIR, Run, run_named

RESULTS_DIR = "results"
#: Decimals of a stored score. A score has more if rounding would change its verdict.
DECIMALS = 5
#: Settings that describe a machine, not an experiment.
PLACES = ("data_dir",)
#: Files that are copied unchanged.
_SMALL = ("history.csv", "trainer.json", "metrics-*.json", "robustness-*.json", "benchmark*.json")
#: Copied on request.
_GALLERY = "figures/gallery-test.png"
#: Largest accepted size of a gallery in bytes.
GALLERY_LIMIT = 16 << 20
#: Largest accepted size of a .tflite file in bytes; VGG16 has 537 MB. Only its size and hash are stored.
LARGEST_FILE = 2 << 30


def settings(values: dict) -> dict:
    """Normalise a configuration, so that equal experiments have equal settings.

    Args:
        values: Content of a ``config.yaml``. An older version may lack fields; a newer one may have unknown fields.

    Returns:
        All fields sorted by name, without those in :data:`PLACES`.
    """
    try:
        known = Experiment.from_dict(values).to_dict()
    except (BddError, TypeError, ValueError):
        known = {**Experiment().to_dict(), **values}
    return {key: known[key] for key in sorted(known, key=str) if key not in PLACES}


def compact(path: str | Path, threshold: float) -> bytes:
    """Round and compress a table of scores, to about 70 kB for 20,000 images.

    Args:
        path: A file written by :func:`bdd_tf.metrics.score_files.write_scores_csv`.
        threshold: Threshold of the run. No rounded score lies on the other side of it.

    Returns:
        An xz file with the same columns, sorted by path. Scores have five decimals, or more if their verdict needs them.

    Raises:
        BddError: If the table is missing or damaged.
    """
    rows = sorted(zip(*score_files.read_scores_csv(path), strict=True))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(score_files.SCORE_COLUMNS)
    for name, label, score in rows:
        table.writerow((name, int(label), _rounded(float(score), threshold)))
    content = text.getvalue().encode("utf-8", "surrogateescape")
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)


def _rounded(score: float, threshold: float) -> str:
    for decimals in range(DECIMALS, 17):
        value = f"{score:.{decimals}f}"
        if (float(value) >= threshold) == (score >= threshold):
            return value.rstrip("0").rstrip(".")
    return repr(score)


def scores_file(run: Run, split: str = "test") -> Path | None:
    """Return the file of a run's scores, in full or compact form; None if there is none."""
    return next((p for p in (run.scores(split), run.compact_scores(split)) if p.is_file()), None)


def store(
    run: Run, results: str | Path = RESULTS_DIR, *, name: str | None = None, gallery: bool = False,
    unevaluated: bool = False,
) -> Path:  # fmt: skip
    """Copy a run's small files to ``results/NAME``, without weights and checkpoints.

    Args:
        run: A run folder.
        results: Folder of stored results.
        name: Name of the stored result; None: the run's name.
        gallery: Whether to store the gallery. A gallery that was stored before is updated in any case.
        unevaluated: Whether to accept a run without metrics of the test split.

    Returns:
        The folder. Further files in it (e.g. a benchmark) are kept.

    Raises:
        UsageError: If the name belongs to another experiment, or is invalid.
        BddError: If the test split was not evaluated, or a file is damaged or too large.
    """
    if not run.metrics("test").is_file() and not unevaluated:
        raise BddError(
            f"run {run.name} has no {run.metrics('test').name}: `bdd evaluate --run {run.name}` writes it, or add "
            "--unevaluated to store the run without it."
        )
    config = read_yaml(run.config)
    target = run_named(name or run.name, results).path
    if target.parent != Path(results):
        raise UsageError(f"{name!r} is not a valid name of a stored result; use letters, digits and '-'.")
    if target.is_dir() and (target / "config.yaml").is_file():
        _same(settings(config), target)
    content = {"config.yaml": _yaml({**config, **{key: None for key in PLACES if key in config}})}
    for pattern in _SMALL:
        for path in run.path.glob(pattern):
            content[path.name] = _bytes(path, LIMIT)
    if run.tflite.is_file():
        content[run.tflite_note.name] = tflite_note(_bytes(run.tflite, LARGEST_FILE))
    if (run.path / _GALLERY).is_file() and (gallery or (target / _GALLERY).is_file()):
        content[_GALLERY] = _bytes(run.path / _GALLERY, GALLERY_LIMIT)
    if run.scores("test").is_file():
        found = number(read_json(run.metrics("test")), "threshold") if run.metrics("test").is_file() else None
        threshold = 0.5 if found is None else found
        content[run.compact_scores("test").name] = compact(run.scores("test"), threshold)
    _replace(target, content)
    return target


def tflite_note(file: bytes) -> bytes:
    """Return the size and the SHA-256 of a .tflite file as JSON, which are stored instead of it."""
    note = {"bytes": len(file), "sha256": hashlib.sha256(file).hexdigest()}
    return (json.dumps(note) + "\n").encode()


def _same(wanted: dict, target: Path) -> None:
    there = settings(read_yaml(target / "config.yaml"))
    changes = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    if changes:
        listed = "; ".join(f"{k}: {there.get(k)} there, {wanted.get(k)} now" for k in changes)
        raise UsageError(f"{target} holds another experiment ({listed}); choose another name with --as.")


def _bytes(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise BddError(f"{path} has {size:,} bytes; at most {limit:,} are stored.")
    return path.read_bytes()


def _yaml(values: dict) -> bytes:
    import yaml

    return yaml.safe_dump(values, sort_keys=False).encode()


def _replace(target: Path, content: dict[str, bytes]) -> None:
    """Write files into a folder atomically: a reader sees all of them or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    old = staging.with_suffix(".old.tmp")
    try:
        if target.is_dir():
            shutil.copytree(target, staging, dirs_exist_ok=True)
        for name, data in content.items():
            path = staging / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o644)
        staging.chmod(0o755)
        if target.is_dir():
            os.replace(target, old)
        try:
            os.replace(staging, target)
        except OSError:
            if old.is_dir():
                os.replace(old, target)
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _is_run(folder: Path) -> bool:
    run = Run(folder)
    traces = (run.config, run.checkpoints, run.history, run.tflite, run.weights)
    return any(p.exists() for p in traces) or any(folder.glob("metrics-*.json"))


def runs_in(folder: str | Path) -> list[Run]:
    """Return the run folders in a folder, finished or not, sorted by name; empty if it does not exist."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return [
        Run(p) for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".") and _is_run(p)
    ]


def collect(results: str | Path = RESULTS_DIR, runs: str | Path | None = RUNS_DIR) -> list[Run]:
    """Return stored results and run folders, sorted by name.

    Args:
        results: Folder of stored results.
        runs: Folder of runs; None: stored results only.

    Returns:
        A run that is also stored is returned once: the run folder if its test split was evaluated or the stored one's
        was not, else the stored result. Different experiments with the same name are both returned.

    Raises:
        UsageError: If both folders are empty.
    """
    stored, own = runs_in(results), runs_in(runs) if runs is not None else []
    named = {run.name: run for run in own}
    kept = []
    for result in stored:
        run = named.get(result.name)
        if run is None or not _equal(run, result):
            kept.append(result)
        elif run.metrics("test").is_file() or not result.metrics("test").is_file():
            continue
        else:
            kept.append(result)
            own.remove(run)
    found = sorted([*kept, *own], key=lambda run: run.name)
    if not found:
        where = f"{results}" if runs is None else f"{runs} or {results}"
        raise UsageError(
            f"there are no runs in {where}: train one with `bdd train`, or name other folders with --runs-dir and "
            "--results-dir."
        )
    return found


def _equal(first: Run, second: Run) -> bool:
    try:
        one, two = (settings(read_yaml(run.config)) for run in (first, second))
    except BddError:
        return False
    return one == two


def run_or_result(name: str, runs: str | Path = RUNS_DIR, results: str | Path = RESULTS_DIR) -> Run:
    """Return a run folder by name or path, or else the stored result of that name.

    Raises:
        UsageError: If there is neither. The message lists the existing ones.
    """
    found = [run_named(name, runs)] if "/" in name else [run_named(name, runs), run_named(name, results)]
    for run in found:
        if scores_file(run) is not None:
            return run
    for run in found:
        if run.path.is_dir() and _is_run(run.path):
            return run
    names = sorted({run.name for folder in (runs, results) for run in runs_in(folder)})
    known = f"existing: {', '.join(names)}" if names else "there are none; `bdd train` makes one"
    raise UsageError(f"no run {name!r} in {runs} or {results}; {known}.")
