"""Compare runs side by side, without the paper's tables: a column per run, a row per quantity."""

from __future__ import annotations

from collections.abc import Callable

from bdd_tf.reports.markdown import ABSENT, cell, count, latency_ms, percent, table
from bdd_tf.reports.parsing import escaped
from bdd_tf.reports.tables import remarks


def markdown(rows: list[dict]) -> str:
    """Compare runs.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.

    Returns:
        Markdown that ends with a line break. Quantities that no run has are left out.
    """
    lines = [[title, *map(form, rows)] for title, form in _QUANTITIES.items()]
    lines = [line for line in lines if set(line[1:]) != {ABSENT}]
    text = table(["", *(escaped(row["run"]) for row in rows)], lines, 1) + "\n"
    text += "\nBrackets: 95 % bootstrap interval over images. `bdd report --compare RUN RUN` tests the difference of two runs.\n"
    return text + remarks(rows)


def _value(key: str) -> Callable[[dict], str]:
    return lambda row: cell(row[key])


def _count(key: str) -> Callable[[dict], str]:
    return lambda row: count(row[key])


def _metric(split: str, key: str) -> Callable[[dict], str]:
    return lambda row: percent(row[split][key], row[split].get(f"{key}_interval"))


def _images(split: str) -> Callable[[dict], str]:
    return lambda row: ABSENT if row[split]["images"] is None else f"{row[split]['images']:,}"


def _start(row: dict) -> str:
    if row["settings"] is None:
        return ABSENT
    return f"{escaped(row['init'] or 'scratch')}{', frozen' if row['frozen'] else ''}"


def _epochs(row: dict) -> str:
    planned = (row["settings"] or {}).get("epochs")
    if row["epochs"] is None:
        return ABSENT
    return f"{row['epochs']}" if planned is None else f"{row['epochs']} of {escaped(planned)}"


def _duration(row: dict) -> str:
    seconds = row["training_seconds"]
    return ABSENT if seconds is None else f"{seconds / 60:.1f} min"


def _bytes(row: dict) -> str:
    return ABSENT if row["tflite_bytes"] is None else f"{row['tflite_bytes']:,}"


#: Title of a row -> its cell for a run.
_QUANTITIES: dict[str, Callable[[dict], str]] = {
    "data set": _value("dataset"),
    "backbone": _value("backbone"),
    "channels": _value("channels"),
    "px": _value("resolution"),
    "start": _start,
    "seed": _value("seed"),
    "epochs": _epochs,
    "images seen": _count("images_seen"),
    "training time": _duration,
    "parameters": _count("parameters"),
    "binary MACs": _count("binary_macs"),
    "float MACs": _count("float_macs"),
    "MACs of channels": _count("channel_macs"),
    "validation images": _images("validation"),
    "validation accuracy %": _metric("validation", "accuracy"),
    "validation AUC %": _metric("validation", "auc"),
    "test images": _images("test"),
    "test accuracy %": _metric("test", "accuracy"),
    "test AUC %": _metric("test", "auc"),
    "deduplicated accuracy %": _metric("deduplicated", "accuracy"),
    "photo protocol, balanced accuracy %": _metric("protocol", "balanced_accuracy"),
    "photo protocol, AUC %": _metric("protocol", "auc"),
    "file, bytes": _bytes,
    "latency, ms": lambda row: latency_ms(row["latency"]),
}
