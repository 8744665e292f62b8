"""`bdd report`: one table over all run folders, and the comparison of two runs on the same images."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bdd_tf import metrics
from bdd_tf.config import write_atomically
from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import RUNS_DIR, Run, existing_run, read_history

ABSENT = "–"
REPORT = "report.md"


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BddError(f"{path.name} cannot be read: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} holds no metrics")
    return value


def _read_yaml(path: Path) -> dict:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BddError(f"{path.name} cannot be read: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} holds no settings")
    return value


def _images_seen(path: Path) -> dict:
    last = read_history(path)[-1]
    return {"epochs": last["epoch"], "images_seen": last.get("images")}


def _one_line(text: object) -> str:
    """Text from a file as a short line that any terminal can print."""
    return " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())[:160]


def _number(values: dict, key: str) -> float | None:
    """A finite number of a file, or None: reports outlive the versions that wrote their runs."""
    value = values.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return value if usable else None


def _interval(document: dict, key: str) -> list[float] | None:
    found = document.get("intervals")
    found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or len(found) != 2:
        return None
    ends = [_number({"": end}, "") for end in found]
    return None if None in ends else ends


def _text(value: object) -> str | None:
    if value is None:
        return None
    return ",".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _is_run(folder: Path) -> bool:
    run = Run(folder)
    traces = (run.config, run.checkpoints, run.history, run.tflite, run.weights)
    return any(p.exists() for p in traces) or any(folder.glob("metrics-*.json"))


def find_runs(runs_dir: str | Path) -> list[Run]:
    """Run folders in a folder, finished or not, by name.

    Raises:
        UsageError: If the folder does not exist, or there is no run in it.
    """
    folder = Path(runs_dir)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; `make train` makes it, --runs-dir names another.")
    found = [
        Run(p) for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".") and _is_run(p)
    ]
    if not found:
        raise UsageError(
            f"there are no runs in {folder} yet; `make train` makes one, --runs-dir names another."
        )
    return found


def describe(run: Run) -> dict:
    """What is known of a run, whatever state it is in.

    Args:
        run: Its folder.

    Returns:
        ``run``, ``dataset``, ``backbone``, ``channels``, ``resolution``, ``parameters``, ``epochs``,
        ``images_seen``, ``validation`` and ``test`` (each ``images``, ``accuracy``, ``accuracy_interval``,
        ``auc``, ``auc_interval``, ``threshold``), ``deduplicated`` (``images``, ``accuracy``, ``auc`` of the
        test split without leaked images), ``tflite_bytes``, ``figures`` (file names) and ``missing``,
        sentences on what is not there and what makes it. What is unknown is None.
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
    config = read(run.config, _read_yaml, "the run's settings are unknown")
    imported = not run.history.is_file() and run.weights.is_file()
    history = {} if imported else read(run.history, _images_seen, "no epoch is finished")
    planned = _number(config, "epochs")
    if planned and history.get("epochs", planned) < planned:
        missing.append(f"{history['epochs']} of {planned} epochs: the same `make train` continues it")
    documents = {
        "validation": read(
            run.metrics("validation"), _read_json, f"make evaluate RUN={name} SPLIT=validation"
        ),
        "test": read(run.metrics("test"), _read_json, f"make evaluate RUN={name}"),
    }
    if not run.tflite.is_file():
        missing.append(f"no {run.tflite.name}: make convert RUN={name}")
    row: dict = {"run": name}
    for key in ("dataset", "backbone", "channels"):
        row[key] = _text(config.get(key))
    row["resolution"] = _number(config, "resolution")
    sources = (documents["test"], documents["validation"], config)
    row["parameters"] = next((n for n in (_number(s, "parameters") for s in sources) if n is not None), None)
    row["epochs"], row["images_seen"] = history.get("epochs"), history.get("images_seen")
    for split, document in documents.items():
        row[split] = {"images": _number(document, "images"), "threshold": _number(document, "threshold")}
        for key in ("accuracy", "auc"):
            row[split][key] = _number(document, key)
            row[split][f"{key}_interval"] = _interval(document, key)
    clean = documents["test"].get("deduplicated")
    clean = clean if isinstance(clean, dict) else {}
    row["deduplicated"] = {key: _number(clean, key) for key in ("images", "accuracy", "auc")}
    row["tflite_bytes"] = run.tflite.stat().st_size if run.tflite.is_file() else None
    row["figures"] = sorted(p.name for p in run.figures.glob("*.png")) if run.figures.is_dir() else []
    row["missing"] = missing
    return row


