"""Shares of the batches: together they are those of one process."""

import numpy as np
import pytest

from bdd_tf.datasets import pipeline
from bdd_tf.datasets.share import WHOLE, Share, rejoined
from bdd_tf.edge.images.resize import ResizeRule


@pytest.fixture(scope="module")
def data(tree, tmp_path_factory):
    return pipeline.load_dataset(
        "folder",
        rule=ResizeRule.native(16),
        data_dir=str(tree),
        cache_dir=tmp_path_factory.mktemp("cache"),
        validation_fraction=0.2,
    )


def arrays(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def assert_interleaved(whole, parts):
    """The parts, taken in turns, are the whole."""
    rounds = [batch for batches in zip(*parts, strict=True) for batch in batches]
    assert len(rounds) == len(whole)
    for (x, y), (images, labels) in zip(rounds, whole, strict=True):
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("skip", [0, 3])
def test_workers_together_see_the_batches_of_one_process(data, streamed, skip, monkeypatch):
    if streamed:
        monkeypatch.setattr(pipeline, "MEMORY_BYTES", 1)
    options = {"seed": 3, "epoch": 1, "skip": skip, "augment": ("flip", "crop")}
    whole = arrays(data.train_batches(10, **options))
    parts = [arrays(data.train_batches(10, **options, share=Share(k, 3))) for k in range(3)]
    assert len(whole) == 15 - skip  # of 157 images
    assert_interleaved(whole, parts)


def test_all_workers_get_equally_many_batches(data):
    lengths = [len(arrays(data.train_batches(10, seed=3, epoch=0, share=Share(k, 4)))) for k in range(4)]
    assert lengths == [3, 3, 3, 3]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_scores_of_all_workers_are_put_in_the_order_of_one_process(data, loaded, count):
    fresh = pipeline.DataSet(data.name, data.entries, [], data.rule, data.folder.parents[3])
    if loaded:
        fresh.arrays("validation")
    labels = [
        np.concatenate([np.zeros(0), *(y[:, 0] for _, y in arrays(fresh.eval_batches("validation", 8, Share(k, count))))])
        for k in range(count)
    ]  # fmt: skip
    expected = np.concatenate([y[:, 0] for _, y in arrays(data.eval_batches("validation", 8))])
    np.testing.assert_array_equal(rejoined(labels, 8), expected)


def test_shares_of_numbers_that_start_again():
    numbers = [[(part, k) for k in range(length)] for part, length in enumerate((4, 3, 5))]
    taken = []
    for index in range(3):
        share, mine = Share(index, 3), []
        for part in numbers:
            mine += share.of(part)
            share = share.after(len(part))
        taken.append(mine)
    flat = [number for part in numbers for number in part]
    assert taken == [flat[k::3] for k in range(3)]


def test_impossible_shares():
    assert Share() == WHOLE
    for index, count in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"share {index} of {count}"):
            Share(index, count)
