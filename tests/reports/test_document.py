"""Laws of the report: all of the paper's rows are present, ours next to them, and no file can break it."""

import json

import pytest

from bdd_tf.figures import style
from bdd_tf.presets import PRESETS, experiment
from bdd_tf.reports import ablation_groups, costs, document, figures, published, selection, store, tables
from bdd_tf.reports.costs import Cost
from bdd_tf.reports.latency import fastest, read_benchmark
from bdd_tf.reports.run_summary import describe
from tests.made_up_runs import make_run

BENCHMARK = {
    "machine": "a | machine",
    "results": [
        {"name": "model", "engine": "litert", "kernels": "avx2", "threads": 1, "median_ms": 2.5, "bytes": 1},
        {
            "name": "model",
            "engine": "litert",
            "kernels": "avx512",
            "threads": 1,
            "median_ms": 1.5,
            "bytes": 1,
        },
        {
            "name": "model",
            "engine": "litert",
            "kernels": "avx512",
            "threads": 2,
            "median_ms": 1.0,
            "bytes": 1,
        },
        {
            "name": "model",
            "engine": "lce",
            "kernels": "default",
            "threads": 1,
            "median_ms": 0.5,
            "error": None,
        },
        {"name": "resnet50 224", "engine": "litert", "kernels": None, "threads": 1, "median_ms": 80.0},
        {
            "name": "broken",
            "engine": "litert",
            "kernels": None,
            "threads": 1,
            "median_ms": None,
            "error": "no",
        },
    ],
}
COSTS = [
    Cost("bnext-t", "rgb", True, 30_000_000, 4_816_896_000, 12_321_536, 0, None),
    Cost("bnext-t", "rgb,fft,lbp", True, 30_000_000, 4_816_896_000, 19_000_000, 34_000_000, 5_600_000),
    Cost("resnet50", "rgb", False, 23_600_000, 0, 3_855_927_296, 0, 93_864_552),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small pictures; and none of channels, the only one that needs TensorFlow: tests of channels see to that."""
    monkeypatch.setitem(style.STYLE, "figure.dpi", 30)
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 30)
    monkeypatch.setattr(figures, "image_channels", lambda path, image, title="": path.write_bytes(b"png"))


@pytest.fixture
def places(tmp_path):
    for name in ("runs", "results"):
        (tmp_path / name).mkdir()
    return tmp_path / "runs", tmp_path / "results"


def made(places, tmp_path):
    runs, results = places
    report = document.Report(store.collect(results, runs), results, tmp_path / "out")
    text = report.write().read_text()
    return text, json.loads((tmp_path / "out" / "report.json").read_text())


def test_every_preset_of_the_paper_fills_its_row():
    assert len(published.RESULTS) == 18
    for printed in published.RESULTS:
        config = experiment(printed.preset, **({"init": "x"} if printed.frozen else {}))
        assert (config.dataset, config.backbone, config.freeze) == (
            printed.dataset,
            printed.backbone,
            printed.frozen,
        )
        command = tables.training_command(printed)
        assert f"--preset {printed.preset}" in command
        assert f"--dataset {printed.dataset}" in command
        assert f"bdd evaluate --run {printed.preset}" in command
    assert {f"paper-ablation-{'-'.join(row) or 'none'}" for row in published.ABLATION} <= PRESETS.keys()


def test_our_result_is_next_to_the_paper_s_row_of_the_same_kind(places, tmp_path):
    runs, _ = places
    _, measured = make_run(runs, "worse", backbone="bnext-t", shift=0.2)
    _, measured = make_run(runs, "better", backbone="bnext-t", init="imagenet-t")
    make_run(runs, "frozen", backbone="bnext-s", init="imagenet-s", freeze=True)
    text, found = made(places, tmp_path)
    by_kind = {(e["dataset"], e["backbone"], e["frozen"]): e for e in found["results"]}
    assert by_kind["cifake", "bnext-t", False]["run"] == "better"  # by validation
    assert by_kind["cifake", "bnext-s", True]["run"] == "frozen"
    assert by_kind["cifake", "bnext-t", True]["run"] is None
    assert sum("command" in e for e in found["results"]) == 16
    (line,) = [
        li for li in text.splitlines() if li.startswith("| cifake ") and "better" in li and "trained" in li
    ]
    cells = [c.strip() for c in line.strip("|").split("|")]
    assert cells[3:5] == ["97.29", "99.65"]
    assert cells[5].startswith(f"{100 * measured['accuracy']:.2f} [")
    assert cells[7] == f"{100 * measured['deduplicated']['accuracy']:.2f}"


def test_a_new_backbone_needs_no_new_code(places, tmp_path):
    run, _ = make_run(places[0], "baseline")
    run.config.write_text(run.config.read_text().replace("bnext-n", "resnet-of-tomorrow"))
    text, found = made(places, tmp_path)
    assert [e["run"] for e in found["results"] if e["backbone"] == "resnet-of-tomorrow"] == ["baseline"]
    (line,) = [li for li in text.splitlines() if li.startswith("| resnet-of-tomorrow")]
    assert "0.02" in line  # hours
    assert "98.30 M" in line


def test_latency_of_a_run_is_its_own_file_s_on_one_thread(places, tmp_path):
    run, _ = make_run(places[0], "timed")
    (run.path / "benchmark.json").write_text(json.dumps(BENCHMARK))
    row = describe(run)
    assert row["latency"] == {
        "engine": "litert", "kernels": "avx512", "threads": 1, "median_ms": 1.5, "machine": "a | machine",
    }  # fmt: skip
    text, found = made(places, tmp_path)
    assert "accuracy-latency-cifake.png" in found["pictures"]
    assert "a \\| machine" in text


def test_lines_of_json_are_a_benchmark_too(tmp_path):
    path = tmp_path / "benchmark.json"
    path.write_text("".join(json.dumps(r) + "\n" for r in BENCHMARK["results"]))
    found = read_benchmark(path, "run")
    assert [f.owner for f in found] == ["run", "run", "run", None, None]
    assert fastest([f for f in found if f.owner]).median_ms == 1.5
    assert fastest([]) is None


def test_costs_show_the_paper_s_factor_and_latency_of_random_weights(places, tmp_path):
    runs, results = places
    make_run(runs, "any")
    costs.write(results, COSTS)
    (results / "benchmark.json").write_text(json.dumps(BENCHMARK))
    assert costs.read(results) == COSTS
    text, found = made(places, tmp_path)
    t, full, resnet = found["costs"]
    assert t["operations"] == 4_816_896_000 / 64 + 12_321_536
    assert t["paper_operations"] / t["operations"] == pytest.approx(10.16, abs=0.01)
    assert full["operations"] == 4_816_896_000 / 64 + 19_000_000 + 34_000_000
    assert (t["latency"], resnet["latency"]["median_ms"]) == (None, 80.0)
    assert "costs.png" in found["pictures"]
    assert "10.2" in text


def test_an_ablation_is_found_drawn_and_its_gaps_named(places, tmp_path):
    for seed in (5, 6, 7):
        make_run(places[0], f"none-{seed}", channels=["rgb"], seed=seed, noise=seed, shift=0.2)
        make_run(places[0], f"both-{seed}", channels=["rgb", "fft", "lbp"], seed=seed, noise=seed)
    text, found = made(places, tmp_path)
    (group,) = found["ablations"]
    assert len(group["missing"]) == 18
    assert "ablation.png" in found["pictures"]
    assert "--like both-5" in text
    assert "--seeds 5,6,7" in text


def test_robustness_and_calibration_are_shown_where_they_are_known(places, tmp_path):
    run, measured = make_run(places[0], "calibrated")
    text, _ = made(places, tmp_path)
    assert "## Robustness" not in text
    run.metrics("test").write_text(
        json.dumps({**measured, "ece": 0.0321, "ece_calibrated": 0.0123, "temperature": 1.234})
    )
    run.robustness("test").write_text(
        json.dumps(
            {
                "clean": {"accuracy": 0.95, "auc": 0.99},
                "perturbations": {"jpeg": {"unit": "quality"}},
                "rows": [
                    {"perturbation": "jpeg", "severity": 90, "accuracy": 0.91, "auc": 0.97},
                    {"perturbation": ["odd"], "severity": "x", "accuracy": 7},
                    3,
                ],
            }
        )
    )
    text, _ = made(places, tmp_path)
    lines = [[c.strip() for c in li.strip("|").split("|")] for li in text.splitlines() if li.startswith("|")]
    assert ["calibrated", "3.21", "1.23", "1.234"] in lines
    assert ["none", "–", "95.00", "99.00"] in lines
    assert ["jpeg (quality)", "90", "91.00", "97.00"] in lines
    assert ["odd", "–", "–", "–"] in lines


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe\x00", b"[]", b"{}", b'{"a": ', b"[" * 3000, b"NaN", b"1e999", b'"x"',
        b'{"accuracy": 1e308, "auc": -3, "binary_macs": 1e308, "float_macs": 1e308, "rows": 3, "results": {}}',
        b'{"rows": [{"perturbation": {"a": 1}}], "perturbations": {"x": 3}, "clean": []}',
        b'{"results": [3, {"name": null, "median_ms": -1}, {"name": "x", "median_ms": 1e308, "threads": 1}]}',
        b"dataset: [a, b]\nbackbone: {c: d}\nchannels: 3\nseed: x\nfreeze: maybe\nepochs: .inf\n",
        b"path,label,fake_probability\na,1,0.5\n",
        b"epoch,images,seconds\n1,2,\n",
    ],
)  # fmt: skip
def test_no_file_can_break_the_report(places, tmp_path, content):
    runs, results = places
    names = ("metrics-test.json", "config.yaml", "history.csv", "scores-test.csv", "robustness-test.json",
             "benchmark.json", "tflite.json")  # fmt: skip
    for name in names:
        run, _ = make_run(runs, f"bad-{name}", bootstrap=0, images=40)
        (run.path / name).write_bytes(content)
    make_run(runs, "good", bootstrap=0, images=40)
    (results / costs.FILE).write_bytes(content)
    (results / "benchmark-x.json").write_bytes(content)
    text, found = made(places, tmp_path)
    assert len(found["runs"]) == len(names) + 1
    assert "| good " in text


def test_names_from_files_do_not_become_markup(places, tmp_path):
    run, _ = make_run(places[0], "odd")
    run.config.write_text('dataset: "x](evil) | <script>\\n# head"\nbackbone: "a|b"\nchannels: [rgb]\n')
    text, found = made(places, tmp_path)
    assert "<script>" not in text
    assert "\n# head" not in text
    assert all("/" not in name and ".." not in name for name in found["pictures"])


def test_next_to_the_best_run_of_a_backbone_are_runs_that_saw_as_many_images_as_its_baselines(places):
    runs, _ = places
    long, _ = make_run(runs, "long", backbone="bnext-n")
    long.history.write_text("epoch,images,loss,seconds\n1,9000,0.7,30.5\n2,18000,0.5,29.5\n")
    for name, shift in (("short", 0.1), ("worse", 0.2)):
        make_run(runs, name, backbone="bnext-n", shift=shift)
    make_run(runs, "baseline", backbone="resnet50", shift=0.15)
    make_run(runs, "other-channels", backbone="bnext-n", channels=["rgb"], shift=0.05)
    rows = [describe(run) for run in store.runs_in(runs)]
    assert [row["run"] for row in selection.shown(rows, "cifake")] == ["long", "short", "baseline"]
    assert selection.shown(rows, "cifake", "latency") == selection.shown(rows, "dffd") == []


@pytest.mark.parametrize(("epochs", "share", "words"), [(1, None, "1 epoch"), (2, 1.0, "2 epochs"),
                                                  (1, 0.33, "1 epoch of 0.33 of the training images")])  # fmt: skip
def test_an_ablation_says_how_long_its_runs_were_trained(epochs, share, words):
    assert ablation_groups.budget({"epochs": epochs, "train_fraction": share}) == words


def test_a_latency_is_not_given_to_another_network_of_the_same_name_and_ratios_are_of_one_run(
    places, tmp_path
):
    runs, results = places
    make_run(runs, "any")
    costs.write(results, COSTS)
    timed = [
        {"name": name, "engine": "litert", "threads": 1, "median_ms": median, "bytes": size}
        for name, median, size in (
            ("bnext-t-224-rgb-fft-lbp", 9.0, 5_612_000), ("mobilenetv2 224", 6.0, 8_900_000),
            ("resnet50 224", 80.0, 40_000_000),
        )
    ]  # fmt: skip
    (results / "benchmark-one.json").write_text(json.dumps({"machine": "one", "results": timed}))
    slower = [{**record, "median_ms": 2 * record["median_ms"]} for record in timed]
    (results / "benchmark-two.json").write_text(json.dumps({"machine": "two", "results": slower}))
    for path in results.glob("benchmark-*.json"):
        assert [round(found.ratio, 2) for found in read_benchmark(path)] == [1.5, 1.0, 13.33]
    text, found = made(places, tmp_path)
    _, full, resnet = found["costs"]
    assert (full["latency"]["median_ms"], full["latency"]["machine"]) == (9.0, "one")
    assert resnet["latency"] is None  # less than half as large: another network
    assert "1.50 |" in text
