"""The report's tables, as Markdown that reads well in a terminal, too."""

from __future__ import annotations

from bdd_tf.reports import ablation, published
from bdd_tf.reports.costs import Cost
from bdd_tf.reports.latency import Latency, fastest
from bdd_tf.reports.reading import escaped, one_line

ABSENT = "–"
_INTERVALS = "In brackets: 95 % bootstrap interval over images. "
_CLEAN = "Without leaked: without test images that the training split holds too."


def percent(value: float | None, interval: list[float] | None = None) -> str:
    """A share as a percentage with two decimals, its interval in brackets."""
    if value is None:
        return ABSENT
    ends = f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * value:.2f}{ends}"


def count(value: float | None) -> str:
    """A count, millions and more with their unit."""
    if value is None:
        return ABSENT
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:,}"


def _cell(value: object) -> str:
    return ABSENT if value is None else escaped(value)


def _megabytes(size: float | None) -> str:
    return ABSENT if size is None else f"{size / 1e6:.2f}"


def _ms(found: dict | None) -> str:
    if found is None:
        return ABSENT
    return f"{found['median_ms']:.2f}" + ("" if found["threads"] == 1 else f" ({found['threads']} threads)")


def table(header: list[str], rows: list[list[str]], numbers_from: int) -> str:
    """A Markdown table; columns from `numbers_from` on are right-aligned."""
    widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (
            c.rjust(w) if i >= numbers_from else c.ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (w - 1) + ":" if i >= numbers_from else "-" * w for i, w in enumerate(widths))
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])


def runs(rows: list[dict]) -> str:
    """All runs, and below them what incomplete ones lack.

    Args:
        rows: As :func:`bdd_tf.reports.rows.describe` gives them.

    Returns:
        Markdown that ends with a line break.
    """
    header = ["run", "data set", "backbone", "channels", "px", "parameters", "images seen", "val. accuracy %",
              "val. AUC %", "test accuracy %", "test AUC %", "deduplicated accuracy %", "tflite bytes"]  # fmt: skip
    lines = []
    for row in rows:
        measured = [
            percent(row[split][key], row[split][f"{key}_interval"])
            for split in ("validation", "test")
            for key in ("accuracy", "auc")
        ]
        size = row["tflite_bytes"]
        lines.append(
            [
                *(_cell(row[key]) for key in ("run", "dataset", "backbone", "channels")),
                ABSENT if row["resolution"] is None else str(row["resolution"]),
                count(row["parameters"]),
                count(row["images_seen"]),
                *measured,
                percent(row["deduplicated"]["accuracy"]),
                ABSENT if size is None else f"{size:,}",
            ]
        )
    text = table(header, lines, 4) + "\n"
    text += f"\n{_INTERVALS}Deduplicated: without test images that the training split holds too.\n"
    incomplete = [row for row in rows if row["missing"]]
    if incomplete:
        text += "\nIncomplete:\n\n"
        text += "".join(
            f"- {escaped(r['run'])}: {'; '.join(map(one_line, r['missing']))}\n" for r in incomplete
        )
    return text


def filling(printed: published.Printed) -> str:
    """The one command that trains and evaluates a row of the paper's table."""
    run, size = printed.preset, printed.backbone[-1]
    data = "" if printed.dataset == "cifake" else " DATA_DIR=..."
    return (
        f'make train DATASET={printed.dataset}{data} INIT=imagenet-{size} RUN={run} ARGS="--preset {run}" && '
        f"make evaluate RUN={run}"
    )


def chosen(rows: list[dict], dataset: str | None, backbone: str | None, frozen: bool) -> dict | None:
    """Of the evaluated runs of a kind the best on validation; where that is unknown for all, the first by name."""
    mine = [
        row
        for row in rows
        if (row["dataset"], row["backbone"], row["frozen"]) == (dataset, backbone, frozen)
        and row["test"]["accuracy"] is not None
    ]
    return max(mine, key=lambda row: row["validation"]["accuracy"] or 0, default=None)


