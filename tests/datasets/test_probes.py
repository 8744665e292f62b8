import numpy as np
import pytest

from bdd_tf.datasets import probe_features, probes
from bdd_tf.datasets.codecs import jpeg
from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
from tests.datasets import photo_archive

JPEG, SIZE = probes.PROBES[0], probes.PROBES[1]


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """Fakes of large images, coded more coarsely than reals: the same pictures otherwise."""
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(
        folder, per_source=120, fake_quality=(40, 60), fake_sides=(350, 900), shared_content=False
    )
    return folder


@pytest.fixture(scope="module")
def crops(leaking):
    batches = PhotoBatches(leaking, Mixture(images_per_epoch=1200), Degradation(96))
    return probes.raw_crops(batches, 700), probes.training_crops(batches, 1200)


def test_planted_leaks_are_found_before_the_degradation(crops):
    raw, _ = crops
    assert probes.cross_validated(JPEG, raw).balanced_accuracy > 75
    assert probes.cross_validated(SIZE, raw).balanced_accuracy > 60


def test_what_training_gets_is_at_chance(leaking):
    # Coding that differs throughout cannot be balanced by drawing: it has to be coded over.
    chain = Degradation(96, rescale=1, hard=0, codec=1, quality=(30, 40), webp=0)
    batches = PhotoBatches(leaking, Mixture(images_per_epoch=1200), chain)
    training = probes.training_crops(batches, 1200)
    for probe in (JPEG, SIZE):
        found = probes.cross_validated(probe, training)
        assert found.accuracy_interval[0] < 53, probe.name
        assert found.balanced_accuracy < 57, probe.name


def test_training_crops_are_those_of_training(leaking):
    batches = PhotoBatches(leaking, Mixture(images_per_epoch=1200), Degradation(96))
    images = np.concatenate([x for x, _ in batches.train_batches(100, 0)])
    taken = probes.training_crops(batches, 500)
    assert np.array_equal(taken.images, images[: len(taken.images)])
    assert len(taken.photos) == len(taken.images) == len(taken.short_sides)


def test_a_regression_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    linear, quadratic = (
        probes.Logistic.fit(x[:1000], labels[:1000], q).scores(x[1000:]) for q in (False, True)
    )
    assert probes.balanced_accuracy(linear, labels[1000:]) < 60
    assert probes.balanced_accuracy(quadratic, labels[1000:]) > 90
    noise = probes.result("n", rng.normal(size=2000), labels, [str(i) for i in range(2000)])
    assert noise.balanced_accuracy == pytest.approx(50, abs=4)
    assert noise.auc == pytest.approx(0.5, abs=0.04)
    assert noise.accuracy_interval[0] < noise.balanced_accuracy < noise.accuracy_interval[1]


def test_intervals_grow_when_images_share_contents():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(40) % 2, 25)
    scores = np.repeat(rng.normal(size=40), 25) + labels
    alone = probes.result("x", scores, labels, [str(i) for i in range(1000)]).auc_interval
    shared = probes.result("x", scores, labels, [str(i // 25) for i in range(1000)]).auc_interval
    assert shared[1] - shared[0] > 2 * (alone[1] - alone[0])


def test_auc_counts_ties_half():
    assert probes.auc(np.array([0.0, 0, 1, 1]), np.array([0, 1, 0, 1])) == 0.5
    assert probes.auc(np.array([0.0, 1, 2, 3]), np.array([0, 0, 1, 1])) == 1
    assert np.isnan(probes.auc(np.array([1.0, 2]), np.array([1, 1])))


def test_the_jpeg_probe_sees_step_and_grid():
    image = photo_archive.picture(np.random.default_rng(2), 152)
    # The standard's luma table, which quality 50 uses as it is (ITU-T T.81, table K.1).
    steps = np.array([11, 12, 12, 10, 14, 14, 13, 16, 16, 14])
    found = probe_features.jpeg_traces(jpeg(image, 50)[None, 3:131, 5:133])[0]
    assert (np.abs(2 ** found[: len(steps)] - steps) < 1.5).sum() >= 7
    assert found[len(steps)] > 1.02
    subsampled, full = (
        probe_features.jpeg_traces(jpeg(image, 90, s)[None])[0, -1] for s in ("4:2:0", "4:4:4")
    )
    assert subsampled < full - 0.5


def test_features_are_finite_whatever_the_image():
    images = np.stack([np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 255, np.uint8),
                       photo_archive.picture(np.random.default_rng(3), 96)])  # fmt: skip
    for features in (probe_features.jpeg_traces, probe_features.pixel_statistics, probe_features.thumbnails):
        assert np.isfinite(features(images)).all()
    assert probe_features.pixel_statistics(images).shape == (3, len(probe_features.STATISTICS))


def test_a_report_lists_every_part_and_can_be_printed(leaking):
    batches = PhotoBatches(
        leaking, Mixture(hold_out=("gan", "camera-a"), images_per_epoch=256), Degradation(96)
    )
    found = probes.report(batches, 256)
    for part in ("raw", "training", "validation", "test"):
        assert [row["probe"] for row in found[part]] == [probe.name for probe in probes.PROBES]
    text = probes.table(found)
    assert "held out: gan, camera-a" in text
    assert text.count("\n") >= 16
