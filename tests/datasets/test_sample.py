import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage")

from bdd_tf.datasets import sample
from bdd_tf.datasets.sources import records_of


@pytest.fixture(scope="module")
def made(sample_cache):
    return sample.make(sample_cache)


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A small one of its own: made in a fraction of a second."""
    monkeypatch.setattr(sample, "IMAGES", {"train": 48, "validation": 8, "test": 12})
    return sample.make(tmp_path / "cache")


def pixels(root, split, word):
    return np.stack([np.asarray(Image.open(f)) for f in sorted((root / split / word).glob("*.png"))])


def test_size_and_balance(made):
    for split, number in sample.IMAGES.items():
        for word in ("REAL", "FAKE"):
            assert pixels(made, split, word).shape == (number // 2, 32, 32, 3)
    assert sample.IMAGES["train"] >= 2000


def test_photographs_do_not_straddle_splits_and_serve_both_classes(made):
    homes = {}
    for file in made.glob("*/*/*.png"):
        split, word = file.parts[-3:-1]
        homes.setdefault(file.name.rsplit("-", 1)[0].replace("_left", "").replace("_right", ""), set()).add(
            (split, word)
        )
    for places in homes.values():
        assert len({split for split, _ in places}) == 1
        assert {word for _, word in places} == {"REAL", "FAKE"}
    assert {next(iter(p))[0] for p in homes.values()} == {"train", "validation", "test"}


def test_it_is_the_same_every_time(few, tmp_path):
    other = sample.make(tmp_path / "other")
    files = sorted(p.relative_to(few) for p in few.glob("*/*/*.png"))
    assert len(files) == 68
    assert files == sorted(p.relative_to(other) for p in other.glob("*/*/*.png"))
    assert all((few / f).read_bytes() == (other / f).read_bytes() for f in files)


@pytest.mark.parametrize("damage", ["delete", "truncate", "no digest"])
def test_a_damaged_one_is_made_again(few, damage, capsys):
    victim = next(iter(sorted(few.glob("test/FAKE/*.png"))))
    content = victim.read_bytes()
    if damage == "delete":
        victim.unlink()
    elif damage == "truncate":
        victim.write_bytes(content[:100])
    else:
        (few / "images.sha256").unlink()
    assert sample.make(few.parent) == few
    assert victim.read_bytes() == content
    assert len(records_of("sample", None, few.parent)) == sum(sample.IMAGES.values())
    assert "left out" not in capsys.readouterr().err
    assert [p.name for p in few.parent.iterdir()] == [few.name]


def auc(labels, scores):
    rank = scores.argsort().argsort() + 1
    positives = labels.sum()
    return (rank[labels == 1].sum() - positives * (positives + 1) / 2) / positives / (len(labels) - positives)


def test_no_single_statistic_separates_the_classes_but_the_lattice_does(made):
    images = np.concatenate([pixels(made, "test", word) for word in ("REAL", "FAKE")]) / 255
    labels = np.repeat([0, 1], len(images) // 2)
    gradient = np.abs(np.diff(images, axis=1)).mean((1, 2, 3)) + np.abs(np.diff(images, axis=2)).mean(
        (1, 2, 3)
    )
    flat = images.reshape(len(images), -1)
    for values in (flat.mean(1), flat.std(1), flat.min(1), flat.max(1), gradient):
        assert 0.3 < auc(labels, values) < 0.7
    grey = images.mean(3) - images.mean((1, 2, 3))[:, None, None]
    spectrum = np.abs(np.fft.fft2(grey))
    corner = np.log(
        (spectrum[:, 12:20, 12:20].mean((1, 2)) + 1e-3) / (spectrum[:, 4:12, 4:12].mean((1, 2)) + 1e-3)
    )
    assert auc(labels, corner) > 0.85