def shown(rows: list[dict], dataset: str, needed: str | None = None) -> list[dict]:
    """The runs on a data set that stand side by side, best test accuracy first.

    Of every backbone the one best on validation; and, because more training is no merit of a network, wherever the one of
    another backbone saw other images than that, the run that saw as many.

    Args:
        rows: As :func:`bdd_tf.reports.rows.describe` gives them.
        dataset: Its name.
        needed: Only among runs of which this is known (``scores``, ``latency``).
    """
    rows = [row for row in rows if row["dataset"] == dataset and (needed is None or row[needed])]
    kinds = sorted({(row["backbone"] or "", row["frozen"]) for row in rows})
    best = [row for kind in kinds if (row := chosen(rows, dataset, *kind))]
    found = {row["folder"]: row for row in best}
    for rival in best:
        alike = [row for row in rows if row["images_seen"] is not None and _budget(row) == _budget(rival)]
        for kind in kinds:
            if row := chosen(alike, dataset, *kind):
                found.setdefault(row["folder"], row)
    return sorted(found.values(), key=lambda row: -row["test"]["accuracy"])


def _budget(row: dict) -> tuple:
    return row["images_seen"], row["channels"], row["resolution"], row["frozen"]


def results(rows: list[dict]) -> tuple[str, list[dict]]:
    """The paper's table of results with ours beside it; kinds that the paper has not follow.

    Args:
        rows: As :func:`bdd_tf.reports.rows.describe` gives them.

    Returns:
        Markdown that ends with a line break, and the same rows as data: ``dataset``, ``backbone``, ``frozen``,
        ``paper`` (``accuracy``, ``auc``, or None), ``run`` (None: not run) and ``command`` where it was not run.
    """
    header = ["data set", "backbone", "backbone was", "paper acc. %", "paper AUC %", "our accuracy %", "our AUC %",
              "without leaked, acc. %", "AUC %", "our run"]  # fmt: skip
    kinds = {(p.dataset, p.backbone, p.frozen): p for p in published.RESULTS}
    own = {(row["dataset"], row["backbone"], row["frozen"]): None for row in rows}
    extra = sorted((kind for kind in own if kind not in kinds and None not in kind), key=str)
    lines, data = [], []
    for kind in [*kinds, *extra]:
        printed, found = kinds.get(kind), chosen(rows, *kind)
        if printed is None and found is None:
            continue
        entry = {
            "dataset": kind[0],
            "backbone": kind[1],
            "frozen": kind[2],
            "paper": {"accuracy": printed.accuracy, "auc": printed.auc} if printed else None,
            "run": found["run"] if found else None,
        }
        ours = [ABSENT] * 4 + ["not run"]
        if found:
            test, clean = found["test"], found["deduplicated"]
            about = f"{found['run']} ({found['channels']}, {found['resolution']} px"
            about += f", from {found['init']})" if found["init"] else ", from scratch)"
            ours = [percent(test[key], test[f"{key}_interval"]) for key in ("accuracy", "auc")]
            ours += [percent(clean["accuracy"]), percent(clean["auc"]), escaped(about)]
        else:
            entry["command"] = filling(printed)
        paper = [percent(printed.accuracy), percent(printed.auc)] if printed else [ABSENT, ABSENT]
        lines.append([_cell(kind[0]), _cell(kind[1]), "frozen" if kind[2] else "trained", *paper, *ours])
        data.append(entry)
    text = table(header, lines, 3) + "\n"
    text += f"\nPaper: {published.SOURCE}; all of its rows start from ImageNet weights, RGB+FFT+LBP, at 224 px, and its "
    text += (
        "CIFAKE rows were chosen on the test split. Ours: of several runs of a kind the one that is best on "
    )
    text += f"validation. {_INTERVALS}{_CLEAN}\n"
    missing = [entry for entry in data if "command" in entry]
    if missing:
        text += "\nNot run; each command fills in its row, once ImageNet weights are there "
        text += "(`bdd convert --from-torch FILE --run imagenet-t`, for `-s` and `-m` likewise):\n\n```\n"
        text += "\n".join(entry["command"] for entry in missing) + "\n```\n"
    return text, data


