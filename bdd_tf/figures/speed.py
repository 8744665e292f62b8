"""Latencies and the roofline figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.figures.dots import dot_rows
from bdd_tf.figures.style import COLOURS, draw, shown


def latency_dots(
    path: str | Path, rows: Sequence[tuple[str, float, float]], *, own: int = 1, title: str = ""
) -> Path:
    """Draw latencies as dots on a logarithmic axis.

    Args:
        path: The PNG to write.
        rows: (name, median in ms, 90th percentile in ms), from top to bottom.
        own: The number of leading rows that are highlighted: the benchmarked files.
        title: Title of the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        dot_rows(
            axes,
            [row[1] for row in rows],
            [i < own for i in range(len(rows))],
            ends=[row[2] for row in rows],
            unit=" ms",
        )
        axes.set_yticks(range(len(rows))[::-1], [shown(row[0]) for row in rows], fontsize=8)
        axes.set(xlabel="median of one image, ms, logarithmic (whisker: 90th percentile)")
        if title:
            figure.suptitle(title, fontsize=10)

    return draw(path, (9, 1.2 + 0.26 * len(rows)), paint)


def roofline(path: str | Path, rows: Sequence[dict], *, title: str = "") -> Path:
    """Draw the share of each measured time that the arithmetic needs at the machine's peak throughput.

    Args:
        path: The PNG to write.
        rows: ``name``, ``ms`` (measured) and ``least_ms`` with ``binary``, ``float`` and ``memory``, in ms.
        title: Title of the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        measured = np.array([r["ms"] for r in rows])
        binary, real, memory = (
            100 * np.array([r["least_ms"][key] for r in rows]) / measured
            for key in ("binary", "float", "memory")
        )
        axes.barh(places, np.full(len(rows), 100), color="#E4E4E4", height=0.7, label="measured")
        if np.any(binary):
            axes.barh(places, binary, color=COLOURS[FAKE], height=0.7, label="binary multiply-adds at peak")
        if np.any(real):
            axes.barh(
                places,
                real,
                left=binary,
                color=COLOURS[REAL],
                height=0.7,
                label="float multiply-adds at peak",
            )
        axes.plot(memory, places, "|", color="black", ms=14, label="weights read once from memory")
        for place, row, share in zip(places, rows, binary + real, strict=True):
            axes.text(101, place, f"{row['ms']:.3g} ms, {share:.0f} %", va="center", fontsize=8)
        axes.set_yticks(places, [shown(r["name"]) for r in rows], fontsize=8)
        axes.set_xlim(0, 122)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of the measured time that the bound explains, %")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        if title:
            figure.suptitle(title, fontsize=10)

    return draw(path, (8, 2.0 + 0.32 * len(rows)), paint)
