"""The report's tables of costs and backbones: operations, sizes and latencies."""

from __future__ import annotations

from bdd_tf.reports import published
from bdd_tf.reports.costs import Cost
from bdd_tf.reports.latency import Latency, fastest
from bdd_tf.reports.markdown import ABSENT, cell, count, latency_ms, megabytes, percent, table
from bdd_tf.reports.parsing import escaped
from bdd_tf.reports.selection import shown

_COST_NOTES = (
    "\nOperations: binary MACs / 64 + float MACs, as the paper defines them, plus those of the channels, which the paper "
    "omits. The printed numbers are ten times those of this definition. The paper's classifier has 1000 outputs instead "
    "of one, which accounts for only 0.001 to 0.0016 G. Float networks: keras.applications with one output, VGG16 with "
    "its fully connected layers, and the detectors of ViT, CLIP and ResNet50 v1.5; float32 files.\n"
)
_LATENCY_NOTES = (
    "Last column: ratio to the median of MobileNetV2 in the same benchmark. Compare rows by this column, because they come "
    "from several benchmarks on a shared machine. A row has no latency if only a smaller network of that name was measured "
    "(VGG16 without its fully connected layers).\n"
)
_BASELINE_NOTES = (
    "For each backbone: the run with the highest validation accuracy, and runs with as many training images as the chosen "
    "run of another backbone. Compare networks with equal numbers of images seen. Hours: training time, on the machine "
    "that was used. Operations: binary MACs / 64 + float + channel MACs. "
)


def benchmark_names(cost: Cost) -> tuple[str, str]:
    """Return the names that `bdd benchmark` gives a network with random weights at 224 px, as a model and a baseline."""
    return f"{cost.name}-224-{cost.channels.replace(',', '-')}", f"{cost.name} 224"


def _same_file(cost: Cost, latency: Latency) -> bool:
    """Whether cost and latency may belong to the same network, judged by size: VGG16 also exists without dense layers."""
    if cost.bytes is None or latency.nbytes is None:
        return True
    return abs(cost.bytes - latency.nbytes) <= 0.02 * cost.bytes


def costs(counted: list[Cost], latencies: list[Latency]) -> tuple[str, list[dict]]:
    """Format the costs of networks at 224 px.

    Args:
        counted: As :func:`bdd_tf.reports.costs.read` returns them.
        latencies: Latencies of all stored benchmarks. Those of networks with random weights at 224 px are shown.

    Returns:
        Markdown that ends with a line break, and the rows as data.
    """
    header = ["network at 224 px", "channels", "parameters", "binary MACs", "float MACs", "channel MACs",
              "operations, G", "paper, G", "ratio", "file, MB", "latency, ms", "/ MobileNetV2"]  # fmt: skip
    lines, data, machines = [], [], []
    for cost in counted:
        printed = published.OPERATIONS.get(cost.name) if cost.channels == "rgb" else None
        names = benchmark_names(cost)[: 2 - cost.binary]
        found = fastest(
            [latency for latency in latencies if latency.name in names and _same_file(cost, latency)]
        )
        giga = cost.operations / 1e9
        timed = found.to_dict() if found else None
        if found and found.machine not in machines:
            machines.append(found.machine)
        lines.append(
            [escaped(cost.name), escaped(cost.channels), count(cost.parameters), count(cost.binary_macs),
             count(cost.float_macs), count(cost.channel_macs), f"{giga:.4f}",
             ABSENT if printed is None else f"{printed:.2f}", ABSENT if printed is None else f"{printed / giga:.1f}",
             megabytes(cost.bytes), latency_ms(timed), ABSENT if found is None or found.ratio is None else f"{found.ratio:.2f}"]
        )  # fmt: skip
        data.append(
            {"name": cost.name, "channels": cost.channels, "parameters": cost.parameters,
             "binary_macs": cost.binary_macs, "float_macs": cost.float_macs, "channel_macs": cost.channel_macs,
             "operations": cost.operations, "paper_operations": None if printed is None else printed * 1e9,
             "bytes": cost.bytes, "latency": timed}
        )  # fmt: skip
    text = table(header, lines, 2) + "\n"
    text += _COST_NOTES
    if machines:
        text += f"\nLatency: median time of one image on one thread, random weights; {'; '.join(map(escaped, machines))}. "
        text += _LATENCY_NOTES
    else:
        text += "\nNo latency is stored; `bdd benchmark --threads 1 --output results` measures it.\n"
    return text, data


def baselines(rows: list[dict]) -> str:
    """Compare the backbones: a table per data set of the runs that :func:`bdd_tf.reports.selection.shown` selects.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.

    Returns:
        Markdown that ends with a line break.
    """
    header = ["backbone", "channels", "px", "accuracy %", "AUC %", "images seen", "hours", "parameters", "binary MACs",
              "float MACs", "operations, G", "file, MB", "latency, ms", "run"]  # fmt: skip
    text, machines = "", []
    for dataset in sorted(
        {row["dataset"] for row in rows if row["dataset"] and row["test"]["accuracy"] is not None}
    ):
        lines = []
        for row in shown(rows, dataset):
            seconds, operations = row["training_seconds"], operations_of(row)
            if row["latency"] and row["latency"]["machine"] not in machines:
                machines.append(row["latency"]["machine"])
            lines.append(
                [cell(row["backbone"]) + (" frozen" if row["frozen"] else ""), cell(row["channels"]),
                 ABSENT if row["resolution"] is None else str(row["resolution"]),
                 percent(row["test"]["accuracy"], row["test"]["accuracy_interval"]), percent(row["test"]["auc"]),
                 count(row["images_seen"]), ABSENT if seconds is None else f"{seconds / 3600:.2f}",
                 count(row["parameters"]), count(row["binary_macs"]), count(row["float_macs"]),
                 ABSENT if operations is None else f"{operations / 1e9:.4f}", megabytes(row["tflite_bytes"]),
                 latency_ms(row["latency"]), escaped(row["run"])]
            )  # fmt: skip
        text += f"### {escaped(dataset)}\n\n{table(header, lines, 2)}\n"
        if dataset == "cifake":
            others = "; ".join(f"{who} {100 * value:.4g}" for who, value in published.ELSEWHERE_ON_CIFAKE)
            text += f"\nAccuracy in % published for the same test split, not measured here: {others}.\n"
        text += "\n"
    if not text:
        return "No run has been evaluated on a test split.\n"
    text += _BASELINE_NOTES
    if machines:
        text += f"Latency: median time of one image on one thread; {'; '.join(map(escaped, machines))}."
        if len(machines) > 1:
            text += " Times from different machines cannot be compared."
    else:
        text += "No latency is stored; `bdd benchmark --model runs/NAME/model.tflite --output runs/NAME` measures it."
    return f"{text}\n"


def operations_of(row: dict) -> float | None:
    """Return a run's operations as the paper defines them, plus those of the channels; None if they are unknown."""
    if row["binary_macs"] is None or row["float_macs"] is None:
        return None
    return row["binary_macs"] / 64 + row["float_macs"] + (row["channel_macs"] or 0)
