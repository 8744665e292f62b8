"""The report's pictures: they are PNG files, and hold at their edges."""

import numpy as np
import pytest
from PIL import Image

from bdd_tf.errors import BddError
from bdd_tf.figures import style
from bdd_tf.reports import figures


def opened(path):
    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("RGB"))


def test_pictures_are_painted_and_repeatable(tmp_path, monkeypatch):
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 40)
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    curves = [
        (f"run $_{i}", labels, np.clip(random.normal(0.2 + 0.6 * labels, 0.1 + 0.05 * i), 0, 1))
        for i in range(9)
    ]
    paints = {
        "costs": lambda p: figures.cost_dots(
            p, [("a", False, 500.0, 15.0), ("b", True, 1.5, 0.01)], title="t"
        ),
        "roc": lambda p: figures.roc_curves(p, curves, title="t"),
        "one": lambda p: figures.roc_curves(p, curves[:1]),
        "accuracy": lambda p: figures.accuracy_latency(p, [("a", True, 0.2, 0.97), ("b", False, 90.0, 0.98)]),
        "single": lambda p: figures.accuracy_latency(p, [("a", True, 0.2, 0.97)]),
        "ablation": lambda p: figures.ablation_dots(
            p, [("none", [0.9, 0.9, 0.91]), ("fft", []), ("lbp", [0.8])]
        ),
    }
    for name, paint in paints.items():
        one, two = paint(tmp_path / f"{name}.png"), paint(tmp_path / f"{name}-again.png")
        assert one.read_bytes() == two.read_bytes()
        assert opened(one).std() > 10


def test_a_roc_curve_needs_both_classes(tmp_path):
    with pytest.raises(BddError, match="no ROC curve"):
        figures.roc_curves(tmp_path / "x.png", [("a", [1, 1], [0.2, 0.3])])


def test_labels_of_points_that_stand_close_do_not_cover_one_another():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((6, 4), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    at = np.array([[0.50, 0.50], [0.51, 0.50], [0.52, 0.51], [0.1, 0.1]])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = [axes.annotate("a name", xy, (6, 5), textcoords="offset points") for xy in at]
    assert labels[0].get_window_extent().overlaps(labels[1].get_window_extent())
    figures._spread(figure, axes, labels, at)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_costs_beside_a_network_that_is_hundreds_of_times_larger_are_legible(tmp_path):
    """Storage of VGG16 and of BNext-N: on a linear axis the small ones are lines of a pixel."""
    names = [("vgg16", False, 537.0, 15.5), ("bnext-n", True, 1.71, 0.0655), ("bnext-t", True, 5.61, 0.129)]

    def columns(rows):
        picture = opened(figures.cost_dots(tmp_path / "c.png", rows)).astype(int)
        half = picture[: -picture.shape[0] // 5, : picture.shape[1] // 2]  # storage, above the legend
        orange = half[..., 0] - half[..., 2] > 150
        return np.flatnonzero(orange.any(0)), orange.sum()

    found, area = columns(names)
    assert area > 300  # both dots can be seen
    smaller = [*names[:1], ("bnext-n", True, 1.71, 0.0655), ("bnext-t", True, 1.71, 0.0655)]
    alone, _ = columns(smaller)
    assert np.ptp(found) > 3 * np.ptp(alone)  # a factor of 3 is seen
