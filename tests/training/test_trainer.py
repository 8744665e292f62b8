import dataclasses
import itertools
import json

import numpy as np
import pytest

import bdd_tf
from bdd_tf.config import Experiment
from bdd_tf.errors import BddError, UsageError
from bdd_tf.presets import experiment
from bdd_tf.runs import Run, existing_run, run_named
from bdd_tf.training import trainer, weights
from bdd_tf.training.history import read_history
from tests import tiny_bnext


def test_a_run_writes_the_documented_files(trained):
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


def test_the_speed_of_an_epoch_that_takes_less_than_a_tenth_of_a_second():
    assert trainer._speed(1856, 0.032) == "; 58000 images/s"
    assert trainer._speed(1856, 0.0) == ""


def test_a_run_loads_as_the_keras_model_that_was_trained(trained):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    expected = weights.load_trained(trained)(images).numpy()
    for given in (trained.name, trained.path, trained.weights, trained.best_weights):
        np.testing.assert_array_equal(
            bdd_tf.load(given, runs_dir=trained.path.parent).predict(images, verbose=0), expected
        )
    with pytest.raises(UsageError, match=r"edge\.Detector"):
        bdd_tf.load(trained.tflite)


def test_a_tuned_model_is_saved_as_a_run_like_the_one_it_came_from(trained, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    model = bdd_tf.load(trained.path)
    for weight in model.trainable_weights:
        weight.assign(weight * 1.01)
    folder = bdd_tf.save(model, "tuned", like=trained.path, runs_dir=tmp_path)
    np.testing.assert_array_equal(bdd_tf.load("tuned", runs_dir=tmp_path)(images), model(images))
    old, new = (Experiment.load(Run(path).config) for path in (trained.path, folder))
    assert new == dataclasses.replace(old, init=str(trained.path))
    with pytest.raises(UsageError, match="exists already"):
        bdd_tf.save(model, "tuned", like=trained.path, runs_dir=tmp_path)
    other = weights.build(dataclasses.replace(old, channels=("rgb",)))
    with pytest.raises(UsageError, match="other shapes"):
        bdd_tf.save(other, "other", like=trained.path, runs_dir=tmp_path)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="model is 3 of type int; it must be a Keras model"):
        bdd_tf.save(3, "other", like=trained.path, runs_dir=tmp_path)
    (tmp_path / "file.jpg").touch()
    for name in ("file.jpg", "file.jpg/inside"):
        with pytest.raises(UsageError, match=r"file\.jpg is not a folder; choose another name"):
            bdd_tf.save(model, str(tmp_path / name), like=trained.path)
        with pytest.raises(UsageError, match=r"file\.jpg is not a folder; choose another name"):
            trainer.train(old, Run(tmp_path / name))


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
    assert len(trainer.train(config, trained)) == config.epochs
    assert trained.weights.read_bytes() == before
    changed = Experiment.from_dict({**config.to_dict(), "warmup": config.warmup + 1})
    with pytest.raises(UsageError, match=f"warmup: {config.warmup} there, {config.warmup + 1} now"):
        trainer.train(changed, trained)


def test_learning_rate_warms_up_and_ends_where_the_schedule_says():
    for schedule, last in (("cosine", 0.0), ("linear", 0.1)):
        config = experiment(
            schedule=schedule, final_learning_rate=last, warmup=10, epochs=2, learning_rate=1.0
        )
        rates = [trainer.learning_rate(config, i, 50) for i in range(101)]
        assert rates[0] == pytest.approx(0.1)
        assert rates[9] == rates[10] == pytest.approx(1.0)
        assert rates[100] == pytest.approx(last, abs=1e-9)
        assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_accumulating_gradients_equals_one_larger_batch(tree, cache, tmp_path):
    """With frozen statistics the mean gradient of two halves is the gradient of the whole."""
    import tensorflow as tf

    from bdd_tf.models.detector import build_detector, logits

    model = logits(build_detector(tiny_bnext.NAME, 16, "rgb"))
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
    trainer.train(config, run)
    donor, tuned = weights.load_trained(trained), weights.load_trained(run)
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
    with pytest.raises(UsageError, match="smaller one with --batch"):
        trainer.train(Experiment.from_dict({**config.to_dict(), "batch": 4096}), Run(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    bad = Run(tmp_path / "bad")
    config.save(bad.config)
    with pytest.raises(BddError, match="no trained weights"):
        weights.load_trained(bad)
    bad.weights.write_bytes(b"not hdf5")
    with pytest.raises(BddError, match="does not hold weights"):
        weights.load_trained(bad)


def test_a_training_on_photographs_probes_its_crops_once(tmp_path, monkeypatch, capsys):
    from bdd_tf.datasets.of_experiment import dataset_of
    from tests.datasets import photo_archive

    photo_archive.write(tmp_path / "photos", per_source=12)
    monkeypatch.setattr(trainer, "PROBE_IMAGES", 50)
    config = Experiment(
        dataset="photos", data_dir=str(tmp_path / "photos"), resize="views", resolution=64, augment=(),
        images_per_epoch=64,
    )  # fmt: skip
    data, run = dataset_of(config), Run(tmp_path / "run")
    trainer._probe(data, run)
    err = capsys.readouterr().err
    assert "crops of 64 px" in err
    found = json.loads(run.probes.read_text())
    assert found["size"] == 64
    assert {row["images"] for row in found["training"]} == {64}
    trainer._probe(data, run)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(trainer, "PROBE_IMAGES", 65)
    trainer._probe(data, Run(tmp_path / "other"))
    assert "no probes" in capsys.readouterr().err
