"""The options of `bdd train`."""

import argparse
import dataclasses

import pytest

from bdd_tf.config import Experiment
from bdd_tf.errors import UsageError
from bdd_tf.training.options import add_arguments, experiment_from

#: A value that differs from the default, by field.
GIVEN = {
    "dataset": "folder", "data_dir": "x", "backbone": "bnext-t", "channels": "rgb,lbp", "variant": "paper",
    "resolution": "64", "stem_stride": "1", "stem": "direct", "resize": "reference", "epochs": "3", "batch": "8",
    "accumulate": "2", "learning_rate": "0.5", "warmup": "7", "weight_decay": "0.1", "clip_norm": "2",
    "label_smoothing": "0.1", "ema": "0.9", "train_fraction": "0.5", "hold_out": "A", "images_per_epoch": "100",
    "own_decoders": "y", "own_decoder_share": "0.25", "clean_share": "0.4", "retouch_share": "0.3", "augment": "crop",
    "init": "z", "freeze": "1", "gradients": "keras", "mixed_precision": "1", "patience": "3", "seed": "9",
    "real": "camera", "fake": "made", "columns": "label=class",
}  # fmt: skip
FOR_PHOTOS = ("hold_out", "own_decoders", "own_decoder_share", "clean_share", "retouch_share")


def parser():
    made = argparse.ArgumentParser()
    add_arguments(made)
    return made


def test_every_option_of_an_experiment_is_tried_here():
    fields = {field.name for field in dataclasses.fields(Experiment)}
    options = {action.dest for action in parser()._actions}
    assert options & fields == set(GIVEN)


@pytest.mark.parametrize("field", GIVEN)
def test_every_option_reaches_the_experiment(field):
    words = [f"--{field.replace('_', '-')}", GIVEN[field]]
    if field in FOR_PHOTOS:
        words += ["--dataset", "photos"]
    if field in ("data_dir", "real", "fake", "columns"):
        words += ["--dataset", "folder", *(() if field == "data_dir" else ("--data-dir", "x"))]
    if field in ("real", "fake"):
        words += ["--fake", "made"] if field == "real" else ["--real", "camera"]
    if field == "mixed_precision":
        words += ["--backbone", "resnet50"]
    if field == "own_decoder_share":
        words += ["--own-decoders", "y"]
    found = getattr(experiment_from(parser().parse_args(words)), field)
    assert found != getattr(Experiment, field)
    assert str(found) == GIVEN[field] or found in (("rgb", "lbp"), (GIVEN[field],), True, 2.0)


def config(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return experiment_from(parser.parse_args(list(words)))


def test_any_field_is_set_in_yaml(tmp_path):
    words = [
        "--set",
        "final-learning-rate=0.1",
        "--set",
        "class_weights=false",
        "--set",
        "augment=flip,vflip",
    ]
    made = config(*words, "--set", "schedule=linear", "--set", "channels=[rgb, lbp]")
    assert (made.final_learning_rate, made.class_weights, made.schedule) == (0.1, False, "linear")
    assert (made.augment, made.channels) == (("flip", "vflip"), ("rgb", "lbp"))
    made.save(tmp_path / "config.yaml")
    again = config("--config", str(tmp_path / "config.yaml"), "--set", "epochs=7", "--batch", "32")
    assert again.to_dict() == {**made.to_dict(), "epochs": 7, "batch": 32}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("shedule=linear", "unknown setting 'shedule'.*Did you mean 'schedule'"),
        ("epochs", "KEY=VALUE"),
        ("epochs=many", "epochs must be of type int; got 'many'"),
        ("schedule=[", "cannot be read"),
        ("schedule=square", "possible: cosine, linear, constant"),
    ],
)
def test_settings_are_checked(entry, message):
    with pytest.raises(UsageError, match=message):
        config("--set", entry)
