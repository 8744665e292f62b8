"""Curves of the training history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.figures.style import COLOURS, GREY, draw
from bdd_tf.training.history import read_history


def _columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of history.csv by name, float64; NaN for a cell without a number."""
    rows = read_history(path)
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def training_history(path: str | Path, history: str | Path, *, title: str = "") -> Path:
    """Draw loss, accuracy, AUC and learning rate per epoch.

    Args:
        path: The PNG to write.
        history: ``history.csv`` of a run, with the columns ``epoch`` and any of ``loss``, ``accuracy``,
            ``learning_rate``, ``validation_loss``, ``validation_accuracy``, ``validation_auc``.
        title: Title of the figure.

    Returns:
        The path.

    Raises:
        BddError: If the file is missing, unreadable or without an epoch.
    """
    columns = _columns(Path(history))
    epochs = columns["epoch"]
    panels = (
        ("loss", (("loss", "training"), ("validation_loss", "validation"))),
        (
            "accuracy and AUC, %",
            (
                ("accuracy", "training accuracy"),
                ("validation_accuracy", "validation accuracy"),
                ("validation_auc", "validation AUC"),
            ),
        ),
        ("learning rate, end of epoch", (("learning_rate", ""),)),
    )
    colours = {"training": GREY, "validation": COLOURS[REAL], "validation AUC": COLOURS[FAKE]}
    colours |= {"training accuracy": GREY, "validation accuracy": COLOURS[REAL], "": "black"}

    def paint(figure: Figure) -> None:
        for axes, (name, lines) in zip(figure.subplots(1, 3), panels, strict=True):
            for key, label in lines:
                if key in columns:
                    values = columns[key] * (100 if "%" in name else 1)
                    axes.plot(epochs, values, "o-", markersize=4, label=label, color=colours[label])
            axes.set(title=name, xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.08, y=0.12)
            if len(epochs) == 1:
                axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
                axes.set_xticks(epochs)
            if lines[0][1] and axes.lines:
                axes.legend()
        if "learning_rate" in columns:
            # The axis starts slightly below zero, so that the marker of a last rate of zero is complete.
            axes.set_ylim(bottom=-0.06 * axes.get_ylim()[1])
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if title:
            figure.suptitle(title)

    return draw(path, (10, 3.4), paint)
