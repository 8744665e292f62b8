"""The report's pictures over several runs or networks; those of one run are in :mod:`bdd_tf.figures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from bdd_tf import metrics
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.figures import _GREY, COLOURS, _draw

#: Okabe and Ito's palette without yellow, which is hard to see on white.
LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":")
#: Where the label of a point may stand, as offsets in typographic points, the first that is free.
_PLACES = ((6, 5), (6, -13), (6, 15), (6, -23), (6, 25), (6, -33), (6, 35))


def cost_bars(path: str | Path, bars: Sequence[tuple[str, bool, float, float]], *, title: str = "") -> Path:
    """Draw storage and operations of networks as bars side by side.

    Args:
        path: The PNG to write.
        bars: (name, whether it is binary, megabytes, giga-operations), from the top.
        title: Above the figure.

    Returns:
        The path.
    """
    places = np.arange(len(bars))[::-1]
    colours = [COLOURS[FAKE] if binary else _GREY for _, binary, *_ in bars]

    def panel(axes: Axes, values: list[float], name: str) -> None:
        axes.barh(places, values, color=colours, height=0.7)
        for place, value in zip(places, values, strict=True):
            axes.text(value + max(values) * 0.015, place, f"{value:.3g}", va="center", fontsize=9)
        axes.set_xlim(0, max(values) * 1.15)
        axes.set_title(name)
        axes.grid(visible=False, axis="y")

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        panel(left, [bar[2] for bar in bars], "storage: file, MB")
        panel(right, [bar[3] for bar in bars], "operations, G (binary MACs / 64 + float MACs)")
        left.set_yticks(places, [bar[0] for bar in bars], fontsize=9)
        if title:
            figure.suptitle(title, fontsize=10)

    return _draw(path, (9.5, 1.1 + 0.36 * len(bars)), paint)


def roc_curves(
    path: str | Path, curves: Sequence[tuple[str, metrics.Labels, metrics.Scores]], *, title: str = ""
) -> Path:
    """Draw the ROC curves of several runs, the whole and its corner.

    Args:
        path: The PNG to write.
        curves: (name, labels [N], fake probabilities [N]), best first.
        title: Above the figure.

    Returns:
        The path.

    Raises:
        BddError: For impossible input, or where a class is missing.
    """
    drawn = [
        (name, *metrics.roc_curve(labels, scores)[:2], metrics.auc(labels, scores))
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
            xlim=(0, 1), ylim=(0, 1), aspect="equal", title="all of it", ylabel="FAKE images called FAKE"
        )
        corner.set(xlim=(0, span), ylim=(1 - span, 1), aspect="equal", title="its corner")
        corner.set_xticks(np.linspace(0, span, 5))
        corner.set_yticks(np.linspace(1 - span, 1, 5))
        for axes in (whole, corner):
            axes.set_xlabel("REAL images called FAKE")
        figure.legend(
            *whole.get_legend_handles_labels(), loc="outside lower center", ncols=2 if len(drawn) > 3 else 1
        )
        if title:
            figure.suptitle(title, fontsize=11)

    lines = -(-len(drawn) // 2) if len(drawn) > 3 else len(drawn)
    return _draw(path, (8.6, 4.5 + 0.21 * lines), paint)


def accuracy_latency(
    path: str | Path, points: Sequence[tuple[str, bool, float, float]], *, title: str = ""
) -> Path:
    """Draw accuracy over latency, a point per network; up and to the left is better.

    Args:
        path: The PNG to write.
        points: (name, whether it is binary, median in ms, accuracy in [0, 1]).
        title: Above the figure.

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
            axes.annotate(name, (x, y), _PLACES[0], textcoords="offset points", fontsize=8.5)
            for (name, *_), x, y in zip(points, times, 100 * shares, strict=True)
        ]
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axes.tick_params(axis="x", which="minor", labelsize=8)
        axes.set(xlabel="median of one image, ms (logarithmic)", ylabel="test accuracy, %")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        if title:
            figure.suptitle(title, fontsize=10)
        _spread(figure, axes, labels, np.stack([times, 100 * shares], 1))

    return _draw(path, (6.6, 4.6), paint)


def _spread(figure: Figure, axes: Axes, labels: Sequence[Annotation], at: np.ndarray) -> None:
    """Move labels off one another and off the points [N, 2] that they name, as far as :data:`_PLACES` goes."""
    figure.draw_without_rendering()
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(at)]
    taken: list[Bbox] = []
    for i, label in enumerate(labels):
        others = taken + dots[:i] + dots[i + 1 :]
        for place in _PLACES:
            label.set_position(place)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in others):
                break
        taken.append(box)


def ablation_dots(path: str | Path, rows: Sequence[tuple[str, Sequence[float]]], *, title: str = "") -> Path:
    """Draw a dot per seed and a bar at the mean, a column per row of the ablation.

    Args:
        path: The PNG to write.
        rows: (channels, accuracy in [0, 1] per seed); rows without seeds are left empty.
        title: Above the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (_, values) in enumerate(rows):
            if len(values):
                shares = 100 * np.asarray(values, np.float64)
                # Beside each other, so that equal seeds are seen as two.
                offsets = (np.arange(len(shares)) - (len(shares) - 1) / 2) * min(0.12, 0.5 / len(shares))
                axes.plot(place + offsets, shares, "o", color=COLOURS[REAL], alpha=0.75, markersize=6)
                axes.hlines(shares.mean(), place - 0.26, place + 0.26, color=COLOURS[FAKE], linewidth=2.5)
                axes.text(place + 0.29, shares.mean(), f"{shares.mean():.2f}", va="center", fontsize=7.5)
            else:
                axes.text(place, 0.03, "not run", ha="center", fontsize=8, color=_GREY,
                          transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlim(-0.6, len(rows) - 0.2)
        axes.margins(y=0.15)
        axes.grid(axis="x", visible=False)
        axes.set(ylabel="test accuracy, % (dot: a seed, bar: mean)", xlabel="channels beside RGB")
        if title:
            figure.suptitle(title, fontsize=10)

    return _draw(path, (9.4, 4.2), paint)


def image_channels(path: str | Path, image: np.ndarray, *, title: str = "") -> Path:
    """Draw an image beside its FFT, LBP and Sobel channels, as a detector trained from scratch sees them.

    Args:
        path: The PNG to write.
        image: uint8 [H, W, 3].
        title: Above the figure.

    Returns:
        The path.
    """
    from bdd_tf import channels, figures

    levels = channels.grey(image[None])
    maps = {
        "FFT": channels.fft_log_magnitude(levels, "stable"),
        "LBP": channels.local_binary_pattern(levels, "stable"),
        "Sobel": channels.sobel_magnitude(levels, "stable"),
    }
    return figures.channels(
        path, image, {name: m.numpy()[0, ..., 0] for name, m in maps.items()}, title=title
    )
