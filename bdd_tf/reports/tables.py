"""The report's tables of runs, results, ablations, calibration and robustness."""

from __future__ import annotations

from bdd_tf.reports import ablation_groups, published
from bdd_tf.reports.markdown import ABSENT, cell, count, percent, table
from bdd_tf.reports.parsing import escaped, one_line
from bdd_tf.reports.selection import chosen

_INTERVALS = "Brackets: 95 % bootstrap interval over images. "
_CLEAN = "Without leaked: excluding test images that also occur in the training split."


def runs(rows: list[dict]) -> str:
    """List all runs, and below the table what is missing from incomplete ones.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.

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
                *(cell(row[key]) for key in ("run", "dataset", "backbone", "channels")),
                ABSENT if row["resolution"] is None else str(row["resolution"]),
                count(row["parameters"]),
                count(row["images_seen"]),
                *measured,
                percent(row["deduplicated"]["accuracy"]),
                ABSENT if size is None else f"{size:,}",
            ]
        )
    text = table(header, lines, 4) + "\n"
    text += f"\n{_INTERVALS}Deduplicated: excluding test images that also occur in the training split.\n"
    return text + remarks(rows)


def remarks(rows: list[dict]) -> str:
    """List what is missing from incomplete runs, and the runs that were not evaluated on test images."""
    text = ""
    for title, key in (("Incomplete", "missing"), ("Not evaluated on test images", "untested")):
        found = [(row["run"], row[key]) for row in rows if row[key]]
        if found:
            text += f"\n{title}:\n\n"
        for name, said in found:
            said = said if isinstance(said, list) else [said]
            text += f"- {escaped(name)}: {'; '.join(map(one_line, said))}\n"
    return text


def training_command(printed: published.Printed) -> str:
    """Return the command that trains and evaluates a row of the paper's table."""
    run, size = printed.preset, printed.backbone[-1]
    data = "" if printed.dataset == "cifake" else " --data-dir ..."
    return (
        f"bdd train --preset {run} --dataset {printed.dataset}{data} --init imagenet-{size} --run {run} && "
        f"bdd evaluate --run {run}"
    )


def results(rows: list[dict]) -> tuple[str, list[dict]]:
    """Compare our results with the paper's table; further kinds of runs follow.

    Args:
        rows: As :func:`bdd_tf.reports.run_summary.describe` returns them.

    Returns:
        Markdown that ends with a line break, and the rows as data: ``dataset``, ``backbone``, ``frozen``, ``paper``
        (``accuracy``, ``auc``, or None), ``run`` (None: not run) and, if it was not run, ``command``.
    """
    header = ["data set", "backbone", "weights", "paper acc. %", "paper AUC %", "our accuracy %", "our AUC %",
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
            assert printed is not None
            entry["command"] = training_command(printed)
        paper = [percent(printed.accuracy), percent(printed.auc)] if printed else [ABSENT, ABSENT]
        lines.append([cell(kind[0]), cell(kind[1]), "frozen" if kind[2] else "trained", *paper, *ours])
        data.append(entry)
    text = table(header, lines, 3) + "\n"
    text += f"\nPaper: {published.SOURCE}; all of its rows start from ImageNet weights, with RGB+FFT+LBP at 224 px, and "
    text += "its CIFAKE rows were chosen on the test split. Ours: of several runs of a kind, the one with the highest "
    text += f"validation accuracy. {_INTERVALS}{_CLEAN}\n"
    missing = [entry for entry in data if "command" in entry]
    if missing:
        text += "\nRows that were not run. Each command trains one; import the ImageNet weights first "
        text += "(`bdd convert --from-torch FILE --run imagenet-t`, likewise for `-s` and `-m`):\n\n```\n"
        text += "\n".join(entry["command"] for entry in missing) + "\n```\n"
    return text, data


def channel_ablation(group: dict | None, command: str) -> str:
    """Compare the eight rows of an ablation, with mean and spread over seeds, with the paper's.

    Args:
        group: One of :func:`bdd_tf.reports.ablation_groups.groups`; None if there is no ablation.
        command: The command that trains the missing runs.

    Returns:
        Markdown that ends with a line break.
    """
    header = [
        "channels in addition to RGB",
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
    base: float | None = found.get("none", {}).get("accuracy", {}).get("mean")
    for row, printed in published.ABLATION.items():
        ours = found.get(ablation_groups.label(row))
        cells = ["not run", *[ABSENT] * 6]
        if ours:
            a = ours["accuracy"]
            minus = ABSENT if base is None or not row else f"{100 * (a['mean'] - base):+.2f}"
            cells = [*(percent(a[key]) for key in ("mean", "sd", "min", "max")), str(a["n"]), minus]
            cells.append(percent(ours["auc"]["mean"]))
        lines.append([ablation_groups.label(row), percent(printed), *cells])
    text = table(header, lines, 1) + "\n"
    text += f"\nPaper: {published.ABLATION_ABOUT}. "
    if group is None:
        return f"{text}Ours: not run.\n\n```\n{command}\n```\n"
    s = group["settings"]
    text += f"Ours: {escaped(s.get('dataset'))}, {escaped(s.get('backbone'))}"
    text += f"{' frozen' if s.get('freeze') is True else ''} at {escaped(s.get('resolution'))} px, "
    text += f"{escaped(ablation_groups.budget(s))}, test accuracy over seeds. The runs differ in channels and seed only. "
    text += "sd: standard deviation over seeds, in percentage points.\n"
    text += f"\n{ablation_groups.verdict(group)}\n"
    if group["missing"]:
        listed = ", ".join(f"{name} (seed {seed:g})" for name, seed in group["missing"])
        text += f"\nMissing: {listed}.\n\n```\n{command}\n```\n"
    return text


def calibration(rows: list[dict]) -> str:
    """Compare the expected calibration error (ECE) before and after temperature scaling; empty if no run has it."""
    known = [row for row in rows if row["test"]["ece"] is not None]
    if not known:
        return ""
    lines = [
        [escaped(row["run"]), percent(row["test"]["ece"]), percent(row["test"]["ece_calibrated"]),
         ABSENT if row["test"]["temperature"] is None else f"{row['test']['temperature']:.3f}"]
        for row in known
    ]  # fmt: skip
    text = table(["run", "uncalibrated %", "calibrated %", "temperature"], lines, 1)
    return f"{text}\n\nExpected calibration error on the test split. The temperature is fitted on the validation split.\n"


def robustness(row: dict) -> str:
    """List a run's accuracy and AUC under perturbations, in the order of its file; empty if they are unknown."""
    if not row["robustness"]:
        return ""
    lines = []
    for found in row["robustness"]:
        severity = ABSENT if found["severity"] is None else f"{found['severity']:g}"
        unit = f" ({one_line(found['unit'])})" if found["unit"] else ""
        name = "none" if found["perturbation"] is None else f"{found['perturbation']}{unit}"
        lines.append([escaped(name), severity, percent(found["accuracy"]), percent(found["auc"])])
    return table(["perturbation", "severity", "accuracy %", "AUC %"], lines, 1) + "\n"
