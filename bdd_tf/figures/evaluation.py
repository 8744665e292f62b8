"""Figures of an evaluation, as PNG files. They use matplotlib's Figure objects only: no pyplot, no display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.figures.gallery import Load, Scored, gallery
from bdd_tf.figures.style import COLOURS, GREY, _percent, draw
from bdd_tf.metrics import calibration, classification


def roc(
    path: str | Path,
    labels: classification.Labels,
    scores: classification.Scores,
    *,
    threshold: float,
    interval: Sequence[float] | None = None,
    title: str = "",
) -> Path:
    """Draw the ROC curve with its area and the threshold.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Marked on the curve.
        interval: Lower and upper bound of the area's 95 % interval.
        title: Title of the figure.

    Returns:
        The path.

    Raises:
        BddError: For invalid input, or if a class is missing.
    """
    false_fake, true_fake, thresholds = classification.roc_curve(labels, scores)
    # Not None: roc_curve has refused input without both classes.
    area = float(classification.auc(labels, scores) or 0)
    eer = float(classification.equal_error_rate(labels, scores) or 0)
    at = int(np.count_nonzero(thresholds >= threshold)) - 1
    text = f"AUC {_percent(area)}"
    if interval:
        text += f"\n95 % interval {100 * interval[0]:.2f} to {_percent(interval[1])}"
    text += f"\nequal error rate {_percent(eer)}"
    text += f"\n●  threshold {threshold:.3g}:"
    text += f"\n    {_percent(true_fake[at])} of FAKE called FAKE"
    text += f"\n    {_percent(false_fake[at])} of REAL called FAKE"

    def curve(axes: Axes) -> None:
        axes.plot(false_fake, true_fake, color=COLOURS[FAKE], solid_capstyle="butt", clip_on=False)
        style: dict[str, Any] = {
            "color": "black",
            "markersize": 6,
            "markeredgecolor": "white",
            "clip_on": False,
        }
        axes.plot(false_fake[at], true_fake[at], "o", **style)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        curve(axes)
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle="--")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title)
        axes.set(xlabel="REAL images called FAKE", ylabel="FAKE images called FAKE")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        style: dict[str, Any] = {
            "ha": "right",
            "va": "bottom",
            "linespacing": 1.5,
            "fontsize": 9,
            "bbox": box,
        }
        axes.text(0.97, 0.03, text, transform=axes.transAxes, **style)
        # The curve of a good detector runs close to the corner, which is shown enlarged.
        if area > 0.9:
            _enlarge_corner(axes, curve, 0.2 if area < 0.99 else 0.1)

    return draw(path, (5.4, 5.4), paint)


def _enlarge_corner(axes: Axes, curve: Callable[[Axes], None], span: float) -> None:
    corner = axes.inset_axes((0.47, 0.46, 0.5, 0.5))
    curve(corner)
    corner.set(xlim=(0, span), ylim=(1 - span, 1), aspect="equal")
    corner.set_xticks([0, span / 2, span])
    corner.set_yticks([1 - span, 1 - span / 2, 1])
    corner.tick_params(labelsize=8)
    corner.spines[:].set_visible(True)
    for artist in corner.lines:
        artist.set_clip_on(True)
    axes.indicate_inset_zoom(corner, edgecolor=GREY, alpha=0.6)


def confusion_matrix(path: str | Path, cells: dict[str, int], *, title: str = "") -> Path:
    """Draw the confusion matrix with counts and row percentages.

    Args:
        path: The PNG to write.
        cells: Counts as returned by :func:`bdd_tf.metrics.classification.confusion`.
        title: Title of the figure.

    Returns:
        The path.
    """
    counts = np.array(
        [[cells["true_real"], cells["false_fake"]], [cells["false_real"], cells["true_fake"]]], dtype=np.int64
    )
    totals = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(totals, 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
        for row in (REAL, FAKE):
            for column in (REAL, FAKE):
                colour = "white" if share[row, column] > 0.6 else "black"
                text = f"{counts[row, column]:,}"
                axes.text(
                    column,
                    row - 0.06,
                    text,
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=17,
                    weight="bold",
                )
                text = _percent(share[row, column]) if totals[row, 0] else "no images"
                axes.text(column, row + 0.17, text, ha="center", va="center", color=colour)
        axes.set_xticks([REAL, FAKE], LABELS)
        axes.set_yticks([REAL, FAKE], [f"{name}\n({totals[i, 0]:,})" for i, name in enumerate(LABELS)])
        axes.tick_params(length=0, colors="black")
        axes.spines[:].set_visible(False)
        axes.set_xticks([0.5], minor=True)
        axes.set_yticks([0.5], minor=True)
        axes.grid(True, which="minor", color="white", linewidth=4)
        axes.tick_params(which="minor", length=0)
        axes.set(xlabel="verdict", ylabel="label", title=title)

    return draw(path, (4.6, 4.4), paint)


def score_histogram(
    path: str | Path,
    labels: classification.Labels,
    scores: classification.Scores,
    *,
    threshold: float,
    title: str = "",
) -> Path:
    """Draw a histogram of the scores, with a row per class and a logarithmic count axis.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Drawn as a line.
        title: Title of the figure.

    Returns:
        The path.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    edges = np.linspace(0, 1, 51)
    counts = [np.histogram(scores[labels == label], edges)[0] for label in (REAL, FAKE)]
    top = max(1, *(int(count.max()) for count in counts))

    def row(axes: Axes, label: int) -> None:
        # A logarithmic axis has no zero. The bars start at 0.5, so that a single image is visible.
        drawn = np.where(counts[label] > 0, counts[label], 0.5)
        style: dict[str, Any] = {"baseline": 0.5, "color": COLOURS[label]}
        # One class is solid and the other one hatched: they differ without colours as well.
        if label == REAL:
            axes.stairs(drawn, edges, fill=True, **style)
        else:
            axes.stairs(drawn, edges, fill=True, alpha=0.15, **style)
            axes.stairs(drawn, edges, hatch="////", linewidth=1.3, **style)
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
        axes.set_yscale("log")
        axes.set(xlim=(0, 1), ylim=(0.5, top * 2))
        axes.set_title(
            f"{LABELS[label]}: {counts[label].sum():,} images", loc="left", fontsize=10, color=COLOURS[label]
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        axes.grid(axis="x", visible=False)

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
        row(upper, REAL)
        row(lower, FAKE)
        upper.set_title(
            f"threshold {threshold:.3g}: REAL below, FAKE from it upwards", loc="right", fontsize=9
        )
        lower.set(xlabel="fake probability")
        figure.supylabel("images (logarithmic)", fontsize=10)
        if title:
            figure.suptitle(title, fontsize=11)

    return draw(path, (7, 4.6), paint)


def reliability(
    path: str | Path,
    labels: classification.Labels,
    logits: calibration.Logits,
    temperature: float,
    *,
    title: str = "",
) -> Path:
    """Draw reliability diagrams before and after calibration, with the images per bin below.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        logits: Uncalibrated logits, [N].
        temperature: Temperature of the right diagram.
        title: Title of the figure.

    Returns:
        The path.

    Raises:
        BddError: For invalid input.
    """
    halves = [
        ("as trained", calibration.reliability(labels, logits)),
        (f"temperature {temperature:.3g}", calibration.reliability(labels, logits, temperature)),
    ]

    def bars(axes: Axes, name: str, bins: calibration.Reliability) -> None:
        # Bins have equal width in [0, 1]; of the bin that contains 0.5, the upper half is shown.
        left = np.maximum(bins.low, 0.5)
        width = bins.high - left
        style: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
        axes.bar(left, bins.accuracy, width, color="#56B4E9", label="accuracy", **style)
        axes.plot([0.5, 1], [0.5, 1], color="black", linewidth=1, linestyle="--", label="perfect calibration")
        axes.plot(
            bins.confidence, bins.accuracy, "o", color="black", markersize=4, label="at the mean confidence"
        )
        axes.set(xlim=(0.5, 1), ylim=(0, 1.02), title=f"{name}: calibration error {_percent(bins.error)}")
        axes.tick_params(labelbottom=False)

    def paint(figure: Figure) -> None:
        rows = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(3, 1))
        for column, (name, bins) in enumerate(halves):
            bars(rows[0, column], name, bins)
            below = rows[1, column]
            left = np.maximum(bins.low, 0.5)
            share = 100 * bins.images / bins.images.sum()
            below.bar(
                left, share, bins.high - left, align="edge", color=GREY, edgecolor="white", linewidth=0.8
            )
            below.set(xlabel="confidence", ylim=(0, 100))
        rows[0, 0].set(ylabel="accuracy")
        rows[1, 0].set(ylabel="% of images")
        handles, names = rows[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        figure.set_layout_engine("constrained", wspace=0.08)
        if title:
            figure.suptitle(title, fontsize=11)

    return draw(path, (7.4, 4.6), paint)


def robustness(path: str | Path, document: dict, *, title: str = "") -> Path:
    """Draw the accuracy under each perturbation, from clean images on the left to the highest severity.

    Args:
        path: The PNG to write.
        document: As returned by :func:`bdd_tf.evaluation.robustness.evaluate_robustness`.
        title: Title of the figure.

    Returns:
        The path.
    """
    clean, rows = document["clean"], document["rows"]
    names = list(dict.fromkeys(row["perturbation"] for row in rows))
    lines = (
        ("accuracy", "accuracy", "black", "-"),
        ("accuracy_real", "on REAL", COLOURS[REAL], "--"),
        ("accuracy_fake", "on FAKE", COLOURS[FAKE], "--"),
    )

    def panel(axes: Axes, name: str) -> None:
        mine = [row for row in rows if row["perturbation"] == name]
        for key, label, colour, dash in lines:
            values = [clean[key], *(row[key] for row in mine)]
            if None not in values:
                style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": "o", "markersize": 3.5}
                axes.plot(100 * np.array(values), label=label, **style)
        axes.axhline(100 * clean["accuracy"], color=GREY, linewidth=0.9, linestyle=":", label="clean images")
        axes.set_xticks(range(len(mine) + 1), ["clean", *(f"{row['severity']:g}" for row in mine)])
        axes.set(title=name, xlabel=document["perturbations"][name]["unit"], ylim=(0, 103))
        axes.grid(axis="x", visible=False)

    def paint(figure: Figure) -> None:
        columns = min(len(names), 4)
        grid = figure.subplots(-(-len(names) // columns), columns, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            panel(axes, name)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set(ylabel="% correct")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        if title:
            figure.suptitle(title, fontsize=11)

    columns = min(len(names), 4)
    return draw(path, (max(2.4 * columns, 4.2), 2.5 * -(-len(names) // columns) + 0.7), paint)


def evaluation_figures(
    folder: str | Path,
    split: str,
    images: Scored,
    document: dict,
    *,
    logits: calibration.Logits | None = None,
    load: Load | None = None,
    title: str = "",
) -> list[Path]:
    """Draw all figures of one evaluated split.

    Args:
        folder: Folder of the figures: ``confusion-SPLIT.png``, ``scores-SPLIT.png``, ``gallery-SPLIT.png`` (with
            ``load``), ``reliability-SPLIT.png`` (with ``logits``) and ``roc-SPLIT.png`` (if both classes are present).
        split: Name of the split.
        images: Labelled and scored images.
        document: As returned by :func:`bdd_tf.metrics.bootstrap.evaluate` or ``metrics_document`` for these images.
        logits: Uncalibrated logits, [N]; ``document`` holds their ``temperature``. None: no reliability diagram.
        load: See :func:`gallery`; None: no gallery.
        title: Title of each figure, e.g. the run's name.

    Returns:
        The files written.
    """
    folder, threshold, labels, scores = Path(folder), document["threshold"], images.labels, images.scores
    title = f"{title}, {split} split" if title else f"{split} split"
    written = []
    # A curve of an earlier evaluation would not match the other figures.
    (folder / f"roc-{split}.png").unlink(missing_ok=True)
    if document["auc"] is not None:
        interval = document.get("intervals", {}).get("auc")
        written.append(
            roc(
                folder / f"roc-{split}.png",
                labels,
                scores,
                threshold=threshold,
                interval=interval,
                title=title,
            )
        )
    written.append(confusion_matrix(folder / f"confusion-{split}.png", document["confusion"], title=title))
    written.append(
        score_histogram(folder / f"scores-{split}.png", labels, scores, threshold=threshold, title=title)
    )
    if logits is not None:
        temperature, path = document["temperature"], folder / f"reliability-{split}.png"
        written.append(reliability(path, labels, logits, temperature, title=title))
    if load is not None:
        written.append(
            gallery(folder / f"gallery-{split}.png", images, threshold=threshold, load=load, title=title)
        )
    return written
