"""The report itself: tables and pictures out of stored results and run folders, as Markdown, PNG and JSON."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from importlib import util
from pathlib import Path
from urllib.parse import quote

from bdd_tf import metrics
from bdd_tf.config import write_atomically
from bdd_tf.edge.images import ResizeRule, read_image
from bdd_tf.errors import BddError
from bdd_tf.reports import ablation, costs, pictures, published, tables
from bdd_tf.reports.latency import Latency, measured, read_benchmark
from bdd_tf.reports.reading import escaped, one_line
from bdd_tf.reports.rows import describe
from bdd_tf.reports.store import scores_file
from bdd_tf.runs import Run

MARKDOWN, JSON = "report.md", "report.json"
#: Float networks of the paper's comparison, in the bar charts above ours.
CHARTED = ("vgg16", "resnet50", "densenet121")
#: What cannot be drawn of odd numbers raises one of these; the report then says so.
_FAILURES = (BddError, ValueError, OverflowError, OSError)


class Report:
    """Gathers what is known, then writes it.

    Args:
        runs: Run folders and stored results (:func:`bdd_tf.reports.store.collect`).
        results: Folder of stored results, for ``costs.json`` and benchmarks that belong to no run.
        output: Where the report goes.
    """

    def __init__(self, runs: list[Run], results: Path, output: Path):
        self.output, self.results = Path(output), Path(results)
        self.rows = [describe(run) for run in runs]
        self.run_of = {row["folder"]: run for row, run in zip(self.rows, runs, strict=True)}
        names = [row["run"] for row in self.rows]
        for row in self.rows:  # two experiments of one name: their folders tell them apart
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
        self.ablations = ablation.groups(self.rows)

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
        """Data sets with an evaluated run."""
        return sorted({r["dataset"] for r in self.rows if r["dataset"] and r["test"]["accuracy"] is not None})

    def draw(self, name: str, caption: str, paint: Callable[[Path], object]) -> str:
        """Paint a picture; returns the Markdown that shows it, or says why it cannot be drawn."""
        try:
            paint(self.output / name)
        except _FAILURES as error:
            self.notes.append(f"{name} could not be drawn: {one_line(error)}")
            return ""
        self.pictures.append(name)
        return f"![{caption}]({quote(name)})\n\n"

    def cost_bars(self) -> str:
        """Storage and operations, ours against the paper's rivals."""
        by_name = {c.name: c for c in self.costs if c.bytes is not None}
        ours = [name for name in reversed(costs.BINARY) if name in by_name]
        charted = [by_name[name] for name in (*CHARTED, *ours) if name in by_name]
        if not charted:
            return ""
        bars = [(c.name, c.binary, c.bytes / 1e6, c.operations / 1e9) for c in charted]
        return self.draw(
            "costs.png",
            "Bars of file size and operations, binary and float networks",
            lambda path: pictures.cost_bars(path, bars, title="one 224 px image; FFT and LBP included"),
        )

    def roc_curves(self) -> str:
        """The ROC curves of the runs that are shown, a picture per data set."""
        text = ""
        for dataset in self.datasets:
            curves = []
            for row in tables.shown(self.rows, dataset, "scores"):
                path = scores_file(self.run_of[row["folder"]])
                if path is None:
                    continue
                try:
                    _, labels, scores = metrics.read_scores_csv(path)
                    metrics.roc_curve(labels, scores)
                    curves.append((row["run"], labels, scores))
                except BddError as error:
                    self.notes.append(one_line(error))
            if curves:
                text += self.draw(
                    f"roc-{_slug(dataset)}.png",
                    f"ROC curves on {escaped(dataset)}",
                    lambda path, c=curves, d=dataset: pictures.roc_curves(path, c, title=f"{d}, test split"),
                )
        return text

    def accuracy_latency(self) -> str:
        """Accuracy over latency of the runs that are shown, a picture per data set."""
        text = ""
        for dataset in self.datasets:
            timed = tables.shown(self.rows, dataset, "latency")
            machines = sorted({row["latency"]["machine"] for row in timed})
            several, budgets = len(machines) > 1, len({row["images_seen"] for row in timed})
            points = []
            for row in timed:
                place = f" [{machines.index(row['latency']['machine']) + 1}]" if several else ""
                share, binary = row["test"]["accuracy"], bool(row["binary_macs"])
                seen = f" after {tables.count(row['images_seen'])}" if budgets > 1 else ""
                points.append((f"{row['backbone']}{seen}{place}", binary, row["latency"]["median_ms"], share))
            where = "\n".join(f"[{i}] {m}" if several else m for i, m in enumerate(machines, 1))
            if budgets > 1:
                where += "\n(after that many training images)"
            if points:
                text += self.draw(
                    f"accuracy-latency-{_slug(dataset)}.png",
                    f"Accuracy over latency on {escaped(dataset)}",
                    lambda path, p=points, t=f"{dataset}, one thread\n{where}": pictures.accuracy_latency(
                        path, p, title=t
                    ),
                )
        return text

    def ablation_dots(self) -> str:
        """Dots per seed, of the ablation with most runs."""
        if not self.ablations:
            return ""
        group = self.ablations[0]
        rows = [
            (name, [run["accuracy"] for run in group["rows"].get(name, {"runs": []})["runs"]])
            for name in map(ablation.label, ablation.ROWS)
        ]
        s = group["settings"]
        title = f"{one_line(s.get('dataset'))}, {one_line(s.get('backbone'))}, {one_line(ablation.budget(s))}"
        return self.draw(
            "ablation.png",
            "Test accuracy by channels, a dot per seed",
            lambda path: pictures.ablation_dots(path, rows, title=title),
        )

    def galleries(self) -> str:
        """The gallery of the best run on each data set, where its evaluation has left one."""
        text = ""
        for dataset in self.datasets:
            found = (
                self.run_of[row["folder"]].figures / "gallery-test.png"
                for row in tables.shown(self.rows, dataset)
            )
            source = next((path for path in found if path.is_file()), None)
            if source is not None:
                text += self.draw(
                    f"gallery-{_slug(dataset)}.png",
                    f"Right and wrong verdicts on {escaped(dataset)}",
                    lambda path, s=source: _copy(s, path),
                )
        return text

    def channels(self, image: Path | None) -> str:
        """An image beside its channels."""
        return self.draw(
            "channels.png",
            "An image and its FFT, LBP and Sobel channels",
            lambda path: pictures.image_channels(
                path, ResizeRule.native(224).apply(read_image(image or photograph()))
            ),
        )

    def write(self, *, image: Path | None = None, figures: bool = True) -> Path:
        """Write ``report.md``, ``report.json`` and the pictures.

        Args:
            image: The image of the picture of channels; None: a photograph of scikit-image.
            figures: Link to the figures in run folders, too.

        Returns:
            The Markdown file.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        command = ablation_command(self.ablations[0] if self.ablations else None)
        results, results_data = tables.results(self.rows)
        cost_table, cost_data = tables.costs(self.costs, self.latencies)
        parts = [
            "# Report\n\nMade by `make report` from stored results and run folders, without any training.\n"
        ]
        parts.append(f"## Results beside the paper's\n\n{results}")
        parts.append(f"## Which channels help\n\n{self.ablation_dots()}"
                     f"{tables.channel_ablation(self.ablations[0] if self.ablations else None, command)}")  # fmt: skip
        parts += [
            f"### Another ablation\n\n{tables.channel_ablation(group, ablation_command(group))}"
            for group in self.ablations[1:]
        ]
        if self.costs:
            parts.append(f"## Cost\n\n{self.cost_bars()}{cost_table}")
        parts.append(
            f"## Backbones side by side\n\n{self.accuracy_latency()}{self.roc_curves()}{tables.rivals(self.rows)}"
        )
        parts.append(f"The paper prints, on COCOFake: {_printed_rivals()}.\n")
        parts += self._bearing()
        parts.append(f"## Pictures\n\n{self.channels(image)}{self.galleries()}".rstrip() + "\n")
        parts.append(f"## All runs\n\n{tables.runs(self.rows)}")
        if figures:
            parts += self._figures()
        if self.notes:
            parts.append(
                "## Notes\n\n" + "".join(f"- {escaped(note)}\n" for note in dict.fromkeys(self.notes))
            )
        target = self.output / MARKDOWN
        write_atomically(target, "\n".join(parts).encode("utf-8", "backslashreplace"))
        document = {
            "runs": self.rows, "results": results_data, "ablations": self.ablations, "costs": cost_data,
            "pictures": self.pictures, "notes": list(dict.fromkeys(self.notes)),
        }  # fmt: skip
        metrics.write_json(self.output / JSON, _finite(document))
        return target

    def _bearing(self) -> list[str]:
        ablated = {name for group in self.ablations for name in group["runs"]}
        calibration = tables.calibration([row for row in self.rows if row["run"] not in ablated])
        parts = [f"## Calibration\n\n{calibration}"] if calibration else []
        tested = [(row["run"], tables.robustness(row)) for row in self.rows if row["robustness"]]
        if tested:
            parts.append("## Robustness\n")
            parts += [f"### {escaped(name)}\n\n{text}" for name, text in tested]
        if not (calibration and tested):
            parts.append(
                "Robustness and calibration: `bdd evaluate --run NAME --robustness` and `make evaluate RUN=NAME`.\n"
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
    """What trains the missing runs of an ablation, or all of one."""
    if group is None:
        return "make ablation EPOCHS=2 DATA_DIR=..."
    seeds = sorted({int(seed) for _, seed in group["missing"]} | {int(seed) for seed in group["seeds"]})
    return f'make ablation SEEDS={",".join(map(str, seeds))} ARGS="--like {group["runs"][0]}" DATA_DIR=...'


def _printed_rivals() -> str:
    return "; ".join(
        f"{r.name} {tables.percent(r.accuracy)} %"
        + (
            f" ({r.parameters / 1e6:g} M parameters, {r.operations / 1e9:g} G)"
            if r.parameters and r.operations
            else ""
        )
        for r in published.RIVALS
    )


def photograph() -> Path:
    """A photograph that is always there: scikit-image's cat.

    Raises:
        BddError: If scikit-image is not installed.
    """
    found = util.find_spec("skimage")
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise BddError("there is no image to show; give one with --image.")
    return Path(folders[0]) / "data" / "chelsea.png"


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_suffix(".png.tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)[:60] or "unnamed"


def _finite(value: object) -> object:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _finite(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
