"""The pictures of a run, as PNG files. matplotlib's Figure objects only: no pyplot, no display."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bdd_tf import calibration, metrics
from bdd_tf.config import write_atomically
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import BddError
from bdd_tf.runs import read_history

Load = Callable[[str | Path], np.ndarray]
DPI = 150
# Okabe and Ito's palette: told apart by colour-blind readers, too. Index: label.
COLOURS = ("#0072B2", "#D55E00")
_GREY = "#666666"
STYLE = {
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "image.interpolation": "nearest",
    # File names and image titles come from outside; a $ in them is no formula.
    "text.parse_math": False,
}

#: The gallery's columns: title, label, verdict, colour.
OUTCOMES = (
    ("True positives", FAKE, FAKE, "#009E73"),
    ("False negatives", FAKE, REAL, "#D55E00"),
    ("True negatives", REAL, REAL, "#0072B2"),
    ("False positives", REAL, FAKE, "#CC79A7"),
)


def _draw(path: str | Path, size: tuple[float, float], paint: Callable[[Figure], None]) -> Path:
    """Paint a figure of `size` inches in our style and save it."""
    # The style holds until the file is written: text and images look it up only then.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        data = io.BytesIO()
        # Without the version in it, equal figures are equal files.
        figure.savefig(data, format="png", metadata={"Software": None})
    write_atomically(Path(path), data.getvalue())
    return Path(path)


def _percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


def roc(
    path: str | Path,
    labels: metrics.Labels,
    scores: metrics.Scores,
    *,
    threshold: float,
    interval: Sequence[float] | None = None,
    title: str = "",
) -> Path:
    """Draw the ROC curve with its area and the chosen threshold.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Marked on the curve.
        interval: Low and high end of the area's 95 % interval.
        title: Above the figure.

    Returns:
        The path.

    Raises:
        BddError: For impossible input, or where a class is missing.
    """
    false_fake, true_fake, thresholds = metrics.roc_curve(labels, scores)
    area, eer = metrics.auc(labels, scores), metrics.equal_error_rate(labels, scores)
    at = int(np.count_nonzero(thresholds >= threshold)) - 1

    def curve(axes: Axes) -> None:
        axes.plot(false_fake, true_fake, color=COLOURS[FAKE], solid_capstyle="butt", clip_on=False)
        axes.plot(
            false_fake[at],
            true_fake[at],
            "o",
            color="black",
            markersize=6,
            markeredgecolor="white",
            clip_on=False,
        )

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        curve(axes)
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle="--")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=title)
        axes.set(xlabel="REAL images called FAKE", ylabel="FAKE images called FAKE")
        text = f"AUC {_percent(area)}"
        if interval:
            text += f"\n95 % interval {100 * interval[0]:.2f} to {_percent(interval[1])}"
        text += f"\nequal error rate {_percent(eer)}"
        text += f"\n●  threshold {threshold:.3g}:"
        text += f"\n    {_percent(true_fake[at])} of FAKE called FAKE"
        text += f"\n    {_percent(false_fake[at])} of REAL called FAKE"
        axes.text(
            0.97,
            0.03,
            text,
            ha="right",
            va="bottom",
            linespacing=1.5,
            fontsize=9,
            transform=axes.transAxes,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )
        # A good detector's curve hugs the corner: show that corner larger.
        if area > 0.9:
            span = 0.2 if area < 0.99 else 0.1
            corner = axes.inset_axes((0.47, 0.46, 0.5, 0.5))
            curve(corner)
            corner.set(xlim=(0, span), ylim=(1 - span, 1), aspect="equal")
            corner.set_xticks([0, span / 2, span])
            corner.set_yticks([1 - span, 1 - span / 2, 1])
            corner.tick_params(labelsize=8)
            corner.spines[:].set_visible(True)
            for artist in corner.lines:
                artist.set_clip_on(True)
            axes.indicate_inset_zoom(corner, edgecolor=_GREY, alpha=0.6)

    return _draw(path, (5.4, 5.4), paint)


def confusion_matrix(path: str | Path, cells: dict[str, int], *, title: str = "") -> Path:
    """Draw counts and row percentages of verdicts.

    Args:
        path: The PNG to write.
        cells: As :func:`bdd_tf.metrics.confusion` gives them.
        title: Above the figure.

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

    return _draw(path, (4.6, 4.4), paint)


