"""The data set `photos` as training and evaluation see it."""

import numpy as np
import pytest

from bdd_tf.config import Experiment
from bdd_tf.datasets.of_experiment import dataset_of
from bdd_tf.datasets.training_ranges import trained_on
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive

HELD_OUT = "gan,camera-a"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    photo_archive.write(folder)
    return folder


def experiment(archive, **changes):
    fields = {
        "dataset": "photos",
        "data_dir": str(archive),
        "resize": "views",
        "resolution": 64,
        "augment": (),
        "hold_out": HELD_OUT,
        "images_per_epoch": 48,
    }
    return Experiment(**{**fields, **changes})


@pytest.fixture(scope="module")
def data(archive):
    return dataset_of(experiment(archive))


def test_an_epoch_draws_as_many_images_as_asked_half_of_them_fake(data):
    batches = list(data.train_batches(16, seed=5, epoch=0))
    labels = np.concatenate([labels.numpy()[:, 0] for _, labels in batches])
    assert data.counts["train"] == {REAL: 24, FAKE: 24}
    assert data.size("train") == len(labels) == 48
    assert labels.sum() == 24
    assert all(images.shape == (16, 64, 64, 3) for images, _ in batches)


def test_skipping_batches_leaves_the_others_as_they_are(data):
    whole = [images.numpy() for images, _ in data.train_batches(16, seed=5, epoch=1)]
    rest = [images.numpy() for images, _ in data.train_batches(16, seed=5, epoch=1, skip=2)]
    np.testing.assert_array_equal(whole[2], rest[0])
    assert len(rest) == 1


@pytest.mark.parametrize("split", ["validation", "test"])
def test_items_are_in_the_order_of_the_batches(data, split):
    items = data.items(split)
    labels = np.concatenate([labels.numpy()[:, 0] for _, labels in data.eval_batches(split, 7)])
    assert [item.label for item in items] == labels.astype(int).tolist()
    assert data.size(split) == len(items)
    assert all(data.file(item.path).is_file() for item in items)


def test_test_holds_what_is_held_out_and_validation_what_is_not(data):
    assert {item.source for item in data.items("test")} == {"gan", "camera-a"}
    assert not {item.source for item in data.items("validation")} & {"gan", "camera-a"}


def test_the_fingerprint_tells_folds_apart(archive, data):
    assert dataset_of(experiment(archive)).fingerprint == data.fingerprint
    assert dataset_of(experiment(archive, hold_out="diffusion")).fingerprint != data.fingerprint


def test_ranges_are_those_of_crops(data):
    statistics = trained_on(data, most=30)
    assert statistics.images == len(data.batches.fold.train)
    assert statistics.contrast[0] < statistics.contrast[1]


def test_a_split_without_images_is_refused(archive):
    nothing = dataset_of(experiment(archive, hold_out=""))
    with pytest.raises(UsageError, match="nothing is held out"):
        list(nothing.eval_batches("test", 4))


def test_what_photos_cannot_do_is_refused(archive, data):
    with pytest.raises(UsageError, match="degrades, flips and turns its crops by itself"):
        experiment(archive, augment=("flip",))
    with pytest.raises(UsageError, match="photos needs views"):
        experiment(archive, resize="native")
    with pytest.raises(UsageError, match="hold_out is for data set photos only"):
        Experiment(hold_out="A")
    with pytest.raises(UsageError, match="--data-dir"):
        dataset_of(experiment(archive, data_dir=None))
    with pytest.raises(UsageError, match="its own augmentation"):
        next(data.train_batches(4, seed=6, epoch=0))
