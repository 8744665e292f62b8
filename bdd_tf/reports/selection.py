"""Select the runs that tables and figures compare."""

from __future__ import annotations


def chosen(rows: list[dict], dataset: str | None, backbone: str | None, frozen: bool) -> dict | None:
    """Return the best evaluated run of a kind.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.
        dataset: Data set of the kind.
        backbone: Backbone of the kind.
        frozen: Whether the backbone was frozen.

    Returns:
        The run with the highest validation accuracy; the first one if none is known; None if there is no run.
    """
    mine = [
        row
        for row in rows
        if (row["dataset"], row["backbone"], row["frozen"]) == (dataset, backbone, frozen)
        and row["test"]["accuracy"] is not None
    ]
    return max(mine, key=lambda row: row["validation"]["accuracy"] or 0, default=None)


def shown(rows: list[dict], dataset: str, needed: str | None = None) -> list[dict]:
    """Return the runs on a data set to compare, highest test accuracy first.

    For each backbone this is the run with the highest validation accuracy. Longer training is not a property of a
    network: for each of these runs, the other backbones' best runs with the same number of training images are added.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.
        dataset: Name of the data set.
        needed: Key that a run must have (``scores``, ``latency``); None: no condition.
    """
    rows = [row for row in rows if row["dataset"] == dataset and (needed is None or row[needed])]
    kinds = sorted({(row["backbone"] or "", row["frozen"]) for row in rows})
    best = [row for kind in kinds if (row := chosen(rows, dataset, *kind))]
    found = {row["folder"]: row for row in best}
    for baseline in best:
        alike = [row for row in rows if row["images_seen"] is not None and _budget(row) == _budget(baseline)]
        for kind in kinds:
            if row := chosen(alike, dataset, *kind):
                found.setdefault(row["folder"], row)
    return sorted(found.values(), key=lambda row: -row["test"]["accuracy"])


def _budget(row: dict) -> tuple:
    return row["images_seen"], row["channels"], row["resolution"], row["frozen"]
