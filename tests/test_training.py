import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bdd_tf import training
from bdd_tf.config import Experiment, experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.runs import Run, existing_run, read_history, run_named


def test_a_run_leaves_what_the_contract_names(trained):
    for path in (
        trained.config,
        trained.weights,
        trained.history,
        trained.metrics("test"),
        trained.scores("test"),
    ):
        assert path.is_file(), path
    assert (trained.figures / "roc-test.png").is_file()
    assert (trained.figures / "gallery-test.png").is_file()
    document = json.loads(trained.metrics("test").read_text())
    assert document["images"] == 24
    assert sum(document["confusion"].values()) == 24
    for key in ("accuracy", "auc", "average_precision", "eer", "threshold", "accuracy_real", "accuracy_fake"):
        assert 0 <= document[key] <= 1, key


def test_history_counts_every_image_once_per_epoch(trained):
    rows = read_history(trained.history)
    epochs = range(1, Experiment.load(trained.config).epochs + 1)
    assert [r["epoch"] for r in rows] == list(epochs)
    per_epoch = rows[0]["images"]
    assert [r["images"] for r in rows] == [per_epoch * n for n in epochs]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert max(r["validation_auc"] for r in rows) > 0.7  # it has learnt something, few as its images are


def test_training_again_does_nothing_and_other_settings_are_refused(trained, capsys):
    config = Experiment.load(trained.config)
    before = trained.weights.read_bytes()
    assert len(training.train(config, trained)) == config.epochs
    assert trained.weights.read_bytes() == before
    changed = Experiment.from_dict({**config.to_dict(), "epochs": config.epochs + 1})
    with pytest.raises(UsageError, match=f"epochs: {config.epochs} there, {config.epochs + 1} now"):
        training.train(changed, trained)


# Ten batches; before and behind the end of an epoch, and at it.
@pytest.mark.parametrize(
    ("backbone", "resolution", "gradients", "kills"),
    [("quicknet", 32, "keras", [5]), ("bnext-n", 16, "int8", [2, 5, 9])],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained, tmp_path, backbone, resolution, gradients, kills
):
    # Small: it starts up to four times, and saves after every batch.
    config = dataclasses.replace(
        Experiment.load(trained.config), backbone=backbone, gradients=gradients, resolution=resolution, epochs=2
    )  # fmt: skip
    trained = Run(tmp_path / "undisturbed")
    training.train(config, trained)
    script = (
        "import sys; from pathlib import Path; from bdd_tf import training; from bdd_tf.config import Experiment;"
        "from bdd_tf.runs import Run; training.CHECKPOINT_MINUTES = 0.0;"
        "training.train(Experiment.load(Path(sys.argv[1])), Run(Path(sys.argv[2])))"
    )
    run = Run(tmp_path / "killed")
    command = [sys.executable, "-c", script, str(trained.config), str(run.path)]
    for wanted in kills:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
        deadline = time.monotonic() + 300  # a busy machine
        # CHECKPOINT_MINUTES 0 saves after every batch: checkpoint number = batches done.
        while time.monotonic() < deadline and process.poll() is None:
            if any(int(p.stem.split("-")[1]) >= wanted for p in run.checkpoints.glob("ckpt-*.index")):
                break
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not run.weights.exists()
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0
    assert "resuming killed at epoch" in ended.stderr
    images = [r["images"] for r in read_history(run.history)]
    # No batch is trained twice and none is left out, whatever the kills cut through.
    assert images == [r["images"] for r in read_history(trained.history)]
    undisturbed, resumed = training.load_trained(trained), training.load_trained(run)
    for a, b in zip(undisturbed.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


def test_learning_rate_warms_up_and_ends_where_the_schedule_says():
    for schedule, last in (("cosine", 0.0), ("linear", 0.1)):
        config = experiment(
            schedule=schedule, final_learning_rate=last, warmup=10, epochs=2, learning_rate=1.0
        )
        rates = [training.learning_rate(config, i, 50) for i in range(101)]
        assert rates[0] == pytest.approx(0.1)
        assert rates[9] == rates[10] == pytest.approx(1.0)
        assert rates[100] == pytest.approx(last, abs=1e-9)
        assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_accumulating_gradients_equals_one_larger_batch(tree, cache, tmp_path):
    """With frozen statistics the mean gradient of two halves is the gradient of the whole."""
    import tensorflow as tf

    from bdd_tf.models.detector import build_detector, logits

    model = logits(build_detector("bnext-n", 16, "rgb"))
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    labels = np.array([[0.0], [1.0]] * 4, np.float32)

    def gradient(rows):
        with tf.GradientTape() as tape:
            logit = model(images[rows], training=False)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels[rows], logit))
        return tape.gradient(loss, model.get_layer("logit").kernel).numpy()

    whole, halves = gradient(slice(0, 8)), (gradient(slice(0, 4)) + gradient(slice(4, 8))) / 2
    np.testing.assert_allclose(whole, halves, rtol=1e-4, atol=1e-6)


def test_init_takes_over_weights_and_freezing_keeps_the_backbone(trained, tree, tmp_path):
    config = Experiment.from_dict(
        {**Experiment.load(trained.config).to_dict(), "init": str(trained.path), "freeze": True, "epochs": 1}
    )
    run = Run(tmp_path / "frozen")
    training.train(config, run)
    donor, tuned = training.load_trained(trained), training.load_trained(run)
    changed = {
        a.name.split("/")[0]
        for a, b in zip(donor.weights, tuned.weights, strict=True)
        if not np.array_equal(a.numpy(), b.numpy())
    }
    assert changed <= {"adapter", "logit"}
    assert "logit" in changed


def test_user_errors_are_sentences(trained, tree, tmp_path):
    config = Experiment.load(trained.config)
    with pytest.raises(UsageError, match="small"):
        existing_run("nonesuch", trained.path.parent)
    with pytest.raises(UsageError, match="letters, digits"):
        run_named("a b")
    with pytest.raises(UsageError, match="smaller one with BATCH"):
        training.train(Experiment.from_dict({**config.to_dict(), "batch": 4096}), Run(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    bad = Run(tmp_path / "bad")
    config.save(bad.config)
    with pytest.raises(BddError, match="no trained weights"):
        training.load_trained(bad)
    bad.weights.write_bytes(b"not hdf5")
    with pytest.raises(BddError, match="does not hold weights"):
        training.load_trained(bad)
