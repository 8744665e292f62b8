"""Colours, fonts and the writer of all figures."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

from bdd_tf.edge.text import legible
from bdd_tf.files import write_atomically

DPI = 150


# Two colours of Okabe and Ito's palette, which colour-blind readers can distinguish. Index: label.
COLOURS = ("#0072B2", "#D55E00")


GREY = "#666666"


STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "image.interpolation": "nearest",
    # File names and titles come from users; a $ in them does not start a formula.
    "text.parse_math": False,
}


def draw(path: str | Path, size: tuple[float, float], paint: Callable[[Figure], None]) -> Path:
    """Paint a figure of `size` inches in this module's style and write it atomically.

    Characters that the font lacks are escaped (see `shown`), except in labels of ticks.
    """
    # Text and images look up the style when the file is written, so it must stay in effect until then.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        for text in figure.findobj(Text):
            text.set_text(shown(text.get_text()))
        data = io.BytesIO()
        # Without the version of matplotlib, equal figures are equal files.
        figure.savefig(data, format="png", metadata={"Software": None})
    write_atomically(Path(path), data.getvalue())
    return Path(path)


def shown(text: str) -> str:
    """Return text as it is drawn, with an escape such as ``<U+1F389>`` for each character that the font lacks.

    Titles, legends and notes are treated by `draw`; names at the ticks of an axis need this function.
    """
    return "\n".join(legible(line, lambda c: ord(c) in _characters()) for line in text.split("\n"))


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(STYLE["font.family"])).get_charmap())


def _percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"
