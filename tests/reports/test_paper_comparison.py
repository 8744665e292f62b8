"""The twelve rows of the paper's comparison: what is printed, what is ours, and the command that fills a row."""

from bdd_tf.cli import main
from bdd_tf.config import Experiment
from bdd_tf.presets import PRESETS, experiment
from bdd_tf.reports import published
from bdd_tf.reports.costs import Cost, merged
from bdd_tf.reports.latency import Latency
from bdd_tf.reports.paper_comparison import comparison, comparison_rows, points


def run_of(name, accuracy, dataset="cocofake", backbone="openclip-vit-b32"):
    return {"run": name, "dataset": dataset, "backbone": backbone, "test": {"accuracy": accuracy}}


def test_every_row_has_a_preset_that_trains_its_backbone_as_printed():
    rows = comparison_rows()
    assert len(rows) == 12
    assert len({row.preset for row in rows}) == 12
    for row in rows:
        made = experiment(row.preset)
        assert (made.dataset, made.backbone) == ("cocofake", row.backbone)
        assert f"--preset {row.preset} " in row.command
        assert f"bdd evaluate --run {row.preset}" in row.command
    for baseline in published.BASELINES:
        probe = experiment(baseline.preset)
        assert (probe.freeze, probe.channels, probe.augment) == (True, ("rgb",), ())
        assert baseline.preset.removesuffix("-frozen") in PRESETS
        assert f"--from-hub {baseline.hub} --run {baseline.run}" in PRESETS[baseline.preset].read_text()
    assert isinstance(experiment("paper-cocofake-vit-b32"), Experiment)


def test_a_row_shows_what_was_counted_measured_and_run():
    cost = Cost("openclip-vit-b32", "rgb", False, 87_849_729, 0, 4_408_812_032, 0, 351_019_160)
    latency = Latency("openclip-vit-b32 224", "litert", None, 1, 61.25, "a machine", None, 351_019_160, 8.5)
    preset = "paper-cocofake-openclip-vit-b32-laion2b-frozen"
    text, data = comparison([run_of(preset, 0.9)], [cost], [latency])
    line = next(line for line in text.splitlines() if "LAION-2B" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == ["99.68", "90.00", "–", "87.8", "–", "4.409", "351.02", "61.25", "8.50"]
    entry = next(e for e in data if e["preset"] == preset)
    assert (entry["accuracy"], entry["parameters"], entry["bytes"]) == (0.9, 87_849_729, 351_019_160)
    assert f"--preset {preset}" not in text  # the command is shown for the other eleven rows
    assert text.count("\nbdd ") == 11
    assert sum(e["accuracy"] is None for e in data) == 11


def test_a_run_on_other_data_or_of_another_network_does_not_fill_a_row():
    preset = "paper-cocofake-openclip-vit-b32-laion2b-frozen"
    for other in (
        run_of(preset, 0.9, dataset="folder"),
        run_of(preset, 0.9, backbone="clip-vit-b32"),
        run_of(preset, None),
    ):
        text, data = comparison([other], [], [])
        assert all(entry["accuracy"] is None for entry in data)
        assert text.count("\nbdd ") == 12


def test_latencies_come_from_the_benchmark_with_most_rows():
    costs = [
        Cost(name, "rgb", False, 1, 0, 1, 0, 9) for name in ("vit-b32", "clip-resnet50", "resnet50-v1.5")
    ]
    timed = [
        Latency(f"{name} 224", "litert", None, 1, ms, "a machine", source=source)
        for name, ms, source in (
            ("vit-b32", 50.0, "alone.json"), ("vit-b32", 98.0, "all.json"), ("clip-resnet50", 115.0, "all.json"),
            ("resnet50-v1.5", 80.0, "other.json"),
        )
    ]  # fmt: skip
    text, data = comparison([], costs, timed)
    assert points(data) == [
        ("ResNet50", False, 80.0, 0.9031), ("ViT-B/32", False, 98.0, 0.8764), ("CLIP-ResNet50", False, 115.0, 0.9907),
    ]  # fmt: skip
    assert "in turns" not in text
    text, _ = comparison([], costs, timed[:3])
    assert "random weights, all in turns in one benchmark; a machine." in text


def test_single_counts_replace_the_stored_ones_in_place(capsys, tmp_path):
    old = [Cost(name, "rgb", False, 1, 0, 1, 0, None) for name in ("a", "b", "c")]
    new = [Cost("b", "rgb", False, 2, 0, 2, 0, None), Cost("d", "rgb", False, 3, 0, 3, 0, None)]
    assert [(c.name, c.parameters) for c in merged(old, new)] == [("a", 1), ("b", 2), ("c", 1), ("d", 3)]
    assert main(["report", "--count", "vit-b33", "--results-dir", str(tmp_path)]) == 2
    assert "Did you mean 'vit-b32'" in capsys.readouterr().err
