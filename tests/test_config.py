"""Experiments survive YAML, refuse what no run could use, and cover every row of the paper's tables."""

import dataclasses
import math
from pathlib import Path

import pytest
import yaml

from bdd_tf import files
from bdd_tf.config import Experiment
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import write_atomically
from bdd_tf.models import registry
from bdd_tf.models.channel_names import VARIANTS, parse_channels
from bdd_tf.presets import PRESETS, experiment

RESULTS = Path(__file__).resolve().parents[1] / "results"
PAPER_ROWS = {
    f"paper-{dataset}-{size}{frozen}"
    for dataset in ("cocofake", "dffd", "cifake")
    for size in "tsm"
    for frozen in ("", "-frozen")
}
ABLATION_ROWS = {
    f"paper-ablation-{extra}"
    for extra in ("none", "sobel", "fft", "lbp", "sobel-fft", "sobel-lbp", "fft-lbp", "sobel-fft-lbp")
}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_makes_an_experiment_that_could_run(preset):
    made = experiment(preset)
    assert parse_channels(made.channels) == made.channels
    assert made.variant in VARIANTS
    registry.stem_stride(made.backbone, made.resolution, made.stem_stride)
    assert made.rule.size == made.resolution
    assert Experiment.from_dict(made.to_dict()) == made


def test_every_row_of_the_papers_tables_is_a_preset():
    assert len(PAPER_ROWS) == 18
    assert len(ABLATION_ROWS) == 8
    assert set(PRESETS) >= PAPER_ROWS | ABLATION_ROWS


@pytest.mark.parametrize("row", sorted(PAPER_ROWS))
def test_a_row_has_the_papers_settings(row):
    made = experiment(row)
    _, dataset, size, *frozen = row.split("-")
    assert (made.dataset, made.backbone, made.freeze) == (dataset, f"bnext-{size}", bool(frozen))
    assert made.epochs == (10 if dataset == "cifake" else 5)
    assert bool(made.augment) == (dataset == "cocofake")
    assert (made.resolution, made.rule) == (224, ResizeRule.reference(224))
    assert made.rule.shorter_side == 252
    assert (made.learning_rate, made.final_learning_rate, made.schedule) == (1e-4, 0.1, "linear")
    assert (made.schedule_epochs, made.batch, made.accumulate) == (5, 32, 4)
    assert (made.clip_norm, made.seed, made.variant) == (1.0, 5, "paper")
    assert (made.warmup, made.weight_decay, made.label_smoothing, made.train_fraction) == (0, 0.01, 0.0, 1.0)
    assert made.channels == ("rgb", "fft", "lbp")
    assert made.augment == (("flip", "rot90", "crop", "jitter") if dataset == "cocofake" else ())


def test_the_ablation_differs_in_channels_only():
    combinations = set()
    for row in ABLATION_ROWS:
        made = experiment(row)
        combinations.add(made.channels)
        assert dataclasses.replace(made, channels=("rgb",)) == experiment("paper-ablation-none")
        assert made.channels == ("rgb", *(n for n in row.split("-")[2:] if n != "none"))
    assert len(combinations) == 8


def test_the_ablation_starts_from_the_frozen_row():
    assert experiment("paper-ablation-fft-lbp") == experiment("paper-cocofake-t-frozen")


def test_paper_and_scratch_leave_the_data_set_to_the_user():
    for dataset in ("cocofake", "dffd"):
        for freeze in (True, False):
            row = experiment(f"paper-{dataset}-s{'-frozen' if freeze else ''}")
            given = {"dataset": dataset, "backbone": "bnext-s", "freeze": freeze, "augment": row.augment}
            assert experiment("paper", **given) == row
    assert experiment("scratch") == Experiment()


@pytest.mark.parametrize("name", sorted(p.parent.name for p in RESULTS.glob("cifake-*/config.yaml")))
def test_a_stored_result_and_its_preset_agree(name):
    assert experiment(name) == Experiment.load(RESULTS / name / "config.yaml")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_opens_with_command_expectation_and_time(preset):
    lines = PRESETS[preset].read_text().splitlines()
    comment = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0].startswith("# ")
    for word in ("Command:", "Expected:", "Time:"):
        assert f"# {word}" in comment
    if preset.startswith(("paper-", "cifake-")):
        assert f"--preset {preset}" in comment


