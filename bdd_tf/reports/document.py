"""Write a report on stored results and run folders as Markdown, PNG and JSON."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from importlib import util
from pathlib import Path
from urllib.parse import quote

from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import BddError
from bdd_tf.files import replace_atomically, write_atomically
from bdd_tf.metrics import classification, score_files
from bdd_tf.reports import (
    ablation_groups,
    cost_tables,
    costs,
    figures,
    markdown,
    paper_comparison,
    selection,
    tables,
)
from bdd_tf.reports.latency import Latency, measured, read_benchmark
from bdd_tf.reports.parsing import escaped, one_line
from bdd_tf.reports.run_summary import describe
from bdd_tf.reports.store import scores_file
from bdd_tf.runs import Run

MARKDOWN, JSON = "report.md", "report.json"
#: Float networks of the paper's comparison, drawn above ours in the bar charts.
CHARTED = ("vgg16", "resnet50", "densenet121")
#: Writes a figure to a path.
Paint = Callable[[Path], object]
#: Errors of a figure with unusual values. The report then mentions the failure.
_FAILURES = (BddError, ValueError, OverflowError, OSError)


class Report:
    """A report on runs.

    Args:
        runs: Run folders and stored results (:func:`bdd_tf.reports.store.collect`).
        results: Folder of stored results, with ``costs.json`` and the benchmarks that do not belong to a run.
        output: Folder of the report.

    Attributes:
        rows: A summary per run (:func:`bdd_tf.reports.run_summary.describe`).
        notes: Problems found while reading and drawing.
        pictures: File names of the figures.
    """

    def __init__(self, runs: list[Run], results: Path, output: Path):
        self.output, self.results = Path(output), Path(results)
        self.rows = [describe(run) for run in runs]
        self.run_of = {row["folder"]: run for row, run in zip(self.rows, runs, strict=True)}
        names = [row["run"] for row in self.rows]
        for row in self.rows:  # two experiments with the same name are identified by their folders
            if names.count(row["run"]) > 1:
                row["run"] = row["folder"]
        self.notes: list[str] = []
        self.pictures: list[str] = []
        self.latencies = self._latencies(runs)
        try:
            self.costs = costs.read(self.results)
        except BddError as error:
            self.costs = []
            self.notes.append(str(error))
        self.ablations = ablation_groups.groups(self.rows)

    def _latencies(self, runs: list[Run]) -> list[Latency]:
        found = [latency for run in runs for latency in measured(run)[0]]
        for path in sorted(self.results.glob("benchmark*.json")):
            try:
                found += read_benchmark(path)
            except BddError as error:
                self.notes.append(f"{path}: {error}")
        return found

    @property
    def datasets(self) -> list[str]:
        """Data sets with an evaluated run, sorted."""
        return sorted({r["dataset"] for r in self.rows if r["dataset"] and r["test"]["accuracy"] is not None})

    def draw(self, name: str, caption: str, paint: Paint) -> str:
        """Draw a figure; return the Markdown that shows it, or an empty string after a failure, which is noted."""
        try:
            paint(self.output / name)
        except _FAILURES as error:
            self.notes.append(f"{name} could not be drawn: {one_line(error)}")
            return ""
        self.pictures.append(name)
        return f"![{caption}]({quote(name)})\n\n"

    def cost_dots(self) -> str:
        """Draw storage and operations of our networks and the paper's baselines."""
        by_name = {c.name: c for c in self.costs if c.bytes is not None}
        ours = [name for name in reversed(costs.BINARY) if name in by_name]
        charted = [by_name[name] for name in (*CHARTED, *ours) if name in by_name]
        if not charted:
            return ""
        rows = [(c.name, c.binary, (c.bytes or 0) / 1e6, c.operations / 1e9) for c in charted]
        return self.draw(
            "costs.png",
            "File size and operations of binary and float networks, on logarithmic axes",
            partial(figures.cost_dots, rows=rows, title="one 224 px image; FFT and LBP included"),
        )

    def _draw_each(self, name: str, caption: str, painter: Callable[[str], Paint | None]) -> str:
        """Draw ``NAME-DATASET.png`` for each data set that ``painter`` returns something for."""
        text = ""
        for dataset in self.datasets:
            paint = painter(dataset)
            if paint is not None:
                text += self.draw(f"{name}-{_slug(dataset)}.png", f"{caption} on {escaped(dataset)}", paint)
        return text

    def roc_curves(self) -> str:
        """Draw the ROC curves of the selected runs, a figure per data set."""
        return self._draw_each("roc", "ROC curves", self._roc_curves_on)

    def _roc_curves_on(self, dataset: str) -> Paint | None:
        curves = []
        for row in selection.shown(self.rows, dataset, "scores"):
            path = scores_file(self.run_of[row["folder"]])
            if path is None:
                continue
            try:
                _, labels, scores = score_files.read_scores_csv(path)
                classification.roc_curve(labels, scores)
                curves.append((row["run"], labels, scores))
            except BddError as error:
                self.notes.append(one_line(error))
        if not curves:
            return None
        return partial(figures.roc_curves, curves=curves, title=f"{dataset}, test split")

    def accuracy_latency(self) -> str:
        """Draw accuracy against latency of the selected runs, a figure per data set."""
        return self._draw_each("accuracy-latency", "Accuracy over latency", self._accuracy_latency_on)

    def _accuracy_latency_on(self, dataset: str) -> Paint | None:
        timed = selection.shown(self.rows, dataset, "latency")
        if not timed:
            return None
        machines = sorted({row["latency"]["machine"] for row in timed})
        several, budgets = len(machines) > 1, len({row["images_seen"] for row in timed})
        points = []
        for row in timed:
            place = f" [{machines.index(row['latency']['machine']) + 1}]" if several else ""
            share, binary = row["test"]["accuracy"], bool(row["binary_macs"])
            seen = f" after {markdown.count(row['images_seen'])}" if budgets > 1 else ""
            points.append((f"{row['backbone']}{seen}{place}", binary, row["latency"]["median_ms"], share))
        where = "\n".join(f"[{i}] {m}" if several else m for i, m in enumerate(machines, 1))
        if budgets > 1:
            where += "\n(after: number of training images seen)"
        return partial(figures.accuracy_latency, points=points, title=f"{dataset}, one thread\n{where}")

    def comparison_points(self, data: list[dict]) -> str:
        """Draw the paper's accuracies over the latencies that were measured here."""
        points = paper_comparison.points(data)
        if not points:
            return ""
        machines = dict.fromkeys(row["latency"]["machine"] for row in data if row["latency"])
        title = "COCOFake: accuracy printed by the paper, latency measured here, one thread\n" + "; ".join(
            machines
        )
        return self.draw(
            "vision-latency.png",
            "The paper's accuracies on COCOFake over latencies measured here",
            partial(figures.accuracy_latency, points=points, title=title),
        )

    def ablation_dots(self) -> str:
        """Draw the largest ablation, with a dot per seed."""
        if not self.ablations:
            return ""
        group = self.ablations[0]
        rows = [
            (name, [run["accuracy"] for run in group["rows"].get(name, {"runs": []})["runs"]])
            for name in map(ablation_groups.label, ablation_groups.ROWS)
        ]
        s = group["settings"]
        title = f"{one_line(s.get('dataset'))}, {one_line(s.get('backbone'))}, {one_line(ablation_groups.budget(s))}"
        return self.draw(
            "ablation.png",
            "Test accuracy by channels, a dot per seed",
            partial(figures.ablation_dots, rows=rows, title=title),
        )

    def galleries(self) -> str:
        """Copy the gallery of the best run on each data set, if there is one."""
        return self._draw_each("gallery", "Correct and wrong verdicts", self._gallery_of)

    def _gallery_of(self, dataset: str) -> Paint | None:
        found = (
            self.run_of[row["folder"]].figures / "gallery-test.png"
            for row in selection.shown(self.rows, dataset)
        )
        source = next((path for path in found if path.is_file()), None)
        return None if source is None else partial(_copy, source)

    def channels(self, image: Path | None) -> str:
        """Draw an image and its channels."""
        return self.draw(
            "channels.png",
            "An image and its FFT, LBP and Sobel channels",
            lambda path: figures.image_channels(
                path, ResizeRule.native(224).apply(read_image(image or photograph()))
            ),
        )

    def write(self, *, image: Path | None = None, figures: bool = True) -> Path:
        """Write ``report.md``, ``report.json`` and the figures.

        Args:
            image: Image for the figure of channels; None: a photograph of scikit-image.
            figures: Whether to link to the figures in run folders.

        Returns:
            Path of the Markdown file.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        command = ablation_command(self.ablations[0] if self.ablations else None)
        results, results_data = tables.results(self.rows)
        cost_table, cost_data = cost_tables.costs(self.costs, self.latencies)
        parts = ["# Report\n\nGenerated by `bdd report` from stored results and run folders.\n"]
        parts.append(f"## Results\n\n{results}")
        parts.append(f"## Channel ablation\n\n{self.ablation_dots()}"
                     f"{tables.channel_ablation(self.ablations[0] if self.ablations else None, command)}")  # fmt: skip
        parts += [
            f"### Further ablation\n\n{tables.channel_ablation(group, ablation_command(group))}"
            for group in self.ablations[1:]
        ]
        if self.costs:
            parts.append(f"## Cost\n\n{self.cost_dots()}{cost_table}")
        backbones = self.accuracy_latency() + self.roc_curves() + cost_tables.baselines(self.rows)
        parts.append(f"## Backbones\n\n{backbones}")
        compared, compared_data = paper_comparison.comparison(self.rows, self.costs, self.latencies)
        parts.append(f"## The paper's comparison\n\n{self.comparison_points(compared_data)}{compared}")
        parts += self._calibration_and_robustness()
        parts.append(f"## Figures\n\n{self.channels(image)}{self.galleries()}".rstrip() + "\n")
        parts.append(f"## All runs\n\n{tables.runs(self.rows)}")
        if figures:
            parts += self._figures()
        if self.notes:
            parts.append(
                "## Notes\n\n" + "".join(f"- {escaped(note)}\n" for note in dict.fromkeys(self.notes))
            )
        target = self.output / MARKDOWN
        write_atomically(target, "\n".join(parts).encode("utf-8", "backslashreplace"))
        document: dict[str, object] = {
            "runs": self.rows, "results": results_data, "ablations": self.ablations, "costs": cost_data,
            "comparison": compared_data,
            "pictures": self.pictures, "notes": list(dict.fromkeys(self.notes)),
        }  # fmt: skip
        score_files.write_json(self.output / JSON, {key: _finite(value) for key, value in document.items()})
        return target

    def _calibration_and_robustness(self) -> list[str]:
        ablated = {name for group in self.ablations for name in group["runs"]}
        calibration = tables.calibration([row for row in self.rows if row["run"] not in ablated])
        parts = [f"## Calibration\n\n{calibration}"] if calibration else []
        tested = [(row["run"], tables.robustness(row)) for row in self.rows if row["robustness"]]
        if tested:
            parts.append("## Robustness\n")
            parts += [f"### {escaped(name)}\n\n{text}" for name, text in tested]
        if not (calibration and tested):
            parts.append(
                "`bdd evaluate --run NAME` measures the calibration, with `--robustness` also the robustness.\n"
            )
        return parts

    def _figures(self) -> list[str]:
        parts = []
        for row in self.rows:
            if row["figures"]:
                folder = os.path.relpath(self.run_of[row["folder"]].figures, self.output)
                links = "".join(
                    f"![{escaped(Path(name).stem)} of {escaped(row['run'])}]({quote(Path(folder, name).as_posix())})\n"
                    for name in row["figures"]
                )
                parts.append(f"## {escaped(row['run'])}\n\n{links}")
        return parts


def ablation_command(group: dict | None) -> str:
    """Return the command that trains the missing runs of an ablation, or a new ablation if there is none."""
    command = "python -m bdd_tf.commands.ablation"
    if group is None:
        return f"{command} --epochs 2 --data-dir ..."
    seeds = sorted({int(seed) for _, seed in group["missing"]} | {int(seed) for seed in group["seeds"]})
    return f"{command} --like {group['runs'][0]} --seeds {','.join(map(str, seeds))} --data-dir ..."


def photograph() -> Path:
    """Return the path of scikit-image's photograph of a cat.

    Raises:
        BddError: If scikit-image is not installed.
    """
    found = util.find_spec("skimage")
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise BddError("there is no image for the figure of channels; give one with --image.")
    return Path(folders[0]) / "data" / "chelsea.png"


def _copy(source: Path, target: Path) -> None:
    with replace_atomically(target) as temporary:
        shutil.copyfile(source, temporary)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)[:60] or "unnamed"


def _finite(value: object) -> object:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {str(key): _finite(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
