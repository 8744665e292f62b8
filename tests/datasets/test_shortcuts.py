"""Properties of files that tell the classes apart are found before a training."""

import re

import numpy as np
import pytest
from PIL import Image

from bdd_tf.datasets.index import assign_splits, index
from bdd_tf.datasets.shortcuts import categories, threshold, warnings_of
from bdd_tf.datasets.sources import records_of
from bdd_tf.metrics.bootstrap import metrics_document
from bdd_tf.runs import Run, evaluation_notes, unchosen_notes


def warnings(root, cache):
    return warnings_of(assign_splits(index(records_of("folder", str(root), cache), cache)))


def write(root, real, fake, count=30, sizes=(16, 16)):
    random = np.random.default_rng(0)
    for split, number in (("train", count), ("validation", 12)):
        for word, (suffix, options), size in (("REAL", real, sizes[0]), ("FAKE", fake, sizes[1])):
            folder = root / split / word
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(number):
                pixels = random.integers(0, 256, (size, size + i % 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{suffix}", **options)


@pytest.mark.parametrize(
    ("real", "fake", "sizes", "words"),
    [
        (
            ("jpg", {}),
            ("png", {}),
            (16, 16),
            "the file format alone tells .* for 100% .*REAL: 100% JPEG, FAKE: 100% PNG",
        ),
        (
            ("png", {}),
            ("png", {}),
            (16, 32),
            "the width alone tells REAL from FAKE for 100% .*median 17, FAKE: median 33",
        ),
        (
            ("jpg", {"quality": 60}),
            ("jpg", {"quality": 95}),
            (16, 16),
            "the JPEG compression alone tells .*100%",
        ),
        (("png", {}), ("png", {}), (16, 16), None),
        (("jpg", {}), ("jpg", {}), (16, 16), None),
    ],
)
def test_one_property_that_tells_the_classes_apart(tmp_path, real, fake, sizes, words):
    write(tmp_path / "d", real, fake, sizes=sizes)
    found = warnings(tmp_path / "d", tmp_path / "cache")
    assert len(found) == (words is not None)
    if words:
        assert re.search(words, found[0])


def test_small_classes(tmp_path):
    write(tmp_path / "d", ("png", {}), ("png", {}))
    for i in range(1, 12):
        (tmp_path / f"d/validation/FAKE/{i}.png").unlink()
    assert warnings(tmp_path / "d", tmp_path / "cache") == [
        "the validation split has 1 FAKE image; checkpoints and thresholds are chosen on it, and so few choose by chance."
    ]


def test_best_thresholds_equal_a_search():
    random = np.random.default_rng(0)
    for _ in range(20):
        labels = np.append(random.integers(0, 2, 30), [0, 1])
        values = random.integers(0, 8, 32)
        best = max(
            abs(np.mean(values[labels == 1] >= t) - np.mean(values[labels == 0] >= t)) for t in range(9)
        )
        assert threshold(values, labels) == pytest.approx(0.5 + best / 2)
        assert categories(list(values), labels) >= threshold(values, labels) - 1e-9
    assert categories(["a", "b"], np.array([0, 1])) == threshold([1, 2], np.array([0, 1])) == 1
    assert categories(["a", "a"], np.array([0, 1])) == threshold([1, 1], np.array([0, 1])) == 0.5


@pytest.mark.parametrize(("score", "word"), [(0.9, "FAKE"), (0.1, "REAL")])
def test_a_network_that_calls_everything_one_class(tmp_path, score, word):
    labels = np.array([0, 1] * 5)
    document = metrics_document(labels, np.full(10, score), 0.5, bootstrap=0)
    assert any(f"calls all 10 images {word}: it tells nothing apart" in note for note in document["notes"])
    assert "notes" not in metrics_document(labels, labels * 0.8 + 0.1, 0.5, bootstrap=0)
    run = Run(tmp_path)
    assert evaluation_notes(run) == []
    assert "no threshold was chosen" in unchosen_notes(run)[0]
    run.metrics("validation").write_text('{"notes": ["a"]}')
    assert evaluation_notes(run) == ["a"]
    assert unchosen_notes(run) == []


def test_a_perfect_ranking_beside_a_wrong_threshold_is_not_called_useless():
    labels = np.array([0, 1] * 5)
    notes = metrics_document(labels, labels * 0.1 + 0.7, 0.5, bootstrap=0)["notes"]
    assert any("calls all 10 images FAKE, though it ranks them (AUC 1.0000)" in note for note in notes)
