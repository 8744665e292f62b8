"""Rows of dots on a logarithmic axis: quantities that differ by orders of magnitude.

Bars would need a zero to start from, which a logarithmic axis has not: their lengths would depend on where it is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from bdd_tf.edge.labels import FAKE
from bdd_tf.figures.style import COLOURS, GREY


def dot_rows(
    axes: Axes,
    values: Sequence[float],
    highlighted: Sequence[bool],
    *,
    ends: Sequence[float] | None = None,
    unit: str = "",
    labels: tuple[str, str] = ("", ""),
) -> None:
    """Draw a row per value, from top to bottom: a dot, with the number beside it.

    Args:
        axes: Where to draw; the places of the rows are ``len(values) - 1`` to 0.
        values: Positive numbers, [N], N at least 1.
        highlighted: Whether a row is drawn as a filled circle in colour, not as a grey square, [N].
        ends: Right ends of whiskers, [N]; None for no whiskers. One below its value has none.
        unit: Written behind the numbers.
        labels: Entries for the legend, of highlighted and of other rows.
    """
    places = np.arange(len(values))[::-1]
    middles = np.asarray(values, np.float64)
    right = np.maximum(middles if ends is None else np.asarray(ends, np.float64), middles)
    mine = np.asarray(highlighted, bool)
    axes.hlines(places, middles, right, color="black", linewidth=1.2)
    axes.plot(right[right > middles], places[right > middles], "|", color="black", markersize=7)
    for which, colour, marker, label in (
        (mine, COLOURS[FAKE], "o", labels[0]),
        (~mine, GREY, "s", labels[1]),
    ):
        if which.any():
            axes.plot(
                middles[which],
                places[which],
                marker,
                color=colour,
                markersize=8,
                label=label or None,
                zorder=3,
            )
    for place, value, end in zip(places, middles, right, strict=True):
        axes.annotate(
            f"{value:.3g}{unit}", (end, place), (8, 0), textcoords="offset points", va="center", fontsize=8.5
        )
    axes.set_xscale("log")
    low, high = middles.min(), right.max()
    # Room for the numbers behind the last dots; at least a decade, so that there are ticks.
    widest = max(high / low, 10)
    axes.set_xlim(low / widest**0.06, max(low * widest, high) * widest**0.24)
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(True, axis="y", linestyle=":")
    axes.tick_params(axis="y", length=0)