def channel_ablation(group: dict | None, command: str) -> str:
    """The eight rows with mean and spread over seeds, beside the paper's.

    Args:
        group: One of :func:`bdd_tf.reports.ablation.groups`; None: there is none.
        command: What trains the missing runs.

    Returns:
        Markdown that ends with a line break.
    """
    header = [
        "channels beside RGB",
        "paper %",
        "mean %",
        "sd",
        "min",
        "max",
        "seeds",
        "minus none",
        "mean AUC %",
    ]
    lines = []
    found = group["rows"] if group else {}
    base = found.get("none", {}).get("accuracy", {}).get("mean")
    for row, printed in published.ABLATION.items():
        ours = found.get(ablation.label(row))
        cells = ["not run", *[ABSENT] * 6]
        if ours:
            a = ours["accuracy"]
            minus = ABSENT if base is None or not row else f"{100 * (a['mean'] - base):+.2f}"
            cells = [*(percent(a[key]) for key in ("mean", "sd", "min", "max")), str(a["n"]), minus]
            cells.append(percent(ours["auc"]["mean"]))
        lines.append([ablation.label(row), percent(printed), *cells])
    text = table(header, lines, 1) + "\n"
    text += f"\nPaper: {published.ABLATION_ABOUT}. "
    if group is None:
        return f"{text}Ours: none of it was run.\n\n```\n{command}\n```\n"
    s = group["settings"]
    text += f"Ours: {escaped(s.get('dataset'))}, {escaped(s.get('backbone'))}"
    text += f"{' frozen' if s.get('freeze') is True else ''} at {escaped(s.get('resolution'))} px, "
    text += (
        f"{escaped(ablation.budget(s))}, test accuracy over seeds; all settings equal but channels and seed. "
    )
    text += "sd: standard deviation over seeds, in points.\n"
    text += f"\n{ablation.verdict(group)}\n"
    if group["missing"]:
        listed = ", ".join(f"{name} (seed {seed:g})" for name, seed in group["missing"])
        text += f"\nMissing: {listed}.\n\n```\n{command}\n```\n"
    return text


def benchmark_names(cost: Cost) -> tuple[str, str]:
    """How `bdd benchmark` calls a network with random weights, at the size that costs are counted at."""
    return f"{cost.name}-224-{cost.channels.replace(',', '-')}", f"{cost.name} 224"


def _same_file(cost: Cost, latency: Latency) -> bool:
    """Whether both may be of one network, by size: VGG16 without its dense layers is another one."""
    sizes = cost.bytes, latency.nbytes
    return None in sizes or abs(sizes[0] - sizes[1]) <= 0.02 * sizes[0]


def costs(counted: list[Cost], latencies: list[Latency]) -> tuple[str, list[dict]]:
    """What networks cost at 224 px.

    Args:
        counted: As :func:`bdd_tf.reports.costs.read` gives them.
        latencies: Of all stored benchmarks; those of networks with random weights at 224 px are shown.

    Returns:
        Markdown that ends with a line break, and the same rows as data.
    """
    header = ["network at 224 px", "channels", "parameters", "binary MACs", "float MACs", "channel MACs",
              "operations, G", "paper's, G", "ratio", "file, MB", "latency, ms", "of MobileNetV2's"]  # fmt: skip
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
             _megabytes(cost.bytes), _ms(timed), ABSENT if found is None or found.ratio is None else f"{found.ratio:.2f}"]
        )  # fmt: skip
        data.append(
            {"name": cost.name, "channels": cost.channels, "parameters": cost.parameters,
             "binary_macs": cost.binary_macs, "float_macs": cost.float_macs, "channel_macs": cost.channel_macs,
             "operations": cost.operations, "paper_operations": None if printed is None else printed * 1e9,
             "bytes": cost.bytes, "latency": timed}
        )  # fmt: skip
    text = table(header, lines, 2) + "\n"
    text += "\nOperations: binary MACs / 64 + float MACs, the paper's definition, and those of the channels, which it "
    text += "leaves out. What it prints is ten times what its definition gives; its classifier of 1000 outputs, where "
    text += "one is counted here, adds 0.001 to 0.0016 G and does not explain it. Float networks: keras.applications with "
    text += "one output, VGG16 with its fully connected layers; float32 files.\n"
    if machines:
        text += f"\nLatency: median of one image on one thread, random weights; {'; '.join(map(escaped, machines))}. "
        text += "Last column: the same over MobileNetV2's median in the same run, which is what compares rows: they were "
        text += "not all measured in one, and a shared machine is slower at times. No time where only a smaller network of "
        text += "the name was measured (VGG16 without its dense layers).\n"
    else:
        text += (
            "\nNo latency is stored; `bdd benchmark --threads 1 --output results` measures them in turns.\n"
        )
    return text, data


