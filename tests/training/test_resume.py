"""A training that is killed and resumed ends with the same weights as an undisturbed one."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bdd_tf.runs import Run
from bdd_tf.training import trainer, weights
from bdd_tf.training.history import read_history

#: Saves after every batch: the number of a checkpoint is that of the batches done.
SCRIPT = (
    "import sys; from pathlib import Path; from bdd_tf.training import trainer; from bdd_tf.config import Experiment;"
    "from bdd_tf.runs import Run; trainer.CHECKPOINT_MINUTES = 0.0;"
    "trainer.train(Experiment.load(Path(sys.argv[1])), Run(Path(sys.argv[2])))"
)


def batches_saved(run):
    return max((int(p.stem.split("-")[1]) for p in run.checkpoints.glob("ckpt-*.index")), default=0)


def kill(config, run, batches):
    """Train in a process that gets SIGKILL as soon as it has saved so many batches."""
    command = [sys.executable, "-c", SCRIPT, str(config), str(run.path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    deadline = time.monotonic() + 300  # a busy machine
    while time.monotonic() < deadline and process.poll() is None:
        if batches_saved(run) >= batches:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


class KilledError(BaseException):
    """Nothing handles it, as nothing handles a kill."""


def train_with_image(config, run, image, batches, *, saved=True, go_on=False):
    """Train in this process, and copy the folder to ``image`` as a kill would leave it.

    The copy is made behind the checkpoint of so many batches, or without ``saved`` right before it. The training ends
    there unless it shall ``go_on``.
    """

    class Manager(trainer.tf.train.CheckpointManager):
        def save(self, *args, **options):
            there = batches_saved(run) + 1 == batches
            path = super().save(*args, **options) if saved or not there else None
            if there:
                shutil.copytree(run.path, image.path)
                if not go_on:
                    raise KilledError
            return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "CHECKPOINT_MINUTES", 0.0)
        patch.setattr(trainer.tf.train, "CheckpointManager", Manager)
        with contextlib.nullcontext() if go_on else pytest.raises(KilledError):
            trainer.train(config, run)


def assert_ends_as(undisturbed, run, config, capsys):
    capsys.readouterr()
    assert not run.weights.exists()
    trainer.train(config, run)
    assert f"resuming {run.name} at epoch" in capsys.readouterr().err
    images = [r["images"] for r in read_history(run.history)]
    # No batch is trained twice and none is left out, whatever the kills cut through.
    assert images == [r["images"] for r in read_history(undisturbed.history)]
    expected, resumed = weights.load_trained(undisturbed), weights.load_trained(run)
    for a, b in zip(expected.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


@pytest.fixture
def config(small_experiment):
    """Two epochs of a few batches."""
    return dataclasses.replace(small_experiment, epochs=2)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(config, tmp_path, capsys):
    config = dataclasses.replace(config, backbone="quicknet-small", gradients="keras")
    undisturbed, run = Run(tmp_path / "undisturbed"), Run(tmp_path / "killed")
    trainer.train(config, undisturbed)
    kill(undisturbed.config, run, 5)
    assert_ends_as(undisturbed, run, config, capsys)


def test_the_kernels_go_on_where_they_were_however_often_they_are_stopped(config, tmp_path, capsys):
    """In an epoch; at its end, where the history is written but the checkpoint is not; and in the next."""
    config = dataclasses.replace(config, gradients="int8", resolution=16)
    undisturbed, once, twice, thrice = (Run(tmp_path / name) for name in ("undisturbed", "1", "2", "3"))
    train_with_image(config, undisturbed, once, 2, go_on=True)
    epoch = read_history(undisturbed.history)[0]["images"] // config.batch
    train_with_image(config, once, twice, epoch, saved=False)
    assert len(read_history(twice.history)) == 1
    train_with_image(config, twice, thrice, epoch + 5)
    assert_ends_as(undisturbed, thrice, config, capsys)