def _escaped(text: object) -> str:
    """Text from a file as a Markdown table cell."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", _one_line(text))


def _percent(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return ABSENT
    ends = f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * value:.2f}{ends}"


def _count(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,}"


def _table(header: list[str], rows: list[list[str]], numbers_from: int) -> str:
    """A Markdown table, padded so that it reads well in a terminal too; number columns are right-aligned."""
    widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (
            c.rjust(w) if i >= numbers_from else c.ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (w - 1) + ":" if i >= numbers_from else "-" * w for i, w in enumerate(widths))
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])


def markdown(rows: list[dict]) -> str:
    """The table of runs, and below it what incomplete runs lack.

    Args:
        rows: As :func:`describe` gives them.

    Returns:
        Markdown that ends with a line break.
    """
    header = [
        "run",
        "data set",
        "backbone",
        "channels",
        "px",
        "parameters",
        "images seen",
        "val. accuracy %",
        "val. AUC %",
        "test accuracy %",
        "test AUC %",
        "deduplicated accuracy %",
        "tflite bytes",
    ]
    lines = []
    for row in rows:
        measured = [
            _percent(row[split][key], row[split][f"{key}_interval"])
            for split in ("validation", "test")
            for key in ("accuracy", "auc")
        ]
        size = row["tflite_bytes"]
        lines.append(
            [
                *(_escaped(row[k]) if row[k] is not None else ABSENT for k in ("run", "dataset", "backbone")),
                _escaped(row["channels"]) if row["channels"] is not None else ABSENT,
                ABSENT if row["resolution"] is None else str(row["resolution"]),
                _count(row["parameters"]),
                _count(row["images_seen"]),
                *measured,
                _percent(row["deduplicated"]["accuracy"]),
                ABSENT if size is None else f"{size:,}",
            ]
        )
    text = _table(header, lines, 4) + "\n"
    text += "\nIn brackets: 95 % bootstrap interval over images. Deduplicated: without test images that the "
    text += "training split holds too.\n"
    incomplete = [row for row in rows if row["missing"]]
    if incomplete:
        text += "\nIncomplete:\n\n"
        text += "".join(
            f"- {_escaped(r['run'])}: {'; '.join(map(_one_line, r['missing']))}\n" for r in incomplete
        )
    return text


def _figures(rows: list[dict]) -> str:
    text = ""
    for row in rows:
        if row["figures"]:
            text += f"\n## {_escaped(row['run'])}\n\n"
            for name in row["figures"]:
                place = quote(f"{row['run']}/figures/{name}")
                text += f"![{_escaped(Path(name).stem)} of {_escaped(row['run'])}]({place})\n"
    return text


def compare_runs(first: Run, second: Run) -> dict:
    """Compare two evaluated runs on the test images that both have scored, matched by path.

    Args:
        first: Folder of a run with ``scores-test.csv``.
        second: Folder of the other.

    Returns:
        The keys of :func:`bdd_tf.metrics.compare`, ``runs`` and ``thresholds`` (two each), and ``notes``,
        sentences on what a reader must know.

    Raises:
        BddError: If scores are missing or damaged, or the runs have no images in common or label them
            differently.
    """
    notes: list[str] = []
    tables, thresholds = [], []
    for run in (first, second):
        path = run.scores("test")
        if not path.is_file():
            raise BddError(f"run {run.name} has no {path.name}; `make evaluate RUN={run.name}` writes it.")
        paths, labels, scores = metrics.read_scores_csv(path)
        table = {p: (int(y), float(s)) for p, y, s in zip(paths, labels, scores, strict=True)}
        if len(table) < len(paths):
            raise BddError(
                f"{path} names {len(paths) - len(table)} images twice; evaluate run {run.name} again."
            )
        tables.append(table)
        try:
            threshold = _number(_read_json(run.metrics("test")), "threshold")
        except BddError:
            threshold = None
        if threshold is None or not 0 <= threshold <= 1:
            threshold = 0.5
            notes.append(f"{run.name} has no readable threshold in metrics-test.json; 0.5 is used.")
        thresholds.append(float(threshold))
    common = sorted(tables[0].keys() & tables[1].keys())
    if not common:
        raise BddError(
            f"runs {first.name} and {second.name} have no test image in common; "
            f"evaluate both on the same data set to compare them."
        )
    for run, table in zip((first, second), tables, strict=True):
        if len(table) > len(common):
            notes.append(f"{len(table) - len(common):,} images that only {run.name} has scored are left out.")
    labels = np.array([tables[0][p][0] for p in common])
    other = np.array([tables[1][p][0] for p in common])
    differ = int((labels != other).sum())
    if differ:
        raise BddError(
            f"runs {first.name} and {second.name} label {differ:,} of {len(common):,} common "
            f"images differently, e.g. {common[int(np.argmax(labels != other))]}; evaluate both again."
        )
    scores = [np.array([table[p][1] for p in common]) for table in tables]
    document = metrics.compare(labels, *scores, tuple(thresholds))
    reason = metrics.why_undefined(labels)
    if reason:
        notes.append(f"{reason}.")
    return {"runs": [first.name, second.name], "thresholds": thresholds, **document, "notes": notes}


def comparison_markdown(found: dict) -> str:
    """The comparison as a table and a sentence.

    Args:
        found: As :func:`compare_runs` gives it.

    Returns:
        Markdown that ends with a line break.
    """
    first, second = (_escaped(name) for name in found["runs"])
    rows = [
        [
            f"{label} %",
            _percent(found[key]["first"]),
            _percent(found[key]["second"]),
            _percent(found[key]["difference"], found[key]["interval"]),
        ]
        for key, label in (("accuracy", "accuracy"), ("auc", "AUC"))
    ]
    text = f"{found['images']:,} test images, thresholds {found['thresholds'][0]:.3g} and "
    text += f"{found['thresholds'][1]:.3g}:\n\n"
    text += _table(["", first, second, "difference [95 % interval]"], rows, 1) + "\n"
    test = found["mcnemar"]
    text += f"\nOnly {first} is right on {test['only_first_right']:,} images, only {second} on "
    text += (
        f"{test['only_second_right']:,}; if both were equally good, a split at least this uneven would have "
    )
    text += f"probability {test['p_value']:.3g} (McNemar's exact test).\n"
    return text + "".join(f"\nNote: {_one_line(note)}\n" for note in found["notes"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd report`."""
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(RUNS_DIR), help="folder of the runs; default runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="compare two runs on the same test images (paired bootstrap, McNemar's exact test)",
    )


def main(args: argparse.Namespace) -> int:
    """Run `bdd report`; returns the exit code.

    Raises:
        UsageError: If there are no runs, or none of a given name.
        BddError: If two runs cannot be compared.
    """
    if args.compare:
        found = compare_runs(*(existing_run(name, args.runs_dir) for name in args.compare))
        print(json.dumps(found, indent=2) if args.json else comparison_markdown(found).rstrip())
        return 0
    rows = [describe(run) for run in find_runs(args.runs_dir)]
    table = markdown(rows)
    report = Path(args.runs_dir) / REPORT
    text = f"# Runs\n\n{table}{_figures(rows)}"
    write_atomically(report, text.encode("utf-8", "backslashreplace"))
    print(json.dumps(rows, indent=2) if args.json else table.rstrip())
    print(f"wrote {report}", file=sys.stderr)
    return 0
