import json

import numpy as np
import pytest

from bdd_tf.datasets.conditions import CONDITIONS
from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
from bdd_tf.datasets.photos import WHOLE, WHOLE_COLUMNS, Photo, read_manifest
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.errors import BddError, UsageError
from bdd_tf.evaluation.photos.evaluate import evaluate_photos, short_form
from bdd_tf.evaluation.photos.protocol import (
    Settings,
    choose_threshold,
    chosen,
    half_of,
    lowest_threshold,
    patch_shuffled,
    reporting,
)
from bdd_tf.evaluation.photos.scorers import Scorer, logit, padded
from bdd_tf.evaluation.photos.table import table
from bdd_tf.figures.photo_protocol import protocol_matrix
from bdd_tf.metrics.score_files import write_json
from tests.datasets import photo_archive

SIZE = 64
HELD = ("gan", "camera-a", "camera-b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fakes are brighter than reals by a marker that JPEG keeps: a scorer can know the label."""
    folder = tmp_path_factory.mktemp("archive")
    rows = photo_archive.write(folder, per_source=48, side=96, shared_content=False)
    rng, whole = np.random.default_rng(3), []
    for row in rows:
        rng_image = photo_archive.picture(rng, 96) // 3 + (160 if row["label"] == "FAKE" else 0)
        (folder / row["path"]).write_bytes(photo_archive.jpeg(rng_image.astype(np.uint8), 90))
        if row["split"] == "validation" or row["source"].startswith("camera"):
            name = f"whole/{row['source']}-{row['group']}.jpg"
            (folder / name).parent.mkdir(exist_ok=True)
            side = 150 + len(whole) % 3 * 60
            image = photo_archive.picture(rng, side) // 3 + (160 if row["label"] == "FAKE" else 0)
            (folder / name).write_bytes(photo_archive.jpeg(image.astype(np.uint8), 90))
            whole.append({**{key: row[key] for key in WHOLE_COLUMNS if key in row}, "path": name})
    photo_archive.save(folder, whole, WHOLE_COLUMNS, WHOLE)
    return folder


def scorer(score, name="test"):
    return Scorer(score, SIZE, ViewRule(SIZE, 4), name)


def brightness(images):
    return images.mean(axis=(1, 2, 3)) - 125


def run(folder, score, hold_out=HELD, **changes):
    given = {"conditions": ("clean", "half"), "bootstrap": 20, "probe_crops": 128, "data_dir": str(folder)}
    settings = Settings(**{**given, **changes})
    batches = PhotoBatches(folder, Mixture(hold_out, images_per_epoch=128), Degradation(SIZE))
    return evaluate_photos(scorer(score), batches, settings)


@pytest.fixture(scope="module")
def perfect(folder):
    return run(folder, brightness)


def test_a_scorer_that_knows_the_label_is_perfect_everywhere(perfect):
    for condition in ("clean", "half"):
        for name in ("held_out", "seen"):
            found = perfect["crops"][condition][name]
            assert found["summary"]["matched"]["auc"] == found["summary"]["plain"]["auc"] == 1
            assert found["summary"]["matched"]["recall_at_fpr"] == {"0.01": 1, "0.05": 1}
            assert all(row["matched"]["auc"] == 1 for row in found["families"].values())
    assert perfect["patch_shuffled"]["held_out"]["summary"]["matched"]["auc"] == 1
    for name in ("held_out", "seen"):
        assert perfect["whole"]["conditions"]["half"][name]["summary"]["plain"]["auc"] == 1


def test_a_constant_scorer_is_at_one_half_and_calls_nothing_fake(folder):
    found = run(folder, lambda images: np.zeros(len(images)), conditions=("clean",), data_dir=None)
    held = found["crops"]["clean"]["held_out"]
    assert held["summary"]["matched"]["auc"] == held["summary"]["plain"]["auc"] == 0.5
    assert held["summary"]["plain"]["recall_at_fpr"]["0.05"] == 0
    assert held["false_alarms"] == 0
    assert held["summary"]["plain"]["balanced_accuracy"] == 0.5
    assert held["summary"]["plain"]["precision_at_1_percent"] is None
    assert found["whole"] is None


def test_a_random_scorer_is_near_one_half_within_its_interval(folder):
    rng = np.random.default_rng(8)
    found = run(
        folder,
        lambda images: rng.normal(size=len(images)),
        conditions=("clean",),
        bootstrap=60,
        data_dir=None,
    )
    row = found["crops"]["clean"]["held_out"]["summary"]["plain"]
    low, high = row["intervals"]["auc"]
    assert low < 0.5 < high
    assert 0.05 < high - low < 0.4
    assert found["crops"]["clean"]["held_out"]["false_alarms"] < 0.2


def test_images_that_chose_the_threshold_are_not_reported(folder, perfect):
    threshold = perfect["threshold"]
    photos = [p for p in read_manifest(folder) if p.source in HELD]
    assert threshold["images"] == sum(half_of(p) == 0 for p in photos)
    assert threshold["sources"] == ["camera-a", "camera-b"]
    reported = perfect["crops"]["clean"]["held_out"]["real"]
    assert sum(row["images"] for row in reported.values()) == sum(half_of(p) == 1 for p in photos)
    assert "held-out" in threshold["chosen_on"]


def test_the_document_is_json_and_has_a_short_form(perfect, tmp_path):
    assert json.loads(write_json(tmp_path / "m.json", perfect).read_text())["hold_out"] == list(HELD)
    short = short_form(perfect)
    assert set(short) == {"clean", "half", "summary"}
    assert short["clean"]["gan-1"]["held_out"]
    assert short["clean"]["gan-1"]["label"] == 1
    assert not short["clean"]["camera-c"]["held_out"]
    assert {"balanced_accuracy", "auc", "recall_at_fpr", "false_alarms"} <= set(short["summary"]["half"])
    assert all(
        row["called_fake"] == 0 for row in short["clean"].values() if not row["label"] and row["held_out"]
    )


def test_probes_stand_beside_the_result(perfect):
    rows = perfect["probes"]["comparisons"]["held_out"]["clean"]
    assert [name[0] for name in rows] == ["a", "a", "b", "c", "d"]
    assert perfect["probes"]["real_against_real"]
    # The classes differ in brightness, which the statistics see too.
    above = perfect["crops"]["clean"]["held_out"]["above_probe_c"]
    assert above["difference"] == pytest.approx(1 - rows["c: pixel statistics"]["matched"]["auc"], abs=1e-9)


def test_the_table_and_the_picture_name_every_family(perfect, tmp_path):
    text = table(perfect)
    for word in ("gan", "diffusion", "camera-b", "patch-shuffled", "whole images", "threshold: logit"):
        assert word in text
    assert protocol_matrix(tmp_path / "m.png", perfect, "test").stat().st_size > 10_000


def test_a_suspicious_result_is_noted(perfect):
    assert any("suspected of a leak" in note for note in perfect["notes"])


def test_only_cameras_held_out_and_nothing_held_out(folder):
    found = run(folder, brightness, HELD[1:], conditions=("clean",), data_dir=None)
    assert set(found["crops"]["clean"]) == {"seen", "seen_generators_unseen_cameras"}
    assert short_form(found)["summary"]["clean"]["comparison"] == "seen_generators_unseen_cameras"
    with pytest.raises(UsageError, match="fewer than 40 real crops"):
        run(folder, brightness, (), conditions=("clean",), data_dir=None)


def test_the_lowest_threshold_counts_sources_alike():
    logits = np.arange(100.0)
    threshold = lowest_threshold(logits, ["a"] * 100)
    assert (logits >= threshold).sum() == 5
    # Two images of a source of two weigh a quarter each: none of them may be called FAKE.
    threshold = lowest_threshold(np.append(logits, [50.0, 60.0]), ["a"] * 100 + ["b"] * 2)
    assert (logits >= threshold).sum() == 10
    assert (np.full(9, 3.0) >= lowest_threshold(np.full(9, 3.0), ["a"] * 9)).sum() == 0


def test_thresholds_for_other_rates_come_from_the_same_images(perfect):
    document = json.loads(json.dumps(perfect))["threshold"]
    assert list(document["logits"]) == ["0.001", "0.01", "0.05"]
    assert document["logits"]["0.05"] == document["logit"]
    assert document["logits"]["0.001"] is None  # of so few images


def test_halves_never_split_a_content():
    rows = [Photo(f"{i}", 0, "train", "s", "", f"c{i // 4}", "native", 1, 300, 300) for i in range(400)]
    threshold = choose_threshold({"test": rows, "validation": []}, {"test": np.arange(400.0)}, "crops")
    free = reporting(rows, threshold, "test")
    assert 120 < free.sum() < 280
    assert all(free[4 * i : 4 * i + 4].all() or not free[4 * i : 4 * i + 4].any() for i in range(100))
    assert reporting(rows, threshold, "validation").all()


def test_few_images_per_source_are_the_same_every_time(folder):
    photos = read_manifest(folder)
    index = chosen(photos, 7, 3)
    assert index == chosen(photos, 7, 3) == sorted(index)
    assert len(index) == 7 * 7
    assert chosen(photos, None, 0) == list(range(len(photos)))


@pytest.mark.parametrize("size", [64, 66])
def test_shuffled_patches_are_the_same_pixels_elsewhere(size):
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    mixed = patch_shuffled(images, 1)
    assert np.array_equal(np.sort(mixed, axis=None), np.sort(images, axis=None))
    assert not np.array_equal(mixed, images)
    assert np.array_equal(mixed[1:], patch_shuffled(images[1:], 1, 1))


def test_a_scorer_is_checked_and_fills_its_last_batch():
    seen = []
    score = padded(lambda images: seen.append(images.shape) or images[:, 0, 0, 0], 4)
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIZE, SIZE, 3), np.uint8)
    assert np.array_equal(scorer(score)(images), np.arange(6.0))
    assert seen == [(4, SIZE, SIZE, 3)] * 2
    assert scorer(score)(images[:0]).shape == (0,)
    with pytest.raises(BddError, match="not finite"):
        scorer(lambda images: np.full(len(images), np.nan))(images)
    assert np.isfinite(logit([0.0, 0.5, 1.0])).all()


def test_impossible_settings_are_refused(folder):
    with pytest.raises(UsageError, match="condition"):
        Settings(("clean", "sepia"))
    with pytest.raises(UsageError, match="add clean"):
        Settings(("half",))
    assert Settings().conditions == tuple(CONDITIONS)
    batches = PhotoBatches(folder, Mixture(HELD), Degradation(32))
    with pytest.raises(UsageError, match="crops of 64 px"):
        evaluate_photos(scorer(brightness), batches, Settings())
