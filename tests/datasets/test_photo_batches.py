import numpy as np
import pytest

from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
from bdd_tf.datasets.photos import OWN_DECODERS
from bdd_tf.errors import BddError, UsageError
from tests.datasets import photo_archive

CHAIN = Degradation(96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(folder, per_source=12)
    return folder


def batches(folder, workers=2, **mixture):
    return PhotoBatches(folder, Mixture(images_per_epoch=60, seed=4, **mixture), CHAIN, workers)


def epoch(source, batch, epoch=0, skip=0):
    pairs = list(source.train_batches(batch, epoch, skip))
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def test_pixels_depend_on_seed_epoch_and_position_alone(folder):
    images, labels = epoch(batches(folder), 10)
    assert images.shape == (60, 96, 96, 3)
    assert labels.dtype == np.float32
    assert labels.shape == (60, 1)
    assert labels.mean() == 0.5
    for workers, batch in ((1, 20), (3, 6)):
        again, same = epoch(batches(folder, workers), batch)
        assert np.array_equal(images, again)
        assert np.array_equal(labels, same)
    assert not np.array_equal(images, epoch(batches(folder), 10, epoch=1)[0])


def test_what_is_skipped_changes_nothing_after_it(folder):
    source = batches(folder)
    images, labels = epoch(source, 10)
    rest, of_rest = epoch(source, 10, skip=4)
    assert np.array_equal(images[40:], rest)
    assert np.array_equal(labels[40:], of_rest)
    assert not list(source.train_batches(10, 0, skip=6))
    assert len(epoch(source, 16)[0]) == 48  # the remainder is dropped


def test_a_consumer_may_stop_early(folder):
    stream = batches(folder).train_batches(10, 0)
    next(stream)
    stream.close()


def test_nothing_held_out_is_drawn(folder):
    source = batches(folder, hold_out=("gan", "camera-b"))
    drawn = {source.fold.train[i].source for e in range(5) for i in source.order(e)}
    assert drawn == {"camera-a", "camera-c", "diffusion-1", "diffusion-2"}
    assert {photo.source for photo in source.photos("test")} == {"gan-1", "gan-2", "camera-b"}


def test_evaluation_follows_the_manifest_under_each_condition(folder):
    source = batches(folder)
    photos = source.photos("validation")
    pairs = list(source.eval_batches("validation", 4, "jpeg50"))
    images, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert images.shape == (len(photos), 96, 96, 3)
    assert labels[:, 0].tolist() == [photo.label for photo in photos]
    one = np.concatenate([x for x, _ in batches(folder, 1).eval_batches("validation", 7, "jpeg50")])
    assert np.array_equal(images, one)
    some = np.concatenate([x for x, _ in source.eval_batches("validation", 4, "jpeg50", [5, 2])])
    assert np.array_equal(some, images[[5, 2]])
    assert not list(source.eval_batches("test", 4))


def test_own_decoders_come_from_their_own_folder(folder, tmp_path):
    rows = photo_archive.write(tmp_path, per_source=12, seed=9)
    rows = [row | {"label": "FAKE", "source": "decoder-1", "family": OWN_DECODERS, "group": "g" + row["group"]}
            for row in rows if row["label"] == "REAL" and row["split"] == "train"]  # fmt: skip
    photo_archive.save(tmp_path, rows)
    source = batches(folder, decoders_dir=tmp_path, own_decoder_share=0.5)
    order = np.concatenate([source.order(e) for e in range(10)])
    share = np.mean(
        [source.fold.train[i].family == OWN_DECODERS for i in order if source.fold.train[i].label]
    )
    assert 0.3 < share < 0.7
    assert len(epoch(source, 10)[0]) == 60
    with pytest.raises(UsageError, match=r"is of family 'gan'|is of family ''"):
        batches(folder, decoders_dir=folder, own_decoder_share=0.5)
    with pytest.raises(UsageError, match="needs the folder"):
        Mixture(own_decoder_share=0.5)


def test_bad_requests_and_damaged_files(folder, tmp_path):
    source = batches(folder)
    for arguments in ((0, 0), (4, -1), (4, 0, -1)):
        with pytest.raises(UsageError):
            list(source.train_batches(*arguments))
    with pytest.raises(UsageError, match="unknown part"):
        source.photos("all")
    with pytest.raises(UsageError, match="unknown condition"):
        list(source.eval_batches("validation", 4, "worse"))
    for values in ({"images_per_epoch": 0}, {"seed": -1}):
        with pytest.raises(UsageError):
            Mixture(**values)
    rows = photo_archive.write(tmp_path, per_source=6)
    for row in rows:
        file = tmp_path / row["path"]
        file.write_bytes(file.read_bytes()[:620])  # a whole header, and nothing of the pixels
    with pytest.raises(BddError, match=r"cannot be decoded|cannot be read"):
        epoch(batches(tmp_path), 10)