def test_a_preset_with_an_unknown_key_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("epoch: 3\n")
    monkeypatch.setitem(PRESETS, "mine", path)
    with pytest.raises(UsageError, match=r"mine\.yaml: unknown key epoch;"):
        experiment("mine")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "bnext-x"}, "unknown backbone 'bnext-x'"),
        ({"channels": ("rgb", "fbt")}, "unknown channel 'fbt'"),
        ({"channels": ("fft",)}, "lack 'rgb'"),
        ({"variant": "stabel"}, "possible: paper, stable"),
        ({"resolution": 100}, "multiple of 32; nearest: 96, 128"),
        ({"stem_stride": 4}, "no stem of stride 4; possible: 2, 1"),
    ],
)
def test_networks_that_cannot_be_built_are_refused_at_once(values, message):
    with pytest.raises(UsageError, match=message):
        Experiment(**values)


def test_channels_are_kept_in_their_order():
    assert Experiment(channels=("lbp", "rgb")) == Experiment(channels=("rgb", "lbp"))


def test_yaml_round_trip(tmp_path):
    made = experiment(
        "paper-dffd-s", data_dir="some where/ünïcode: 'x'", channels=("rgb",), stem_stride=2, init="run 7",
        augment=[], label_smoothing=0.1, weight_decay=1, schedule_epochs=3,
    )  # fmt: skip
    path = tmp_path / "new" / "config.yaml"
    made.save(path)
    assert Experiment.load(path) == made
    assert yaml.safe_load(path.read_text())["channels"] == ["rgb"]
    # What no value in YAML carries over: a float stays a float.
    assert isinstance(Experiment.load(path).weight_decay, float)


def test_small_floats_survive_yaml(tmp_path):
    for rate in (1e-4, 3e-5, 1e-10, 1.0, 2):
        made = experiment(learning_rate=rate)
        made.save(tmp_path / "c.yaml")
        assert Experiment.load(tmp_path / "c.yaml").learning_rate == rate


def test_rates_as_people_write_them(tmp_path):
    path = tmp_path / "c.yaml"
    for text in ("1e-4", "1E-4", ".0001", "0.0001"):
        path.write_text(f"learning_rate: {text}\n")
        assert Experiment.load(path).learning_rate == 1e-4


def test_a_partial_file_takes_the_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 2\nlearning_rate: 1\n")
    assert Experiment.load(path) == Experiment(epochs=2, learning_rate=1.0)


