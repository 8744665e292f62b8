"""Laws of bdd_tf.figures.evaluation: files are whole PNGs, reproducible, and show what they were given."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from bdd_tf.errors import BddError
from bdd_tf.figures import channels, evaluation, gallery, speed, style, training
from bdd_tf.metrics import bootstrap, classification

HEADER = (
    "epoch,images,loss,accuracy,learning_rate,validation_loss,validation_accuracy,validation_auc,seconds\n"
)


def case(n=200):
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return labels, np.clip(random.normal(0.35 + 0.3 * labels, 0.2), 0, 1), [f"{i:04}.png" for i in range(n)]


def pixels(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == style.DPI
        return np.asarray(image.convert("RGB"))


def share_of(picture, colour):
    return np.mean(np.all(picture == np.array(colour), axis=-1))


def rgb(hexadecimal):
    return [int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]


def solid(colour, side=32):
    return lambda path: np.full((side, side, 3), colour, np.uint8)


def test_one_call_draws_an_evaluation(tmp_path):
    labels, scores, paths = case()
    document = bootstrap.evaluate(labels, scores, 0.5, bootstrap=20)
    for folder in ("a", "b"):
        written = evaluation.evaluation_figures(
            tmp_path / folder,
            "test",
            gallery.Scored(paths, labels, scores),
            document,
            load=solid((1, 2, 3)),
            title="run $_{",
        )
        names = sorted(p.name for p in (tmp_path / folder).iterdir())
        assert names == ["confusion-test.png", "gallery-test.png", "roc-test.png", "scores-test.png"]
        assert sorted(p.name for p in written) == names
    for name in names:
        picture = pixels(tmp_path / "a" / name)
        # Wide enough to read, no wider than a page, something on it, nothing cut off at the border.
        assert 600 < picture.shape[1] < 1600
        assert (picture < 128).any()
        assert (picture[[0, -1]] == 255).all()
        assert (picture[:, [0, -1]] == 255).all()
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_both_classes_there_is_no_roc_nor_an_old_one(tmp_path):
    evaluation.roc(tmp_path / "roc-test.png", [0, 1], [0.1, 0.9], threshold=0.5)
    document = bootstrap.evaluate([1, 1], [0.2, 0.9], 0.5, bootstrap=0)
    written = evaluation.evaluation_figures(
        tmp_path, "test", gallery.Scored(["a", "b"], [1, 1], [0.2, 0.9]), document
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["confusion-test.png", "scores-test.png"]
    assert sorted(written) == sorted(tmp_path.iterdir())
    with pytest.raises(BddError, match="REAL"):
        evaluation.roc(tmp_path / "roc.png", [1, 1], [0.2, 0.9], threshold=0.5)


@pytest.mark.parametrize("scores", [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_extreme_scores_can_be_drawn(tmp_path, scores, threshold):
    pixels(evaluation.roc(tmp_path / "r.png", [0, 1], scores, threshold=threshold, interval=[0.4, 0.6]))
    pixels(evaluation.score_histogram(tmp_path / "s.png", [0, 1], scores, threshold=threshold))
    pixels(
        evaluation.confusion_matrix(tmp_path / "c.png", classification.confusion([0, 1], scores, threshold))
    )


def test_drawing_leaves_no_trace_in_matplotlib_and_needs_no_pyplot(tmp_path):
    with matplotlib.rc_context({"font.size": 17, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        one = evaluation.confusion_matrix(
            tmp_path / "1.png", classification.confusion([0, 1], [0.1, 0.9])
        ).read_bytes()
        assert dict(matplotlib.rcParams) == before
    # Nor does the caller's style change the picture.
    two = evaluation.confusion_matrix(
        tmp_path / "2.png", classification.confusion([0, 1], [0.1, 0.9])
    ).read_bytes()
    assert one == two
    program = (
        "import sys; from bdd_tf.figures.evaluation import roc; roc(sys.argv[1], [0, 1], [0, 1], threshold=0.5);"
        "sys.exit(' '.join({'matplotlib.pyplot', 'tensorflow'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "3.png")], check=True)


def test_a_failed_drawing_leaves_the_old_file(tmp_path):
    path = tmp_path / "gallery.png"
    path.write_bytes(b"old")

    def broken(name):
        raise RuntimeError("not a user's mistake")

    with pytest.raises(RuntimeError):
        gallery.gallery(path, gallery.Scored(["a"], [1], [0.9]), threshold=0.5, load=broken)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["gallery.png"]


def test_examples_are_of_their_outcome_spread_and_independent_of_order():
    labels, scores, paths = case()
    scores = np.round(scores, 1)
    chosen = gallery.choose_examples(labels, scores, 0.5, paths, 6)
    for title, label, verdict, _ in gallery.OUTCOMES:
        picked = chosen[title]
        every = np.flatnonzero((labels == label) & ((scores >= 0.5) == verdict))
        assert len(picked) == len(set(picked)) == min(6, len(every))
        assert set(picked) <= set(every)
        distance = np.abs(scores[picked] - 0.5)
        assert (np.diff(distance) <= 1e-12).all()
        assert distance[0] == np.abs(scores[every] - 0.5).max()
        assert distance[-1] == np.abs(scores[every] - 0.5).min()
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = gallery.choose_examples(labels[order], scores[order], 0.5, [paths[i] for i in order], 6)
    for title in chosen:
        assert [paths[i] for i in chosen[title]] == [paths[order[i]] for i in shuffled[title]]


def test_gallery_frames_each_outcome_and_shows_each_image_unsmoothed(tmp_path):
    # A checkerboard of two colours: smoothing would make others.
    board = np.where(np.indices((8, 8)).sum(axis=0)[..., None] % 2, (250, 10, 10), (10, 10, 250)).astype(
        np.uint8
    )
    labels, scores, paths = [1, 1, 0, 0], [0.9, 0.1, 0.2, 0.8], list("abcd")
    asked = []

    def load(path):
        asked.append(path)
        return board

    path = gallery.gallery(
        tmp_path / "g.png", gallery.Scored(paths, labels, scores), threshold=0.5, load=load
    )
    assert sorted(asked) == paths
    picture = pixels(path)
    quarter = picture.shape[1] // 4
    for column, (*_, colour) in enumerate(gallery.OUTCOMES):
        part = picture[:, column * quarter : (column + 1) * quarter]
        assert share_of(part, rgb(colour)) > 0.01
        red, blue = share_of(part, (250, 10, 10)), share_of(part, (10, 10, 250))
        assert red == pytest.approx(blue, rel=0.1)
        assert red > 0.03
    side = 0.92 * style.DPI
    shown = share_of(picture, (250, 10, 10)) + share_of(picture, (10, 10, 250))
    assert shown == pytest.approx(4 * side**2 / picture[..., 0].size, rel=0.03)


def test_gallery_loads_no_more_than_it_shows(tmp_path):
    labels, scores, paths = case(2000)
    asked = []

    def load(path):
        asked.append(path)
        return np.zeros((4, 4, 3), np.uint8)

    gallery.gallery(
        tmp_path / "g.png", gallery.Scored(paths, labels, scores), threshold=0.5, load=load, rows=2
    )
    assert len(asked) == len(set(asked)) == 16


def test_gallery_with_empty_columns_odd_shapes_and_unreadable_images(tmp_path):
    def load(path):
        if path == "gone":
            raise FileNotFoundError(path)
        if path == "bad":
            raise BddError("truncated")
        return np.full((40, 400, 3), (0, 200, 0), np.uint8)

    path = gallery.gallery(
        tmp_path / "g.png",
        gallery.Scored(["gone", "bad", "wide"], [1, 1, 1], [0.9, 0.8, 0.7]),
        threshold=0.5,
        load=load,
    )
    picture = pixels(path)
    assert share_of(picture, (0, 200, 0)) > 0.001
    assert share_of(picture, (0xEE, 0xEE, 0xEE)) > 0.005


@pytest.mark.parametrize(
    "lines",
    [
        "1,100,0.7,0.5,0.001,0.6,0.6,0.7,9\n",
        "1,100,0.7,0.5,0.001,0.6,0.6,,9\n2,200,0.6,0.6,0,0.5,0.7,,9\n",
        "1,100,nan,0.5\n",
    ],
)
def test_history_of_any_length_and_with_gaps(tmp_path, lines):
    (tmp_path / "history.csv").write_text(HEADER + lines)
    picture = pixels(training.training_history(tmp_path / "h.png", tmp_path / "history.csv", title="run"))
    assert (picture[:, [0, -1]] == 255).all()


def test_history_without_learning_rate_or_validation(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    pixels(training.training_history(tmp_path / "h.png", tmp_path / "history.csv"))


@pytest.mark.parametrize("content", [None, b"", HEADER.encode(), b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_a_history_that_cannot_be_drawn_is_named(tmp_path, content):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BddError, match=r"history\.csv"):
        training.training_history(tmp_path / "h.png", path)
    assert not (tmp_path / "h.png").exists()


def test_channel_maps_span_black_to_white_and_may_be_constant(tmp_path):
    image = np.full((32, 32, 3), (10, 200, 30), np.uint8)
    ramp = np.linspace(-5, 7, 1024).reshape(32, 32)
    maps = {"FFT": ramp, "LBP": np.zeros((32, 32)), "Sobel": np.where(ramp > 0, ramp, np.nan)}
    picture = pixels(channels.channels(tmp_path / "c.png", image, maps))
    panel = picture.shape[1] // 4
    assert share_of(picture[:, :panel], (10, 200, 30)) > 0.5
    assert picture[:, panel : 2 * panel].min() == 0
    assert share_of(picture[:, 2 * panel : 3 * panel], (0, 0, 0)) > 0.5
    pixels(channels.channels(tmp_path / "alone.png", image, {}, title="only the image"))


def test_latency_dots_mark_those_that_were_benchmarked(tmp_path):
    bars = [("ours", 1.0, 1.2), ("ours, two threads", 0.6, 0.7), ("baseline", 100.0, 90.0)]
    marked = [
        share_of(pixels(speed.latency_dots(tmp_path / f"{own}.png", bars, own=own)), rgb(style.COLOURS[1]))
        for own in (1, 2)
    ]
    assert 0 < marked[0] < marked[1]


def test_roofline_shows_binary_and_float_networks(tmp_path):
    def row(name, ms, binary, real):
        return {"name": name, "ms": ms, "least_ms": {"binary": binary, "float": real, "memory": 0.1}}

    both = pixels(speed.roofline(tmp_path / "r.png", [row("b", 9, 4, 0.5), row("f", 6, 0, 4)], title="t"))
    assert share_of(both, rgb(style.COLOURS[0])) > 0
    assert share_of(both, rgb(style.COLOURS[1])) > 0
    alone = pixels(speed.roofline(tmp_path / "f.png", [row("f", 6, 0, 4)]))
    assert share_of(alone, rgb(style.COLOURS[1])) == 0


def test_reliability_shows_the_effect_of_a_temperature(tmp_path):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 2000)
    labels = (random.random(2000) < 1 / (1 + np.exp(-logits))).astype(int)
    honest = pixels(evaluation.reliability(tmp_path / "a.png", labels, logits, 1.0, title="run $_{"))
    stretched = pixels(evaluation.reliability(tmp_path / "b.png", labels, 3 * logits, 3.0))
    assert share_of(honest, rgb("#56B4E9")) > share_of(stretched, rgb("#56B4E9")) > 0.05
    # One image is a picture too.
    pixels(evaluation.reliability(tmp_path / "c.png", [1], [0.3], 1.0))


def test_robustness_has_a_panel_for_each_perturbation(tmp_path):
    clean = {"accuracy": 0.9, "accuracy_real": None, "accuracy_fake": 0.9, "auc": None}
    widths = []
    for count in (1, 3, 8):
        names = [f"p{i}" for i in range(count)]
        rows = [{"perturbation": n, "severity": s, **clean, "accuracy": 0.5} for n in names for s in (1, 2)]
        document = {"clean": clean, "rows": rows, "perturbations": {n: {"unit": "factor $_{"} for n in names}}
        picture = pixels(evaluation.robustness(tmp_path / f"{count}.png", document, title="run"))
        assert share_of(picture, rgb("#D55E00")) > 0
        assert share_of(picture, rgb("#0072B2")) == 0  # no REAL images, no line
        widths.append(picture.shape[:2])
    assert widths[0][1] < widths[1][1] < widths[2][1]
    assert widths[2][0] > widths[1][0]


def painted(monkeypatch, *modules):
    """Collects the figures that are drawn."""
    figures = []
    original = style.draw

    def draw(path, size, paint):
        def keep(figure):
            figures.append(figure)
            paint(figure)

        return original(path, size, keep)

    for module in modules:
        monkeypatch.setattr(module, "draw", draw)
    return figures


def test_latencies_are_dots_for_a_logarithmic_axis_has_no_zero_to_start_a_bar_from(tmp_path, monkeypatch):
    figures = painted(monkeypatch, speed)
    rows = [("ours", 1.0, 1.2), ("baseline", 100.0, 120.0), ("without late runs", 10.0, 9.0)]
    speed.latency_dots(tmp_path / "l.png", rows, own=1)
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "log"
    assert not axes.patches
    dots = {(x, y) for line in axes.lines if line.get_marker() in "os" for x, y in line.get_xydata().tolist()}
    assert dots == {(1.0, 2), (100.0, 1), (10.0, 0)}
    # In grey as well: those that are highlighted have another shape.
    assert len({line.get_marker() for line in axes.lines if line.get_marker() in "os"}) == 2
    low, high = axes.get_xlim()
    assert low < 1.0
    assert high > 120.0


def test_the_classes_of_a_histogram_are_told_apart_in_grey(tmp_path):
    """Each of two classes with equal scores can be seen: the picture changes if one of them is left out."""
    scores = np.tile(np.linspace(0.02, 0.98, 200), 2)
    labels = np.repeat([0, 1], 200)
    greys = {}
    for name, shown in (("both", [0, 1]), ("real", [0]), ("fake", [1])):
        mine = np.isin(labels, shown)
        path = evaluation.score_histogram(tmp_path / f"{name}.png", labels[mine], scores[mine], threshold=0.5)
        greys[name] = np.asarray(Image.open(path).convert("L"), np.int16)
    for name in ("real", "fake"):
        assert (np.abs(greys["both"] - greys[name]) > 60).mean() > 0.03
    # And if they change places.
    assert (np.abs(greys["real"] - greys["fake"]) > 60).mean() > 0.06


@pytest.mark.filterwarnings("error")
def test_names_that_the_font_lacks_are_escaped_in_titles_and_at_axes(tmp_path):
    labels, scores, _ = case()

    def drawn(name):
        one = evaluation.score_histogram(tmp_path / "h.png", labels, scores, threshold=0.5, title=name)
        two = speed.latency_dots(tmp_path / "l.png", [(name, 1.0, 2.0), ("b", 3.0, 4.0)])
        return one.read_bytes(), two.read_bytes()

    party, cake = drawn("🎉"), drawn("🎂")
    assert party[0] != cake[0]
    assert party[1] != cake[1]
    assert drawn("grün") != drawn("gron")
    assert style.shown("grün\n🎉 u\u0308") == "grün\n<U+1F389> ü"
