"""What is known of one run, whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bdd_tf.errors import BddError
from bdd_tf.reports.latency import fastest, measured
from bdd_tf.reports.reading import interval, number, read_json, read_yaml, share, text
from bdd_tf.reports.store import scores_file, settings
from bdd_tf.runs import Run, read_history


def _history(path: Path) -> dict:
    rows = read_history(path)
    last, spent = rows[-1], [row.get("seconds") for row in rows]
    return {
        "epochs": last["epoch"],
        "images_seen": last.get("images"),
        # Where one epoch does not tell, the sum would be too small.
        "training_seconds": None if None in spent else round(sum(spent), 1),
    }


def _robustness(run: Run) -> list[dict]:
    document = read_json(run.robustness("test"))
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


def describe(run: Run) -> dict:
    """What is known of a run, whatever state it is in.

    Args:
        run: Its folder.

    Returns:
        ``run``, ``folder``, ``stored`` (a folder without weights), ``dataset``, ``backbone``, ``channels``,
        ``resolution``, ``frozen``, ``seed``, ``init``, ``settings`` (:func:`bdd_tf.reports.store.settings`),
        ``parameters``, ``binary_macs``, ``float_macs``, ``channel_macs``, ``epochs``, ``images_seen``,
        ``training_seconds``, ``validation`` and ``test`` (each ``images``, ``accuracy``, ``accuracy_interval``,
        ``auc``, ``auc_interval``, ``threshold``, ``ece``, ``ece_calibrated``, ``temperature``), ``deduplicated``
        (``images``, ``accuracy``, ``auc`` of the test split without leaked images), ``tflite_bytes``, ``latency``
        (its file on one thread), ``robustness`` (rows of the test split), ``scores`` (whether there are any),
        ``figures`` (file names) and ``missing``, sentences on what is not there and what makes it. What is unknown
        is None.
    """
    missing: list[str] = []

    def read(path: Path, reader: Callable[[Path], dict], remedy: str) -> dict:
        try:
            if path.is_file():
                return reader(path)
            missing.append(f"no {path.name}: {remedy}")
        except BddError as error:
            missing.append(str(error))
        return {}

    name = run.name
    config = read(run.config, read_yaml, "the run's settings are unknown")
    imported = not run.history.is_file() and run.weights.is_file()
    history = {} if imported else read(run.history, _history, "no epoch is finished")
    planned = number(config, "epochs")
    if planned and history.get("epochs", planned) < planned:
        missing.append(f"{history['epochs']} of {planned} epochs: the same `make train` continues it")
    documents = {
        "validation": read(
            run.metrics("validation"), read_json, f"make evaluate RUN={name} SPLIT=validation"
        ),
        "test": read(run.metrics("test"), read_json, f"make evaluate RUN={name}"),
    }
    stored = _stored(run)
    if not run.tflite.is_file() and not stored:
        missing.append(f"no {run.tflite.name}: make convert RUN={name}")
    row: dict = {"run": name, "folder": run.path.as_posix(), "stored": stored}
    for key in ("dataset", "backbone", "channels"):
        row[key] = text(config.get(key))
    row["resolution"] = number(config, "resolution")
    row["frozen"], row["seed"] = config.get("freeze") is True, number(config, "seed")
    row["init"] = text(config.get("init"))
    row["settings"] = settings(config) if config else None
    sources = (documents["test"], documents["validation"], config)
    for key in ("parameters", "binary_macs", "float_macs", "channel_macs"):
        row[key] = next((n for n in (number(s, key) for s in sources) if n is not None), None)
    for key in ("epochs", "images_seen", "training_seconds"):
        row[key] = history.get(key)
    for split, document in documents.items():
        row[split] = {key: number(document, key) for key in ("images", "temperature")}
        row[split] |= {key: share(document, key) for key in ("threshold", "ece", "ece_calibrated")}
        for key in ("accuracy", "auc"):
            row[split][key] = share(document, key)
            row[split][f"{key}_interval"] = interval(document, key)
    clean = documents["test"].get("deduplicated")
    clean = clean if isinstance(clean, dict) else {}
    row["deduplicated"] = {"images": number(clean, "images")}
    row["deduplicated"] |= {key: share(clean, key) for key in ("accuracy", "auc")}
    row["tflite_bytes"] = _tflite_bytes(run)
    latencies, notes = measured(run)
    best = fastest([found for found in latencies if found.owner])
    row["latency"] = best.to_dict() if best else None
    row["robustness"] = []
    if run.robustness("test").is_file():
        try:
            row["robustness"] = _robustness(run)
        except BddError as error:
            notes.append(str(error))
    missing += notes
    row["scores"] = scores_file(run) is not None
    row["figures"] = sorted(p.name for p in run.figures.glob("*.png")) if run.figures.is_dir() else []
    row["missing"] = missing
    return row


def _stored(run: Run) -> bool:
    """Whether the folder is a stored result: evaluated, with nothing in it that could be run or trained on."""
    left = (run.checkpoints, run.weights, run.scores("test"))
    return run.metrics("test").is_file() and not any(path.exists() for path in left)


def _tflite_bytes(run: Run) -> int | None:
    if run.tflite.is_file():
        return run.tflite.stat().st_size
    try:
        size = number(read_json(run.tflite_note), "bytes")
    except BddError:
        return None
    return None if size is None else int(size)