def test_unknown_keys_are_all_named_with_the_possible_ones(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epoch: 3\nbatch_size: 4\nseed: 1\n")
    with pytest.raises(UsageError) as caught:
        Experiment.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "batch_size, epoch;" in message
    for field in dataclasses.fields(Experiment):
        assert field.name in message


def test_keys_that_are_no_words_are_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("1: 2\nepoch: 3\n")
    with pytest.raises(UsageError, match="unknown key"):
        Experiment.load(path)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("epochs", "4", "int"),
        ("epochs", 4.0, "int"),
        ("epochs", True, "int"),
        ("epochs", None, "int"),
        ("learning_rate", "fast", "float"),
        ("learning_rate", "nan", "float"),
        ("epochs", "1e1", "int"),
        ("learning_rate", False, "float"),
        ("freeze", 1, "bool"),
        ("freeze", "yes", "bool"),
        ("backbone", 3, "str"),
        ("channels", "rgb,fft", "tuple"),
        ("channels", [1, 2], "tuple"),
        ("augment", None, "tuple"),
    ],
)
def test_wrong_types_are_refused(key, value, kind):
    with pytest.raises(UsageError, match=rf"here: {key} must be of type {kind}.*"):
        Experiment.from_dict({key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value"),
    [("data_dir", 5), ("init", ["a"]), ("stem_stride", "2"), ("stem_stride", True), ("schedule_epochs", 2.5)],
)
def test_wrong_types_are_refused_where_none_is_the_default(key, value):
    with pytest.raises(UsageError, match=rf"{key} must be"):
        Experiment.from_dict({key: value})
    assert getattr(Experiment.from_dict({key: None}), key) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resize": "stretch"}, "possible: native, reference"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"resolution": 0}, "resolution must be at least 1; got 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": -1}, "batch must be at least 1"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"learning_rate": 0.0}, "must be a positive number"),
        ({"learning_rate": -1.0}, "must be a positive number; got -1"),
        ({"learning_rate": math.nan}, "learning_rate .* got nan"),
        ({"learning_rate": math.inf}, "learning_rate .* got inf"),
        ({"weight_decay": -0.1}, "weight_decay .* not negative; got -0.1"),
        ({"clip_norm": math.nan}, "clip_norm"),
        ({"final_learning_rate": -1.0}, "final_learning_rate"),
        ({"warmup": -1}, "warmup"),
        ({"seed": -1}, "seed"),
        ({"schedule_epochs": 0}, "schedule_epochs must be at least 1"),
        ({"augment": ("flop",)}, "Did you mean 'flip'"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"train_fraction": 0.0}, "train_fraction"),
        ({"train_fraction": 1.1}, "train_fraction"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Experiment(**values)


@pytest.mark.parametrize(
    "content", [b"- a\n- b\n", b"", b"just text", b"a: [1", b"\xff\xfe\x00", b"a: \t- b"]
)
def test_files_that_are_no_mapping_are_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(BddError, match=r"c\.yaml"):
        Experiment.load(path)


def test_yaml_cannot_make_objects(tmp_path):
    path, mark = tmp_path / "c.yaml", tmp_path / "mark"
    path.write_text(
        f"init: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]"
    )
    with pytest.raises(BddError):
        Experiment.load(path)
    assert not mark.exists()


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(BddError, match="does not exist"):
        Experiment.load(tmp_path / "none.yaml")
    with pytest.raises(BddError, match="cannot be read"):
        Experiment.load(tmp_path)


def test_experiment_fills_in_by_data_set_and_start():
    assert experiment().resolution == 32
    assert experiment(dataset="sample").resolution == 32
    other = experiment(dataset="dffd")
    assert (other.resolution, other.resize) == (224, "reference")
    assert experiment(dataset="dffd", resize="native").resize == "native"
    assert experiment(dataset="dffd", resolution=64).resize == "native"
    assert experiment(init="some-run").learning_rate == experiment("paper").learning_rate
    assert experiment("scratch", init="some-run") == dataclasses.replace(experiment(), init="some-run")
    assert experiment("paper-cifake-t", epochs=None, batch=7).batch == 7
    assert experiment(channels=["rgb", "lbp"]).channels == ("rgb", "lbp")


def test_experiment_refuses_unknown_presets_and_keys():
    with pytest.raises(UsageError, match=r"unknown preset 'papr'; possible: .*paper-cifake-t.*'paper'"):
        experiment("papr")
    with pytest.raises(UsageError, match="unknown key epoch;"):
        experiment(epoch=3)


def test_default_names_distinguish_runs():
    names = {
        experiment(**given).default_name
        for given in (
            {},
            {"backbone": "bnext-t"},
            {"channels": ("rgb",)},
            {"resolution": 64},
            {"dataset": "x"},
        )
    }
    assert len(names) == 5


def test_experiments_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment().epochs = 3


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    for content in (b"first", b"", b"second" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["replace", "write"])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path, monkeypatch, failing):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    if failing == "replace":
        monkeypatch.setattr(files.os, "replace", no_space)
        content = b"new"
    else:
        content = "text is no bytes"
    with pytest.raises((OSError, TypeError)):
        write_atomically(path, content)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_between_write_and_rename_is_an_error_that_cleans_up(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file.bin", b"new")
    assert not list(tmp_path.iterdir())
