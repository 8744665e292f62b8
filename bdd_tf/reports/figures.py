"""Figures of a report that compare runs or networks. Those of a single run are in :mod:`bdd_tf.figures.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.figures.dots import dot_rows
from bdd_tf.figures.style import COLOURS, GREY, draw, shown
from bdd_tf.metrics import classification

#: Okabe and Ito's palette without yellow, which has too little contrast on white.
LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":")
#: Candidate offsets of a point's label in typographic points; the first one without overlap is used.
_OFFSETS = ((6, 5), (6, -13), (6, 15), (6, -23), (6, 25), (6, -33), (6, 35))


def cost_dots(path: str | Path, rows: Sequence[tuple[str, bool, float, float]], *, title: str = "") -> Path:
    """Draw the storage and operations of networks as dots on logarithmic axes.

    Args:
        path: The PNG file to write.
        rows: (name, whether it is binary, size in MB, operations in G), from top to bottom.
        title: Title of the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column, name in (
            (left, 2, "file, MB (logarithmic)"),
            (right, 3, "operations, G: binary MACs / 64 + float MACs (logarithmic)"),
        ):
            values = [float(row[column]) for row in rows]
            dot_rows(axes, values, [row[1] for row in rows], labels=("binary", "float"))
            axes.set_xlabel(name, fontsize=9)
        left.set_yticks(range(len(rows))[::-1], [shown(row[0]) for row in rows], fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        if title:
            figure.suptitle(title, fontsize=10)

    return draw(path, (9.5, 1.4 + 0.33 * len(rows)), paint)


def roc_curves(
    path: str | Path,
    curves: Sequence[tuple[str, classification.Labels, classification.Scores]],
    *,
    title: str = "",
) -> Path:
    """Draw the ROC curves of several runs, in full and enlarged near the upper left corner.

    Args:
        path: The PNG file to write.
        curves: (name, labels [N], fake probabilities [N]), best first.
        title: Title of the figure.

    Returns:
        The path.

    Raises:
        BddError: For invalid labels or scores, or if a class is missing.
    """
    drawn = [
        (name, *classification.roc_curve(labels, scores)[:2], classification.auc(labels, scores) or 0.0)
        for name, labels, scores in curves
    ]
    best = max(area for *_, area in drawn)
    span = 0.5 if best < 0.9 else 0.2 if best < 0.99 else 0.1

    def paint(figure: Figure) -> None:
        whole, corner = figure.subplots(1, 2)
        for i, (name, false_fake, true_fake, area) in enumerate(drawn):
            style = {"color": LINES[i % len(LINES)], "linestyle": _DASHES[i // len(LINES) % len(_DASHES)]}
            for axes in (whole, corner):
                axes.plot(false_fake, true_fake, label=f"{name}: AUC {100 * area:.2f} %", **style)
        whole.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle="--")
        whole.set(
            xlim=(0, 1), ylim=(0, 1), aspect="equal", title="ROC curve", ylabel="true positive rate (FAKE)"
        )
        corner.set(xlim=(0, span), ylim=(1 - span, 1), aspect="equal", title="upper left corner")
        corner.set_xticks(np.linspace(0, span, 5))
        corner.set_yticks(np.linspace(1 - span, 1, 5))
        for axes in (whole, corner):
            axes.set_xlabel("false positive rate (REAL classified as FAKE)")
        figure.legend(
            *whole.get_legend_handles_labels(), loc="outside lower center", ncols=2 if len(drawn) > 3 else 1
        )
        if title:
            figure.suptitle(title, fontsize=11)

    lines = -(-len(drawn) // 2) if len(drawn) > 3 else len(drawn)
    return draw(path, (8.6, 4.5 + 0.21 * lines), paint)


def accuracy_latency(
    path: str | Path, points: Sequence[tuple[str, bool, float, float]], *, title: str = ""
) -> Path:
    """Draw accuracy against latency, a point per network. The best corner is the upper left one.

    Args:
        path: The PNG file to write.
        points: (name, whether it is binary, median latency in ms, accuracy in [0, 1]).
        title: Title of the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        times, shares = (np.array([point[i] for point in points], np.float64) for i in (2, 3))
        for kind, colour, marker, name in (
            (True, COLOURS[FAKE], "o", "binary"),
            (False, COLOURS[REAL], "s", "float"),
        ):
            mine = np.array([point[1] is kind for point in points])
            if mine.any():
                axes.scatter(
                    times[mine], 100 * shares[mine], c=colour, marker=marker, s=45, label=name, zorder=3
                )
        axes.set_xscale("log")
        axes.set_xlim(times.min() / 1.8, times.max() * 3)
        low, high = 100 * shares.min(), 100 * shares.max()
        room = max(high - low, 0.5)
        axes.set_ylim(low - 0.2 * room, high + 0.2 * room)
        labels = [
            axes.annotate(name, (x, y), _OFFSETS[0], textcoords="offset points", fontsize=8.5)
            for (name, *_), x, y in zip(points, times, 100 * shares, strict=True)
        ]
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axes.tick_params(axis="x", which="minor", labelsize=8)
        axes.set(xlabel="median latency of one image, ms (logarithmic)", ylabel="test accuracy, %")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        if title:
            figure.suptitle(title, fontsize=10)
        _spread(figure, axes, labels, np.stack([times, 100 * shares], 1))

    return draw(path, (6.6, 4.6), paint)


def _spread(figure: Figure, axes: Axes, labels: Sequence[Annotation], at: np.ndarray) -> None:
    """Move labels so that they do not overlap each other or other labels' points, as far as :data:`_OFFSETS` permits.

    Args:
        figure: The figure.
        axes: Its axes.
        labels: A label per point.
        at: Data coordinates of the points, [N, 2].
    """
    figure.draw_without_rendering()
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(at)]
    taken: list[Bbox] = []
    for i, label in enumerate(labels):
        others = taken + dots[:i] + dots[i + 1 :]
        for place in _OFFSETS:
            label.set_position(place)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in others):
                break
        taken.append(box)


def ablation_dots(path: str | Path, rows: Sequence[tuple[str, Sequence[float]]], *, title: str = "") -> Path:
    """Draw an ablation: a column per row, with a dot per seed and a bar at the mean.

    Args:
        path: The PNG file to write.
        rows: (channels, accuracy in [0, 1] per seed). A row without seeds is marked as not run.
        title: Title of the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (_, values) in enumerate(rows):
            if len(values):
                shares = 100 * np.asarray(values, np.float64)
                # Side by side, so that equal values remain visible.
                offsets = (np.arange(len(shares)) - (len(shares) - 1) / 2) * min(0.12, 0.5 / len(shares))
                axes.plot(place + offsets, shares, "o", color=COLOURS[REAL], alpha=0.75, markersize=6)
                axes.hlines(shares.mean(), place - 0.26, place + 0.26, color=COLOURS[FAKE], linewidth=2.5)
                axes.text(place + 0.29, shares.mean(), f"{shares.mean():.2f}", va="center", fontsize=7.5)
            else:
                axes.text(place, 0.03, "not run", ha="center", fontsize=8, color=GREY,
                          transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlim(-0.6, len(rows) - 0.2)
        axes.margins(y=0.15)
        axes.grid(axis="x", visible=False)
        axes.set(ylabel="test accuracy, % (dot: seed, bar: mean)", xlabel="channels in addition to RGB")
        if title:
            figure.suptitle(title, fontsize=10)

    return draw(path, (9.4, 4.2), paint)


def image_channels(path: str | Path, image: np.ndarray, *, title: str = "") -> Path:
    """Draw an image and its FFT, LBP and Sobel channels in the variant of detectors trained from scratch.

    Args:
        path: The PNG file to write.
        image: uint8 [H, W, 3].
        title: Title of the figure.

    Returns:
        The path.
    """
    from bdd_tf.figures.channels import channels as draw_channels
    from bdd_tf.models.channels.fft import fft_log_magnitude
    from bdd_tf.models.channels.grey import grey
    from bdd_tf.models.channels.lbp import local_binary_pattern
    from bdd_tf.models.channels.sobel import sobel_magnitude

    levels = grey(image[None])
    maps = {
        "FFT": fft_log_magnitude(levels, "stable"),
        "LBP": local_binary_pattern(levels, "stable"),
        "Sobel": sobel_magnitude(levels, "stable"),
    }
    return draw_channels(path, image, {name: m.numpy()[0, ..., 0] for name, m in maps.items()}, title=title)
