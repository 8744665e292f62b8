"""The matrix picture of the photo protocol: families by conditions, held-out families marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdd_tf.figures.style import GREY, draw

#: Name of a row and its value per condition, None where undefined.
Row = tuple[str, list[float | None]]


def protocol_matrix(path: str | Path, document: dict, title: str = "") -> Path:
    """Draw AUC per family and false alarms per real source under every condition.

    Args:
        path: The PNG to write.
        document: Of :func:`bdd_tf.evaluation.photos.evaluate.evaluate_photos`.
        title: Title of the figure.

    Returns:
        The path.
    """
    results = document["crops"]
    conditions = list(results)
    fakes = _fake_rows(results, conditions)
    reals = _real_rows(results, conditions)

    def paint(figure: Figure) -> None:
        heights = [max(len(fakes), 1), max(len(reals), 1)]
        upper, lower = figure.subplots(2, 1, height_ratios=heights)
        _matrix(upper, fakes, (0.4, 1.0), "RdYlGn")
        upper.set_xticks(range(len(conditions)), conditions)
        upper.set_title("AUC, size and coding matched, %", loc="left")
        _matrix(lower, reals, (0.0, 0.3), "RdYlGn_r")
        lower.set_title(f"REAL called FAKE at the threshold, %{_band(document.get('unsure'))}", loc="left")
        figure.suptitle(title, fontsize=10)
        lower.set_xlabel("● held out: training saw none of it", fontsize=8, color=GREY, loc="left")

    rows = len(fakes) + len(reals)
    # Few conditions still need the width of the titles.
    return draw(path, (max(2.6 + 1.05 * len(conditions), 8.0), 1.9 + 0.27 * rows), paint)


def _band(unsure: dict | None) -> str:
    """The band's share of decided images, for a title; empty without one."""
    if unsure is None or not unsure["crops"]:
        return ""
    row = unsure["crops"].get("held_out") or unsure["crops"]["seen"]
    called, decided = (100 * row[key] for key in ("real_called_fake", "coverage"))
    return f" (beyond the band: {called:.1f} %, with {decided:.0f} % of the images decided)"


def _name(name: str, held: bool) -> str:
    return f"● {name}" if held else name


def _fake_rows(results: dict, conditions: list[str]) -> list[Row]:
    """Held-out families first, then the seen ones; below each group its mean."""
    rows: list[Row] = []
    for comparison in ("held_out", "seen"):
        if comparison not in results["clean"]:
            continue
        for family in results["clean"][comparison]["families"]:
            cells = [results[c][comparison]["families"][family]["matched"] for c in conditions]
            rows.append((_name(family, comparison == "held_out"), [cell and cell["auc"] for cell in cells]))
        means = [results[c][comparison]["summary"]["matched"] for c in conditions]
        rows.append((_name("mean", comparison == "held_out"), [mean and mean["auc"] for mean in means]))
    return rows


def _real_rows(results: dict, conditions: list[str]) -> list[Row]:
    rows: list[Row] = []
    seen = set(results["clean"].get("seen", {}).get("real", {}))
    for comparison in ("held_out", "seen_generators_unseen_cameras", "seen"):
        for source in results["clean"].get(comparison, {}).get("real", {}):
            label = _name(source, source not in seen)
            if label not in [name for name, _ in rows]:
                cells = [results[c][comparison]["real"][source]["false_alarms"] for c in conditions]
                rows.append((label, cells))
    return rows


def _matrix(axes: Axes, rows: list[Row], limits: tuple[float, float], colours: str) -> None:
    if not rows:
        axes.set_axis_off()
        return
    values = np.array([[np.nan if value is None else value for value in cells] for _, cells in rows])
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    axes.xaxis.tick_top()
    axes.set_xticks([])
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(length=0, labelsize=9)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text = "–" if np.isnan(value) else f"{100 * value:.0f}"
        red, green, blue, _ = image.cmap(image.norm(value))
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.45 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
