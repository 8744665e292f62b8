"""Two workers train as one process that accumulates two gradients; what happens when one of them ends."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import Run
from bdd_tf.training import local, trainer, weights
from bdd_tf.training.cluster import describe, local_addresses
from bdd_tf.training.history import read_history

#: The tiny network in every worker; a checkpoint after every update; on request worker 1 is killed in front of a batch.
PLUGIN = """
import json, os, signal
from bdd_tf.datasets.pipeline import DataSet
from bdd_tf.training import trainer
from tests import tiny_bnext
tiny_bnext.register()
trainer.CHECKPOINT_MINUTES = 0.0
train_batches, index = DataSet.train_batches, json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def dying(self, *args, epoch, skip, **options):
    rounds = skip // 2
    for number, batch in enumerate(train_batches(self, *args, epoch=epoch, skip=skip, **options), start=rounds):
        if f"{epoch},{number}" == os.environ.get("TEST_KILL") and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
DataSet.train_batches = dying
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A function: the job that trains in a folder."""
    plugin = tmp_path_factory.mktemp("plugin") / "tiny.py"
    plugin.write_text(PLUGIN)

    def job(folder: Path) -> local.Job:
        return local.Job(str(folder), str(folder.parent), None, (str(plugin),), 120.0)

    return job


@pytest.fixture(scope="module")
def config(small_experiment):
    """Two epochs of six rounds: 12 batches of 13 images by two workers."""
    return dataclasses.replace(
        small_experiment, resolution=16, epochs=2, batch=13, augment=("flip",), workers=2
    )


@pytest.fixture(scope="module")
def two(config, job, tmp_path_factory):
    """The run of two workers."""
    run = Run(tmp_path_factory.mktemp("workers") / "two")
    train_by_processes(config, job(run.path))
    return run


def train_by_processes(config, job):
    """As the command does, but with the threads of this process: their number decides in which order sums are rounded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_bind", lambda *_: None)
        local.train_locally(config, job)


def assert_equal_runs(one, other, config, moving=0.0):
    """All numbers of two runs are equal; moving averages, and so validation, within a tolerance."""
    for a, b in zip(*(read_history(run.history) for run in (one, other)), strict=True):
        for key in a.keys() - {"seconds"}:
            # A rounding of a moving average may turn a few signs.
            loose = 0.1 if moving and key.startswith("validation") else 0
            assert a[key] == pytest.approx(b[key], rel=loose, abs=loose), key
    models = [weights.build(config), weights.build(config)]
    for model, run in zip(models, (one, other), strict=True):
        weights.load_weights(model, run.weights)
    averages = {id(weight) for weight in models[0].non_trainable_weights}
    for a, b in zip(*(model.weights for model in models), strict=True):
        tolerance = moving if id(a) in averages else 0
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance / 10, err_msg=a.name)


def test_two_workers_train_as_one_process_that_accumulates_two_gradients(config, two, tmp_path):
    alone = dataclasses.replace(config, workers=1, accumulate=2)
    run = Run(tmp_path / "one")
    trainer.train(alone, run)
    # The sum of two gradients has the same bits in either order; a moving average is rounded in another place.
    assert_equal_runs(run, two, config, moving=1e-5)
    assert read_history(two.history)[-1]["images"] == 2 * 12 * 13  # each image once an epoch
    assert two.worker_log(1).read_text()


@pytest.mark.slow
def test_a_killed_worker_stops_the_others_and_the_same_command_goes_on(
    config, two, job, tmp_path, monkeypatch
):
    run = Run(tmp_path / "killed")
    monkeypatch.setenv("TEST_KILL", "1,3")
    with pytest.raises(BddError, match=r"worker 1 of 2 ended with signal SIGKILL .*goes on from the last"):
        train_by_processes(config, job(run.path))
    assert not run.weights.exists()
    assert len(read_history(run.history)) == 1
    monkeypatch.delenv("TEST_KILL")
    train_by_processes(config, job(run.path))
    assert_equal_runs(two, run, config)
    with pytest.raises(UsageError, match="workers: 2 there, 1 now"):
        trainer.train(dataclasses.replace(config, workers=1), run)


def test_the_number_of_workers_belongs_to_the_experiment(config, tmp_path):
    with pytest.raises(UsageError, match="the experiment has workers: 2, and 1 are here"):
        trainer.train(config, Run(tmp_path / "run"))


def test_a_batch_of_every_worker_must_fit(config, tmp_path):
    with pytest.raises(
        UsageError, match=r"batch 100 of each of 2 workers is larger than the train split \(157 images\)"
    ):
        trainer.check(dataclasses.replace(config, batch=100), Run(tmp_path / "run"))


def test_a_worker_that_finds_no_other_says_which_and_ends(tmp_path):
    addresses = local_addresses(2)
    text = "from bdd_tf.training.cluster import from_environment; from bdd_tf.training.workers import join;"
    text += "join(from_environment(), 3.0)"
    for index, missing in ((0, 1), (1, 0)):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "TF_CONFIG": describe(addresses, index).text},
        )  # fmt: skip
        assert done.returncode == 1
        assert (
            f"worker {index} of 2 has waited 3 s for worker {missing} ({addresses[missing]})" in done.stderr
        )
        assert time.monotonic() - began < 100


@pytest.mark.parametrize("count", [0, -1, 65])
def test_impossible_numbers_of_processes_are_refused(count):
    with pytest.raises(UsageError, match=f"--processes must be in 1 to 64; got {count}"):
        local.check_processes(count)


def test_processes_and_tf_config_exclude_each_other(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({}))
    with pytest.raises(UsageError, match="TF_CONFIG names workers already"):
        local.check_processes(2)


def test_an_interrupted_launcher_stops_all_workers():
    sleepers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    local._stop(sleepers)
    assert all(process.poll() is not None for process in sleepers)
