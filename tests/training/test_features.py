"""A linear probe on cached features equals the training through the frozen backbone; the cache is keyed and resumable."""

import dataclasses

import numpy as np
import pytest

from bdd_tf.config import Experiment
from bdd_tf.datasets.of_experiment import dataset_of
from bdd_tf.errors import UsageError
from bdd_tf.runs import Run
from bdd_tf.training import features, trainer
from bdd_tf.training.history import read_history
from bdd_tf.training.weights import build, load_trained, save_weights
from tests import tiny_vision


@pytest.fixture(scope="module", autouse=True)
def tiny():
    tiny_vision.register()
    yield
    tiny_vision.unregister()


@pytest.fixture(scope="module")
def probe(make_tree, tmp_path_factory):
    """An experiment of a probe, and the folder of runs with the backbone `random`."""
    root = tmp_path_factory.mktemp("probe")
    data = make_tree(root / "tree", {"train": 40, "test": 8}, size=32)
    config = Experiment(
        dataset="folder", data_dir=str(data), backbone="tiny-clip", channels=("rgb",), resolution=32, freeze=True,
        init="random", epochs=3, batch=16, learning_rate=0.05, warmup=0, augment=(), validation_fraction=0.2,
    )  # fmt: skip
    donor = dataclasses.replace(config, init=None, freeze=False)
    save_weights(build(donor), root / "random" / "model.weights.h5")
    donor.save(root / "random" / "config.yaml")
    return config, root


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def test_a_probe_equals_the_training_through_the_frozen_backbone(probe, cache, tmp_path):
    config, root = probe
    through = dataclasses.replace(config, cache_features=False)
    runs = {}
    for name, each in (("cached", config), ("through", through)):
        runs[name] = Run(tmp_path / name)
        trainer.train(each, runs[name], runs_dir=root)
        assert cache.exists() == (name == "cached") or name == "through"
    cached, plain = (load_trained(runs[name]) for name in ("cached", "through"))
    for one, two in zip(cached.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    start = load_trained(Run(root / "random"))
    for one, two in zip(cached.get_weights()[:-2], start.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(cached.get_weights()[-2] - start.get_weights()[-2]).max() > 0.01
    for one, two in zip(
        read_history(runs["cached"].history), read_history(runs["through"].history), strict=True
    ):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5)
        assert one["validation_auc"] == pytest.approx(two["validation_auc"], abs=1e-6)
    # More epochs go on from the checkpoint of the classifier alone.
    longer = dataclasses.replace(config, epochs=4, schedule_epochs=None)
    assert len(trainer.train(longer, runs["cached"], runs_dir=root)) == 4


def test_the_cache_is_filled_in_parts_and_goes_on_where_it_was(probe, cache, monkeypatch):
    config, _ = probe
    monkeypatch.setattr(features, "PART", 32)
    data, model = dataset_of(config), build(config)
    made = features.FeatureData(data, model, config)
    whole, labels = made.arrays("train")
    network = features.tf.keras.Model(model.input, model.get_layer("logit").input)
    images, truth = data.arrays("train")
    np.testing.assert_allclose(whole, network(images, training=False), atol=1e-5)
    np.testing.assert_array_equal(labels, truth)
    files = sorted(made.folder.glob("train-*.npy"))
    assert len(files) == -(-len(whole) // 32) >= 2

    calls = []
    again = features.FeatureData(data, model, config)
    run = again._run
    again._run = lambda x: calls.append(len(x)) or run(x)
    np.testing.assert_array_equal(again.arrays("train")[0], whole)
    assert not calls  # complete: no image is seen again
    files[1].unlink()
    files[0].write_bytes(files[0].read_bytes()[:-8])  # a damaged part counts as missing
    kept = [path.stat().st_mtime_ns for path in files[2:]]
    again._loaded.clear()
    np.testing.assert_allclose(again.arrays("train")[0], whole, atol=1e-6)
    assert sum(calls) == min(64, len(whole))
    assert [path.stat().st_mtime_ns for path in files[2:]] == kept


def test_other_weights_data_or_preprocessing_have_a_cache_of_their_own(probe, cache, make_tree, tmp_path):
    config, _ = probe
    data, model = dataset_of(config), build(config)
    folder = features.FeatureData(data, model, config).folder
    assert features.FeatureData(data, model, config).folder == folder
    model.get_layer("logit").set_weights([w + 1 for w in model.get_layer("logit").get_weights()])
    assert (
        features.FeatureData(data, model, config).folder == folder
    )  # features do not depend on the classifier
    other = dataclasses.replace(config, normalisation="half")
    assert features.FeatureData(data, model, other).folder != folder
    tree = make_tree(tmp_path / "tree", {"train": 40, "test": 8}, size=32, seed=1)
    assert (
        features.FeatureData(
            dataset_of(dataclasses.replace(config, data_dir=str(tree))), model, config
        ).folder
        != folder
    )
    weight = model.get_layer("feature.projection").weights[0]
    weight.assign(weight + 1e-6)
    assert features.FeatureData(data, model, config).folder != folder


@pytest.mark.parametrize(
    ("change", "cached"),
    [
        ({}, True),
        ({"augment": ("flip",)}, False),
        ({"channels": ("rgb", "fft")}, False),
        ({"freeze": False}, False),
        ({"cache_features": False}, False),
    ],
)
def test_features_are_cached_only_where_nothing_in_front_of_them_varies(probe, change, cached):
    assert features.caches_features(dataclasses.replace(probe[0], **change)) == cached


def test_a_batch_larger_than_the_split_is_still_refused(probe, cache, tmp_path):
    config, root = probe
    with pytest.raises(UsageError, match="batch"):
        trainer.train(dataclasses.replace(config, batch=500), Run(tmp_path / "run"), runs_dir=root)
