"""Summarise a run, finished or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bdd_tf.errors import BddError
from bdd_tf.reports.latency import fastest, measured
from bdd_tf.reports.parsing import interval, number, read_json, read_yaml, share, text
from bdd_tf.reports.store import scores_file, settings
from bdd_tf.runs import Run
from bdd_tf.training.history import read_history

#: Data sets that may have no test split: a run without an evaluation on one can be complete.
MAY_LACK_TEST = ("folder", "manifest", "photos")


def describe(run: Run) -> dict:
    """Summarise a run, whether it is finished, partial or damaged.

    Args:
        run: The run's folder, or a stored result.

    Returns:
        ``run``, ``folder``, ``stored`` (a folder without weights), ``dataset``, ``backbone``, ``channels``,
        ``resolution``, ``frozen``, ``seed``, ``init``, ``settings`` (:func:`bdd_tf.reports.store.settings`),
        ``parameters``, ``binary_macs``, ``float_macs``, ``channel_macs``, ``epochs``, ``images_seen``,
        ``training_seconds``, ``validation`` and ``test`` (each ``images``, ``accuracy``, ``accuracy_interval``,
        ``auc``, ``auc_interval``, ``threshold``, ``ece``, ``ece_calibrated``, ``temperature``), ``deduplicated``
        (``images``, ``accuracy``, ``auc`` of the test split without leaked images), ``tflite_bytes``, ``latency``
        (of its file, with the fewest threads), ``robustness`` (rows of the test split), ``scores`` (whether there are
        any), ``figures`` (file names), ``protocol`` (``auc`` and ``balanced_accuracy`` of the photo protocol on images as they
        are), ``untested`` (how to evaluate a run on test images that its data set need not have; None if it was) and
        ``missing`` (a message per missing file, with the command that writes it). Unknown values are None.
    """
    missing: list[str] = []
    config = _read(run.config, read_yaml, "the settings of the run are unknown", missing)
    history = _read_history(run, config, missing)
    untested = _untested(run, config)
    documents = {
        split: _read(run.metrics(split), read_json, f"bdd evaluate --run {run.name}{options}", missing)
        for split, options in (("validation", " --split validation"), ("test", ""))
        if split == "validation"
        or run.metrics("test").is_file()
        or text(config.get("dataset")) not in MAY_LACK_TEST
    }
    documents.setdefault("test", {})
    stored = _stored(run)
    if not run.tflite.is_file() and not stored:
        missing.append(f"no {run.tflite.name}: bdd convert --run {run.name}")
    latencies, notes = measured(run)
    best = fastest([found for found in latencies if found.owner])
    robustness = _read_robustness(run, notes)
    return {
        "run": run.name,
        "folder": run.path.as_posix(),
        "stored": stored,
        **_experiment(config),
        **_sizes(documents, config),
        **{key: history.get(key) for key in ("epochs", "images_seen", "training_seconds")},
        **{split: _metrics(document) for split, document in documents.items()},
        "deduplicated": _deduplicated(documents["test"]),
        "tflite_bytes": _tflite_bytes(run),
        "latency": best.to_dict() if best else None,
        "robustness": robustness,
        "scores": scores_file(run) is not None,
        "figures": sorted(p.name for p in run.figures.glob("*.png")) if run.figures.is_dir() else [],
        "protocol": _protocol(run, notes),
        "untested": untested,
        "missing": missing + notes,
    }


def _untested(run: Run, config: dict) -> str | None:
    """Return the command that evaluates a run on test images, if its data set need not have any; None if it was done."""
    dataset = text(config.get("dataset"))
    if dataset not in MAY_LACK_TEST or run.metrics("test").is_file():
        return None
    if dataset != "photos":
        return f"bdd evaluate --run {run.name}, if its data set has a test split"
    return None if run.photo_protocol.is_file() else f"bdd evaluate --run {run.name} --protocol photos"


def _protocol(run: Run, notes: list[str]) -> dict:
    """Read the result of the photo protocol on images as they are; if the file is damaged, add a note."""
    found: dict = {}
    if run.photo_protocol.is_file():
        try:
            found = read_json(run.photo_protocol)
        except BddError as error:
            notes.append(str(error))
    for key in ("summary", "clean"):
        inner = found.get(key)
        found = inner if isinstance(inner, dict) else {}
    return {key: share(found, key) for key in ("auc", "balanced_accuracy")}


def _read(path: Path, reader: Callable[[Path], dict], remedy: str, missing: list[str]) -> dict:
    """Read a file; if it is missing or damaged, add a message to `missing` and return an empty dict."""
    try:
        if path.is_file():
            return reader(path)
        missing.append(f"no {path.name}: {remedy}")
    except BddError as error:
        missing.append(str(error))
    return {}


def _read_history(run: Run, config: dict, missing: list[str]) -> dict:
    """Read the training budget of a run. An imported run has no history."""
    imported = not run.history.is_file() and run.weights.is_file()
    history = {} if imported else _read(run.history, _history, "no epoch is finished", missing)
    planned = number(config, "epochs")
    if planned and history.get("epochs", planned) < planned:
        missing.append(
            f"{history['epochs']} of {planned} epochs: the same `bdd train` command resumes the training"
        )
    return history


def _history(path: Path) -> dict:
    rows = read_history(path)
    last, spent = rows[-1], [seconds for row in rows if (seconds := row.get("seconds")) is not None]
    return {
        "epochs": last["epoch"],
        "images_seen": last.get("images"),
        # Without the time of one epoch, the sum would be too small.
        "training_seconds": round(sum(spent), 1) if len(spent) == len(rows) else None,
    }


def _experiment(config: dict) -> dict:
    return {
        **{key: text(config.get(key)) for key in ("dataset", "backbone", "channels")},
        "resolution": number(config, "resolution"),
        "frozen": config.get("freeze") is True,
        "seed": number(config, "seed"),
        "init": text(config.get("init")),
        "settings": settings(config) if config else None,
    }


def _sizes(documents: dict[str, dict], config: dict) -> dict:
    sources = (documents["test"], documents["validation"], config)
    return {
        key: next((n for n in (number(s, key) for s in sources) if n is not None), None)
        for key in ("parameters", "binary_macs", "float_macs", "channel_macs")
    }


def _metrics(document: dict) -> dict:
    found: dict[str, object] = {key: number(document, key) for key in ("images", "temperature")}
    found |= {key: share(document, key) for key in ("threshold", "ece", "ece_calibrated")}
    for key in ("accuracy", "auc"):
        found[key] = share(document, key)
        found[f"{key}_interval"] = interval(document, key)
    return found


def _deduplicated(document: dict) -> dict:
    clean = document.get("deduplicated")
    clean = clean if isinstance(clean, dict) else {}
    return {"images": number(clean, "images"), **{key: share(clean, key) for key in ("accuracy", "auc")}}


def _read_robustness(run: Run, notes: list[str]) -> list[dict]:
    """Read the robustness on the test split; if the file is damaged, add a note."""
    if not run.robustness("test").is_file():
        return []
    try:
        return _robustness(read_json(run.robustness("test")))
    except BddError as error:
        notes.append(str(error))
        return []


def _robustness(document: dict) -> list[dict]:
    units = document.get("perturbations")
    units = units if isinstance(units, dict) else {}
    listed = document.get("rows")
    rows = [{"perturbation": None, **document["clean"]}] if isinstance(document.get("clean"), dict) else []
    rows += [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    found = []
    for row in rows:
        unit = units.get(row.get("perturbation")) if isinstance(row.get("perturbation"), str) else None
        found.append(
            {
                "perturbation": text(row.get("perturbation")),
                "severity": number(row, "severity"),
                "unit": text(unit.get("unit")) if isinstance(unit, dict) else None,
                **{key: share(row, key) for key in ("accuracy", "auc")},
            }
        )
    return found


def _stored(run: Run) -> bool:
    """Whether the folder is a stored result: evaluated or converted, without weights, checkpoints and file."""
    left = (run.checkpoints, run.weights, run.scores("test"))
    kept = (run.metrics("test"), run.tflite_note)
    return any(path.is_file() for path in kept) and not any(path.exists() for path in left)


def _tflite_bytes(run: Run) -> int | None:
    if run.tflite.is_file():
        return run.tflite.stat().st_size
    try:
        size = number(read_json(run.tflite_note), "bytes")
    except BddError:
        return None
    return None if size is None else int(size)
