"""The paper's comparison on COCOFake in twelve rows: six of BNext, six of pretrained float networks, beside our measurements."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.reports import published
from bdd_tf.reports.cost_tables import benchmark_names
from bdd_tf.reports.costs import Cost
from bdd_tf.reports.latency import Latency, fastest
from bdd_tf.reports.markdown import ABSENT, latency_ms, megabytes, percent, table
from bdd_tf.reports.parsing import escaped
from bdd_tf.reports.tables import training_command

_NOTES = (
    "\nAccuracy: on COCOFake's test split, {source}. Ours: the run on COCOFake that is named like the row's preset. "
    "Parameters and operations: as printed, and counted here with one output at 224 px (binary MACs / 64 + float MACs, with "
    "both products of attention; BNext with RGB only). The paper's 25.6 M and 88.3 M include a classifier of 1000 classes: "
    "23.5 M + 2.05 M for ResNet50, and for ViT-B/32 87.5 M + 0.77 M = 88.2 M at 224 px, or 88.3 M with the positions of "
    "384 px. CLIP: the image tower with its projection, without the text tower. File: float32, BNext binary with RGB, FFT "
    "and LBP.\n"
)


#: The data set of the paper's comparison.
DATASET = "cocofake"


@dataclass(frozen=True)
class Row:
    """A row of the comparison.

    Attributes:
        name: Name as printed.
        backbone: Name of our backbone.
        preset: Name of the preset that trains it, and of the run that fills the row.
        accuracy: Printed accuracy in [0, 1].
        parameters: Printed number of parameters, or None.
        operations: Printed number of operations, or None.
        command: The command that fills the row.
    """

    name: str
    backbone: str
    preset: str
    accuracy: float
    parameters: float | None
    operations: float | None
    command: str


def comparison_rows() -> list[Row]:
    """Return the twelve rows in the paper's order: float networks, then BNext frozen and trained."""
    rows = [
        Row(b.name, b.backbone, b.preset, b.accuracy, b.parameters, b.operations, _probe_command(b))
        for b in published.BASELINES
    ]
    for printed in sorted((r for r in published.RESULTS if r.dataset == DATASET), key=lambda r: not r.frozen):
        size, name = printed.backbone, f"BNext-{printed.backbone[-1].upper()}"
        rows.append(
            Row(
                f"{name}, frozen" if printed.frozen else name, size, printed.preset, printed.accuracy,
                published.PARAMETERS[size] * 1e6, published.OPERATIONS[size] * 1e9, training_command(printed),
            )
        )  # fmt: skip
    return rows


def _probe_command(baseline: published.Baseline) -> str:
    run = baseline.run
    return (
        f"bdd convert --from-hub {baseline.hub} --run {run} && bdd train --preset {baseline.preset} --init {run} "
        f"--data-dir ... --run {baseline.preset} && bdd evaluate --run {baseline.preset}"
    )


def comparison(rows: list[dict], counted: list[Cost], latencies: list[Latency]) -> tuple[str, list[dict]]:
    """Format the comparison.

    Args:
        rows: Our runs, as :func:`bdd_tf.reports.run_summary.describe` returns them.
        counted: As :func:`bdd_tf.reports.costs.read` returns them.
        latencies: Of all stored benchmarks.

    Returns:
        Markdown that ends with a line break, and the rows as data.
    """
    header = ["network", "paper accuracy %", "ours %", "paper parameters, M", "ours, M", "paper operations, G", "ours, G",
              "file, MB", "latency, ms", "/ MobileNetV2"]  # fmt: skip
    lines, data, missing, used = [], [], [], []
    # Of a backbone's counts, the one with a file: of a BNext that with all channels.
    files = {c.name: c for c in sorted(counted, key=lambda c: c.bytes is not None)}
    fullest = _fullest(list(files.values()), latencies)
    for row in comparison_rows():
        run = next((r for r in rows if _fills(r, row)), None)
        cost = next((c for c in counted if (c.name, c.channels) == (row.backbone, "rgb")), None)
        file = files.get(row.backbone)
        timed = _timed(file, latencies, fullest)
        size = (timed.nbytes if timed else None) or (file.bytes if file else None)
        if timed:
            used.append(timed)
        if run is None:
            missing.append(row)
        ours = None if run is None else run["test"]["accuracy"]
        lines.append(
            [escaped(row.name), percent(row.accuracy), "not run" if ours is None else percent(ours),
             _scaled(row.parameters, 1e6, 1), _scaled(cost.parameters if cost else None, 1e6, 1),
             _scaled(row.operations, 1e9, 2), _scaled(cost.operations if cost else None, 1e9, 3),
             megabytes(size),
             latency_ms(timed.to_dict() if timed else None), _scaled(timed.ratio if timed else None, 1, 2)]
        )  # fmt: skip
        data.append(
            {"name": row.name, "backbone": row.backbone, "preset": row.preset, "paper_accuracy": row.accuracy,
             "accuracy": ours, "paper_parameters": row.parameters, "parameters": cost.parameters if cost else None,
             "paper_operations": row.operations, "operations": cost.operations if cost else None,
             "bytes": size, "latency": timed.to_dict() if timed else None, "command": row.command}
        )  # fmt: skip
    text = table(header, lines, 1) + "\n" + _NOTES.format(source=published.SOURCE)
    if used:
        machines = dict.fromkeys(escaped(latency.machine) for latency in used)
        turns = ", all in turns in one benchmark" if len({latency.source for latency in used}) == 1 else ""
        text += f"Latency: median time of one image on one thread, random weights{turns}; {'; '.join(machines)}.\n"
    if missing:
        text += "\nNot run: these rows need COCOFake (`--data-dir`) and published weights. One command fills each; without "
        text += "network, `--from-hub` names the file to download and its folder.\n\n```\n"
        text += "\n".join(row.command for row in missing) + "\n```\n"
    return text, data


def _fills(run: dict, row: Row) -> bool:
    """Whether a run is that of a row's preset, evaluated on the paper's data set: settings may replace a preset's."""
    return (
        (run["run"], run["dataset"], run["backbone"]) == (row.preset, DATASET, row.backbone)
        and run["test"]["accuracy"] is not None
    )  # fmt: skip


def _fullest(files: list[Cost], latencies: list[Latency]) -> str:
    """Return the source of the benchmark that measured most of the files: only rows of one benchmark can be compared."""
    known = {name for file in files for name in benchmark_names(file)}
    found = Counter(
        source for source, _ in {(one.source, one.name) for one in latencies if one.name in known}
    )
    return max(sorted(found), key=found.__getitem__, default="")


def _timed(cost: Cost | None, latencies: list[Latency], fullest: str) -> Latency | None:
    """Return the latency of a file in the benchmark named `fullest`, or else in any other one."""
    names = benchmark_names(cost) if cost else ()
    found = [latency for latency in latencies if latency.name in names]
    return fastest([latency for latency in found if latency.source == fullest] or found)


def points(data: list[dict]) -> list[tuple[str, bool, float, float]]:
    """Return the rows with a latency as points for a figure: name, whether it is binary, latency in ms, printed accuracy.

    Args:
        data: The rows that :func:`comparison` returned.
    """
    return [
        (row["name"], row["backbone"] in BNEXT, row["latency"]["median_ms"], row["paper_accuracy"])
        for row in data
        if row["latency"]
    ]


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return ABSENT if value is None else f"{value / unit:.{digits}f}"