def rivals(rows: list[dict]) -> str:
    """Runs of every backbone side by side, a table per data set: those that :func:`shown` picks.

    Args:
        rows: As :func:`bdd_tf.reports.rows.describe` gives them.

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
                [_cell(row["backbone"]) + (" frozen" if row["frozen"] else ""), _cell(row["channels"]),
                 ABSENT if row["resolution"] is None else str(row["resolution"]),
                 percent(row["test"]["accuracy"], row["test"]["accuracy_interval"]), percent(row["test"]["auc"]),
                 count(row["images_seen"]), ABSENT if seconds is None else f"{seconds / 3600:.2f}",
                 count(row["parameters"]), count(row["binary_macs"]), count(row["float_macs"]),
                 ABSENT if operations is None else f"{operations / 1e9:.4f}", _megabytes(row["tflite_bytes"]),
                 _ms(row["latency"]), escaped(row["run"])]
            )  # fmt: skip
        text += f"### {escaped(dataset)}\n\n{table(header, lines, 2)}\n"
        if dataset == "cifake":
            others = "; ".join(f"{who} {100 * value:.4g}" for who, value in published.ELSEWHERE_ON_CIFAKE)
            text += (
                f"\nPrinted elsewhere for the same test split, not measured here, accuracy in %: {others}.\n"
            )
        text += "\n"
    if not text:
        return "No run has been evaluated on a test split.\n"
    text += "Of each backbone the run best on validation, and those that saw as many images as another backbone's: compare "
    text += "networks where the images seen are as many. "
    text += "Hours: of training, on whatever machine it ran. Operations: binary MACs / 64 + float + channel MACs. "
    if machines:
        text += f"Latency: median of one image, file on one thread; {'; '.join(map(escaped, machines))}."
        if len(machines) > 1:
            text += " Times of different machines cannot be compared."
    else:
        text += "No latency is stored; `bdd benchmark --model runs/NAME/model.tflite --output runs/NAME` measures it."
    return f"{text}\n"


def operations_of(row: dict) -> float | None:
    """A run's operations in the paper's sense, channels included; None where its metrics do not tell."""
    if row["binary_macs"] is None or row["float_macs"] is None:
        return None
    return row["binary_macs"] / 64 + row["float_macs"] + (row["channel_macs"] or 0)


def calibration(rows: list[dict]) -> str:
    """Expected calibration error before and after temperature scaling; empty where no run has it."""
    known = [row for row in rows if row["test"]["ece"] is not None]
    if not known:
        return ""
    lines = [
        [escaped(row["run"]), percent(row["test"]["ece"]), percent(row["test"]["ece_calibrated"]),
         ABSENT if row["test"]["temperature"] is None else f"{row['test']['temperature']:.3f}"]
        for row in known
    ]  # fmt: skip
    text = table(["run", "as trained %", "calibrated %", "temperature"], lines, 1)
    return (
        f"{text}\n\nExpected calibration error on the test split; the temperature is fitted on validation.\n"
    )


def robustness(row: dict) -> str:
    """Accuracy and AUC of one run under perturbations, mildest first; empty where they are unknown."""
    if not row["robustness"]:
        return ""
    lines = []
    for found in row["robustness"]:
        severity = ABSENT if found["severity"] is None else f"{found['severity']:g}"
        unit = f" ({one_line(found['unit'])})" if found["unit"] else ""
        name = "none" if found["perturbation"] is None else f"{found['perturbation']}{unit}"
        lines.append([escaped(name), severity, percent(found["accuracy"]), percent(found["auc"])])
    return table(["perturbation", "severity", "accuracy %", "AUC %"], lines, 1) + "\n"