def score_histogram(
    path: str | Path,
    labels: metrics.Labels,
    scores: metrics.Scores,
    *,
    threshold: float,
    title: str = "",
) -> Path:
    """Draw how many images of each class got which score; counts on a logarithmic axis.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Drawn as a line.
        title: Above the figure.

    Returns:
        The path.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    edges = np.linspace(0, 1, 51)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        top = 1
        for label, name in enumerate(LABELS):
            counts, _ = np.histogram(scores[labels == label], edges)
            top = max(top, int(counts.max()))
            # The log axis has no zero: bars stand on 0.5, so that a single image shows.
            kwargs = {"baseline": 0.5, "color": COLOURS[label]}
            drawn = np.where(counts > 0, counts, 0.5)
            axes.stairs(drawn, edges, fill=True, alpha=0.3, **kwargs)
            axes.stairs(drawn, edges, linewidth=1.5, label=f"{name} ({counts.sum():,})", **kwargs)
        axes.axvline(
            threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}"
        )
        axes.set_yscale("log")
        axes.set(xlim=(0, 1), ylim=(0.5, top * 1.6), title=title)
        axes.set(xlabel="fake probability", ylabel="images (logarithmic)")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside lower center", ncols=3)

    return _draw(path, (7, 4), paint)


def reliability(
    path: str | Path,
    labels: metrics.Labels,
    logits: calibration.Logits,
    temperature: float,
    *,
    title: str = "",
) -> Path:
    """Draw accuracy over confidence, as trained and calibrated side by side, with the images per bin below.

    Args:
        path: The PNG to write.
        labels: 0 or 1, [N].
        logits: Of the network as trained, [N].
        temperature: Of the right half.
        title: Above the figure.

    Returns:
        The path.

    Raises:
        BddError: For impossible input.
    """
    halves = [
        ("as trained", calibration.reliability(labels, logits)),
        (f"temperature {temperature:.3g}", calibration.reliability(labels, logits, temperature)),
    ]

    def bars(axes: Axes, name: str, bins: calibration.Reliability) -> None:
        # Bins are of equal width in [0, 1]; the one that 0.5 lies in shows its upper half.
        left = np.maximum(bins.low, 0.5)
        width = bins.high - left
        style = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
        axes.bar(left, bins.accuracy, width, color="#56B4E9", label="accuracy", **style)
        axes.plot([0.5, 1], [0.5, 1], color="black", linewidth=1, linestyle="--", label="as sure as right")
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
                left, share, bins.high - left, align="edge", color=_GREY, edgecolor="white", linewidth=0.8
            )
            below.set(xlabel="confidence", ylim=(0, 100))
        rows[0, 0].set(ylabel="accuracy")
        rows[1, 0].set(ylabel="% of images")
        handles, names = rows[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        figure.get_layout_engine().set(wspace=0.08)
        if title:
            figure.suptitle(title, fontsize=11)

    return _draw(path, (7.4, 4.6), paint)


def robustness(path: str | Path, document: dict, *, title: str = "") -> Path:
    """Draw what each perturbation does to accuracy, its severity rising from the clean images rightwards.

    Args:
        path: The PNG to write.
        document: As :func:`bdd_tf.robustness.evaluate_robustness` gives it.
        title: Above the figure.

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
                style = {"color": colour, "linestyle": dash, "marker": "o", "markersize": 3.5}
                axes.plot(100 * np.array(values), label=label, **style)
        axes.axhline(100 * clean["accuracy"], color=_GREY, linewidth=0.9, linestyle=":", label="clean images")
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
            row[0].set(ylabel="% right")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        if title:
            figure.suptitle(title, fontsize=11)

    columns = min(len(names), 4)
    return _draw(path, (max(2.4 * columns, 4.2), 2.5 * -(-len(names) // columns) + 0.7), paint)


def choose_examples(
    labels: metrics.Labels,
    scores: metrics.Scores,
    threshold: float,
    paths: Sequence[str | Path],
    count: int,
) -> dict[str, np.ndarray]:
    """Choose images of every outcome, evenly spread from the surest verdict to the closest call.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores from here on are called FAKE.
        paths: Of the images, [N]; settle the order of equal scores.
        count: Images per outcome, at most.

    Returns:
        By title of :data:`OUTCOMES`: indices, int [up to count], surest first. The same for the same images
        in any order.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    names = np.asarray([str(p) for p in paths])
    called = scores >= threshold
    chosen = {}
    for title, label, verdict, _ in OUTCOMES:
        found = np.flatnonzero((labels == label) & (called == (verdict == FAKE)))
        sure = scores[found] if verdict == FAKE else -scores[found]
        found = found[np.lexsort((names[found], -sure))]
        spread = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        chosen[title] = found[spread]
    return chosen


def gallery(
    path: str | Path,
    paths: Sequence[str | Path],
    labels: metrics.Labels,
    scores: metrics.Scores,
    *,
    threshold: float,
    load: Load,
    rows: int = 4,
    title: str = "",
) -> Path:
    """Show right and wrong verdicts in four framed columns: true and false positives and negatives.

    Args:
        path: The PNG to write.
        paths: Of the images, [N].
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores from here on are called FAKE.
        load: Gives the image of a path, uint8 [H, W, 3]; called for the chosen ones only. An image that it
            cannot read (BddError, OSError) is shown as unreadable.
        rows: Rows of two images per column.
        title: Above the figure.

    Returns:
        The path.
    """
    labels = np.asarray(labels)
    chosen = choose_examples(labels, scores, threshold, paths, 2 * rows)
    cells = metrics.confusion(labels, scores, threshold)
    # By label and verdict, as OUTCOMES names them.
    totals = dict(
        zip(chosen, (cells[k] for k in ("true_fake", "false_real", "true_real", "false_fake")), strict=True)
    )
    rows = max(1, min(rows, -(-max(len(c) for c in chosen.values()) // 2)))
    # Inches. Placed by hand: a layout engine would let the length of a title decide the size of an image.
    thumb, gap, caption, pad, between = 0.92, 0.1, 0.2, 0.14, 0.2
    head, foot, top = 0.62, 0.3, 0.4 if title else 0.08
    frame_width = 2 * thumb + gap + 2 * pad
    frame_height = head + rows * (thumb + caption) + pad / 2
    width, height = 4 * frame_width + 5 * between, top + frame_height + between + foot

    def place(figure: Figure, left: float, bottom: float, w: float, h: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, w / width, h / height))

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        canvas = place(figure, 0, 0, width, height)
        canvas.set(xlim=(0, width), ylim=(0, height))
        canvas.axis("off")
        if title:
            canvas.text(width / 2, height - top / 2, title, ha="center", va="center", fontsize=12)
        for column, (name, label, verdict, colour) in enumerate(OUTCOMES):
            left = between + column * (frame_width + between)
            bottom = foot + between / 2
            canvas.add_patch(
                Rectangle(
                    (left, bottom),
                    frame_width,
                    frame_height,
                    fill=False,
                    edgecolor=colour,
                    linewidth=3,
                    clip_on=False,
                )
            )
            middle, upper = left + frame_width / 2, bottom + frame_height
            canvas.text(
                middle, upper - 0.2, name, ha="center", va="center", color=colour, weight="bold", fontsize=12
            )
            subtitle = f"{LABELS[label]} called {LABELS[verdict]}: {totals[name]:,}"
            canvas.text(middle, upper - 0.43, subtitle, ha="center", va="center", fontsize=9)
            if not len(chosen[name]):
                canvas.text(
                    middle,
                    bottom + (frame_height - head) / 2,
                    "none",
                    ha="center",
                    va="center",
                    color=_GREY,
                    fontsize=12,
                )
            for i, index in enumerate(chosen[name]):
                axes = place(
                    figure,
                    left + pad + (i % 2) * (thumb + gap),
                    upper - head - (i // 2) * (thumb + caption) - thumb,
                    thumb,
                    thumb,
                )
                _thumbnail(axes, paths[index], load, thumb)
                axes.text(
                    0.5,
                    -0.03,
                    f"{scores[index]:.3f}",
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    transform=axes.transAxes,
                )
        note = f"below each image: its fake probability (threshold {threshold:.3g}); surest verdicts first"
        canvas.text(width / 2, foot / 2, note, ha="center", va="center", fontsize=8.5, color=_GREY)

    return _draw(path, (width, height), paint)


def _thumbnail(axes: Axes, path: str | Path, load: Load, inches: float) -> None:
    axes.axis("off")
    try:
        image = np.asarray(load(path))
    except (BddError, OSError):
        axes.add_patch(Rectangle((0, 0), 1, 1, color="#EEEEEE", transform=axes.transAxes))
        axes.text(0.5, 0.5, "unreadable", ha="center", va="center", fontsize=8, transform=axes.transAxes)
        return
    _show(axes, image, inches)


def _show(axes: Axes, image: np.ndarray, inches: float, **kwargs: object) -> None:
    """Show an image: with its own pixels where it is smaller than its place, smoothed where larger."""
    small = max(image.shape[:2]) <= inches * DPI
    axes.imshow(image, interpolation="nearest" if small else "hanning", interpolation_stage="data", **kwargs)
    axes.set_anchor("C")


def _columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of history.csv by name, float64 with NaN where a cell holds no number."""
    rows = read_history(path)
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def training_history(path: str | Path, history: str | Path, *, title: str = "") -> Path:
    """Draw loss, accuracy, AUC and learning rate per epoch.

    Args:
        path: The PNG to write.
        history: ``history.csv`` of a run; columns ``epoch`` and any of ``loss``, ``accuracy``,
            ``learning_rate``, ``validation_loss``, ``validation_accuracy``, ``validation_auc``.
        title: Above the figure.

    Returns:
        The path.

    Raises:
        BddError: If the file is missing, unreadable or holds no epoch.
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
    colours = {"training": _GREY, "validation": COLOURS[REAL], "validation AUC": COLOURS[FAKE]}
    colours |= {"training accuracy": _GREY, "validation accuracy": COLOURS[REAL], "": "black"}

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
            # From a little below zero, so that a last rate of zero keeps its marker.
            axes.set_ylim(bottom=-0.06 * axes.get_ylim()[1])
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if title:
            figure.suptitle(title)

    return _draw(path, (10, 3.4), paint)


def latency_bars(
    path: str | Path, bars: Sequence[tuple[str, float, float]], *, own: int = 1, title: str = ""
) -> Path:
    """Draw latencies side by side, on a logarithmic axis.

    Args:
        path: The PNG to write.
        bars: (name, median in ms, 90th percentile in ms).
        own: So many of them, from the first on, are what was benchmarked, and stand out.
        title: Above the figure.

    Returns:
        The path.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(bars))[::-1]
        medians, late = (np.array([bar[i] for bar in bars]) for i in (1, 2))
        colours = [COLOURS[FAKE] if i < own else _GREY for i in range(len(bars))]
        errors = [np.zeros(len(bars)), np.maximum(late - medians, 0)]
        axes.barh(places, medians, color=colours, height=0.7, xerr=errors, error_kw={"lw": 1, "capsize": 2})
        for place, value, end in zip(places, medians, np.maximum(late, medians), strict=True):
            axes.text(end * 1.06, place, f"{value:.3g} ms", va="center", fontsize=8)
        axes.set_yticks(places, [bar[0] for bar in bars], fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(medians.min() / 2, late.max() * 2.2)
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="median of one image, ms (whisker: 90th percentile)")
        if title:
            figure.suptitle(title, fontsize=10)

    return _draw(path, (9, 1.2 + 0.26 * len(bars)), paint)


def roofline(path: str | Path, rows: Sequence[dict], *, title: str = "") -> Path:
    """Draw how much of each measured time the arithmetic needs at least, at the machine's best.

    Args:
        path: The PNG to write.
        rows: ``name``, ``ms`` (measured) and ``least_ms`` with ``binary``, ``float`` and ``memory``, in ms.
        title: Above the figure.

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
            axes.barh(places, binary, color=COLOURS[FAKE], height=0.7, label="binary multiply-adds at best")
        if np.any(real):
            axes.barh(
                places,
                real,
                left=binary,
                color=COLOURS[REAL],
                height=0.7,
                label="float multiply-adds at best",
            )
        axes.plot(memory, places, "|", color="black", ms=14, label="weights read once from memory")
        for place, row, share in zip(places, rows, binary + real, strict=True):
            axes.text(101, place, f"{row['ms']:.3g} ms, {share:.0f} %", va="center", fontsize=8)
        axes.set_yticks(places, [r["name"] for r in rows], fontsize=8)
        axes.set_xlim(0, 122)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of the measured time that the bound explains, %")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        if title:
            figure.suptitle(title, fontsize=10)

    return _draw(path, (8, 2.0 + 0.32 * len(rows)), paint)


def channels(path: str | Path, image: np.ndarray, maps: dict[str, np.ndarray], *, title: str = "") -> Path:
    """Draw an image beside its channel maps, each on its own grey scale with its range written below.

    Args:
        path: The PNG to write.
        image: uint8 [H, W, 3].
        maps: By name, numbers [H, W].
        title: Above the figure.

    Returns:
        The path.
    """
    image = np.asarray(image)

    def paint(figure: Figure) -> None:
        all_axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
        for axes in all_axes:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.spines[:].set_visible(False)
        _show(all_axes[0], image, 2.2)
        all_axes[0].set(title="image", xlabel=f"{image.shape[1]} × {image.shape[0]} px")
        for axes, (name, values) in zip(all_axes[1:], maps.items(), strict=True):
            values = np.asarray(values, dtype=np.float64)
            finite = values[np.isfinite(values)]
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
            # A constant map has no range to spread over the greys; any will do.
            _show(axes, values, 2.2, cmap="gray", vmin=low, vmax=high if high > low else low + 1)
            axes.set(title=name, xlabel=f"{low:.3g} (black) to {high:.3g} (white)")
        if title:
            figure.suptitle(title)

    return _draw(path, (2.4 * (1 + len(maps)), 3.0 if title else 2.8), paint)


def evaluation_figures(
    folder: str | Path,
    split: str,
    paths: Sequence[str | Path],
    labels: metrics.Labels,
    scores: metrics.Scores,
    document: dict,
    *,
    logits: calibration.Logits | None = None,
    load: Load | None = None,
    title: str = "",
) -> list[Path]:
    """Draw all figures of one evaluated split.

    Args:
        folder: Where they go: ``confusion-SPLIT.png``, ``scores-SPLIT.png``, ``gallery-SPLIT.png`` (with
            ``load``), ``reliability-SPLIT.png`` (with ``logits``) and ``roc-SPLIT.png`` (where both classes are
            there).
        split: Name of the split.
        paths: Of the images, [N].
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        document: As :func:`bdd_tf.metrics.evaluate` or ``metrics_document`` gives it, of the same images.
        logits: Of the network as trained, [N]; ``document`` holds their ``temperature``. None: no reliability.
        load: See :func:`gallery`; None: no gallery.
        title: Above each figure, e.g. the run's name.

    Returns:
        The files written.
    """
    folder, threshold = Path(folder), document["threshold"]
    title = f"{title}, {split} split" if title else f"{split} split"
    written = []
    # Left over from an earlier evaluation it would show other scores than its neighbours.
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
            gallery(
                folder / f"gallery-{split}.png",
                paths,
                labels,
                scores,
                threshold=threshold,
                load=load,
                title=title,
            )
        )
    return written
