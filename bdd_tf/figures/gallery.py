"""Example images, sorted by outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import BddError
from bdd_tf.figures.style import DPI, GREY, draw
from bdd_tf.metrics import classification

Load = Callable[[str | Path], np.ndarray]

#: The gallery's columns: title, label, verdict, colour.
OUTCOMES = (
    ("True positives", FAKE, FAKE, "#009E73"),
    ("False negatives", FAKE, REAL, "#D55E00"),
    ("True negatives", REAL, REAL, "#0072B2"),
    ("False positives", REAL, FAKE, "#CC79A7"),
)

#: Sizes in inches of an image, of the gap between two, and of the caption below one.
_THUMB, _GAP, _CAPTION = 0.92, 0.1, 0.2
#: Sizes in inches of a frame's padding and its headings, of the space between frames, and of the note at the foot.
_PAD, _HEAD, _BETWEEN, _FOOT = 0.14, 0.62, 0.2, 0.3


@dataclass(frozen=True)
class Scored:
    """Images with their labels and scores.

    Attributes:
        paths: Names of the images, [N].
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
    """

    paths: Sequence[str | Path]
    labels: classification.Labels
    scores: classification.Scores


def choose_examples(
    labels: classification.Labels,
    scores: classification.Scores,
    threshold: float,
    paths: Sequence[str | Path],
    count: int,
) -> dict[str, np.ndarray]:
    """Choose images of every outcome, evenly spaced from the most certain verdict to the least certain one.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores at or above it are called FAKE.
        paths: Names of the images, [N]; determine the order of equal scores.
        count: Maximum number of images per outcome.

    Returns:
        Title of :data:`OUTCOMES` -> indices, int [up to count], most certain first. The choice does not depend on the
        order of the images.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    names = np.asarray([str(p) for p in paths])
    called = scores >= threshold
    chosen = {}
    for title, label, verdict, _ in OUTCOMES:
        found = np.flatnonzero((labels == label) & (called == (verdict == FAKE)))
        certain = scores[found] if verdict == FAKE else -scores[found]
        found = found[np.lexsort((names[found], -certain))]
        spaced = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        chosen[title] = found[spaced]
    return chosen


@dataclass(frozen=True)
class _Layout:
    """Places in inches. Everything is placed by hand: a layout engine would fit the images to the titles' lengths."""

    rows: int
    top: float

    @property
    def frame_width(self) -> float:
        return 2 * _THUMB + _GAP + 2 * _PAD

    @property
    def frame_height(self) -> float:
        return _HEAD + self.rows * (_THUMB + _CAPTION) + _PAD / 2

    @property
    def size(self) -> tuple[float, float]:
        return 4 * self.frame_width + 5 * _BETWEEN, self.top + self.frame_height + _BETWEEN + _FOOT

    def frame(self, column: int) -> tuple[float, float]:
        """Left and bottom of a column's frame."""
        return _BETWEEN + column * (self.frame_width + _BETWEEN), _FOOT + _BETWEEN / 2

    def axes(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
        total_width, total_height = self.size
        place = (left / total_width, bottom / total_height, width / total_width, height / total_height)
        return figure.add_axes(place)


def gallery(
    path: str | Path,
    images: Scored,
    *,
    threshold: float,
    load: Load,
    rows: int = 4,
    title: str = "",
) -> Path:
    """Show correct and wrong verdicts in four framed columns: true and false positives and negatives.

    Args:
        path: The PNG to write.
        images: Labelled and scored images.
        threshold: Scores at or above it are called FAKE.
        load: Returns the image of a path, uint8 [H, W, 3]; called for the chosen images only. If it raises BddError or
            OSError, the image is shown as unreadable.
        rows: Rows of two images per column.
        title: Title of the figure.

    Returns:
        The path.
    """
    scores = np.asarray(images.scores)
    chosen = choose_examples(images.labels, scores, threshold, images.paths, 2 * rows)
    cells = classification.confusion(images.labels, scores, threshold)
    # In the order of OUTCOMES.
    totals = [cells[key] for key in ("true_fake", "false_real", "true_real", "false_fake")]
    rows = max(1, min(rows, -(-max(len(c) for c in chosen.values()) // 2)))
    layout = _Layout(rows, 0.4 if title else 0.08)
    width, height = layout.size

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        canvas = layout.axes(figure, 0, 0, width, height)
        canvas.set(xlim=(0, width), ylim=(0, height))
        canvas.axis("off")
        if title:
            canvas.text(width / 2, height - layout.top / 2, title, ha="center", va="center", fontsize=12)
        for column, total in enumerate(totals):
            name = OUTCOMES[column][0]
            _frame(canvas, layout, column, total, empty=not len(chosen[name]))
            for i, index in enumerate(chosen[name]):
                axes = _thumbnail(figure, layout, column, i)
                _show_file(axes, images.paths[index], load, _THUMB)
                axes.text(
                    0.5, -0.03, f"{scores[index]:.3f}", ha="center", va="top", fontsize=8.5, transform=axes.transAxes
                )  # fmt: skip
        note = (
            f"below each image: its fake probability (threshold {threshold:.3g}); most certain verdicts first"
        )
        canvas.text(width / 2, _FOOT / 2, note, ha="center", va="center", fontsize=8.5, color=GREY)

    return draw(path, (width, height), paint)


def _frame(canvas: Axes, layout: _Layout, column: int, total: int, *, empty: bool) -> None:
    """Draw a column's frame with its headings."""
    name, label, verdict, colour = OUTCOMES[column]
    left, bottom = layout.frame(column)
    width, height = layout.frame_width, layout.frame_height
    canvas.add_patch(
        Rectangle((left, bottom), width, height, fill=False, edgecolor=colour, linewidth=3, clip_on=False)
    )
    centre, upper = left + width / 2, bottom + height
    style: dict[str, Any] = {"ha": "center", "va": "center"}
    canvas.text(centre, upper - 0.2, name, color=colour, weight="bold", fontsize=12, **style)
    subtitle = f"{LABELS[label]} called {LABELS[verdict]}: {total:,}"
    canvas.text(centre, upper - 0.43, subtitle, fontsize=9, **style)
    if empty:
        canvas.text(centre, bottom + (height - _HEAD) / 2, "none", color=GREY, fontsize=12, **style)


def _thumbnail(figure: Figure, layout: _Layout, column: int, index: int) -> Axes:
    left, bottom = layout.frame(column)
    return layout.axes(
        figure,
        left + _PAD + (index % 2) * (_THUMB + _GAP),
        bottom + layout.frame_height - _HEAD - (index // 2) * (_THUMB + _CAPTION) - _THUMB,
        _THUMB,
        _THUMB,
    )


def _show_file(axes: Axes, path: str | Path, load: Load, inches: float) -> None:
    axes.axis("off")
    try:
        image = np.asarray(load(path))
    except (BddError, OSError):
        axes.add_patch(Rectangle((0, 0), 1, 1, color="#EEEEEE", transform=axes.transAxes))
        axes.text(0.5, 0.5, "unreadable", ha="center", va="center", fontsize=8, transform=axes.transAxes)
        return
    _show(axes, image, inches)


def _show(axes: Axes, image: np.ndarray, inches: float, **kwargs: Any) -> None:
    """Show an image: pixel by pixel if it is smaller than its axes, else smoothed."""
    small = max(image.shape[:2]) <= inches * DPI
    axes.imshow(image, interpolation="nearest" if small else "hanning", interpolation_stage="data", **kwargs)
    axes.set_anchor("C")
