"""How long a training lasts: more epochs, early ends; and settings that must not change its result."""

import dataclasses
import re
import shlex

import numpy as np
import pytest

from bdd_tf.cli import main
from bdd_tf.config import Experiment
from bdd_tf.datasets.of_experiment import dataset_of
from bdd_tf.errors import BddError, UsageError
from bdd_tf.presets import experiment
from bdd_tf.runs import Run
from bdd_tf.training import trainer, weights
from bdd_tf.training.history import ends_early, read_history


@pytest.fixture(scope="module")
def config(tree, cache):
    """A float network of a thousand weights, which trains in seconds."""
    return experiment(
        dataset="folder", data_dir=str(tree), backbone="tiny-ladeda", channels=("rgb",), resolution=16, resize="native",
        epochs=2, batch=16, warmup=0, validation_fraction=0.2, schedule="constant", augment=["flip"],
    )  # fmt: skip


def test_more_epochs_continue_a_finished_run_to_the_weights_of_one_training(config, tmp_path, capsys):
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    trainer.train(config, whole)
    trainer.train(dataclasses.replace(config, epochs=1), parts)
    parts.tflite.write_bytes(b"")
    capsys.readouterr()
    trainer.train(config, parts)
    err = capsys.readouterr().err
    assert "parts goes on to 2 epochs instead of 1" in err
    assert "model.tflite: of the weights before these epochs" in err
    assert [r["images"] for r in read_history(parts.history)] == [
        r["images"] for r in read_history(whole.history)
    ]
    assert Experiment.load(parts.config) == config
    for a, b in zip(weights.load_trained(whole).weights, weights.load_trained(parts).weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)

    with pytest.raises(UsageError, match="has 2 epochs already"):
        trainer.train(dataclasses.replace(config, epochs=1), parts)
    with pytest.raises(UsageError, match=r"other settings \(.*learning_rate"):
        trainer.train(dataclasses.replace(config, epochs=3, learning_rate=1.0), parts)
    for state in parts.checkpoints.glob("ckpt*"):
        state.unlink()
    (parts.checkpoints / "checkpoint").unlink()
    with pytest.raises(BddError, match=r"no state from which parts could go on.*--init parts"):
        trainer.train(dataclasses.replace(config, epochs=3), parts)
    assert parts.weights.is_file()


def test_a_training_that_does_not_improve_ends_early_and_stays_ended(config, tmp_path, capsys):
    config = dataclasses.replace(config, epochs=5, patience=1, learning_rate=1e-12)
    run = Run(tmp_path / "early")
    rows = trainer.train(config, run)
    assert "no better validation AUC in 1 epochs" in capsys.readouterr().err
    assert [ends_early(rows[:n], 1) for n in range(1, len(rows) + 1)] == [False] * (len(rows) - 1) + [True]
    assert run.weights.is_file()
    assert trainer.train(config, run) == rows
    assert "is already trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("aucs", "patience", "ends"),
    [
        ([], 1, False),
        ([0.5, 0.4], 0, False),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4], 2, False),
        ([0.4, 0.5], 1, False),
        ([0.5, None, 0.4], 2, True),
    ],
)
def test_patience_counts_epochs_since_the_best(aucs, patience, ends):
    assert ends_early([{"validation_auc": auc} for auc in aucs], patience) is ends


def test_mixed_precision_computes_the_backbone_in_bfloat16_and_nothing_else(config, tmp_path):
    config = dataclasses.replace(config, mixed_precision=True, epochs=1)
    model = weights.build(config, training=True)
    computed = {layer.name: layer.compute_dtype for layer in model.layers}
    for name in ("channels", "normalise", "logit", "fake_probability"):
        assert computed[name] == "float32"
    assert "bfloat16" in computed.values()
    assert {w.dtype.name for w in model.trainable_weights} == {"float32"}
    assert "bfloat16" not in {layer.compute_dtype for layer in weights.build(config).layers}

    trainer.train(config, Run(tmp_path / "mixed"))
    with pytest.raises(UsageError, match="mixed_precision is for float backbones"):
        dataclasses.replace(config, backbone="bnext-n", resolution=32)


def test_batches_do_not_depend_on_the_loaders_threads(config):
    def batches(threads):
        data = dataset_of(config)
        data.loader_threads = threads
        return [x.numpy() for x, _ in data.train_batches(16, seed=1, epoch=0, augment=("flip", "jitter"))]

    for one, four in zip(batches(1), batches(4), strict=True):
        np.testing.assert_array_equal(one, four)


def test_loader_threads_are_checked_before_anything_is_loaded(capsys, tree):
    assert main(["train", "--data-dir", str(tree), "--loader-threads", "0"]) == 2
    assert "--loader-threads must be in 1 to 64; got 0" in capsys.readouterr().err


def test_help_shows_the_defaults(capsys):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "passes over the training split; default 4" in text
    assert "default flip" in text
    assert text.count("default") >= 25


def test_the_next_commands_are_those_that_work(make_tree, tmp_path, capsys):
    """Data without a test split, a folder with a space: what is proposed is what can be typed."""
    data, runs = make_tree(tmp_path / "data", {"train": 12, "validation": 6}, size=16), tmp_path / "my runs"
    network = ["--backbone", "tiny-ladeda", "--channels", "rgb", "--resolution", "16", "--epochs", "1"]
    folder = ["--run", "a", "--runs-dir", str(runs)]
    assert main(["train", "--data-dir", str(data), *network, "--batch", "8", *folder]) == 0
    last = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("next: "))
    proposed = re.findall(r"bdd ((?:evaluate|convert) .*?)(?:[.,;] |$)", last)
    assert [shlex.split(command) for command in proposed] == [
        ["convert", *folder],
        ["evaluate", *folder, "--split", "validation"],
    ]
