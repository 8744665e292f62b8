import numpy as np
import pytest

from bdd_tf.datasets.augment import AUGMENTATIONS, DRAWS, augment, draws
from bdd_tf.errors import UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
NUMBERS = draws(5, 0, 64)
VARIANTS = {
    "flip": lambda x: [x, x[:, ::-1]],
    "vflip": lambda x: [x, x[::-1]],
    "rot90": lambda x: [x, np.rot90(x), np.rot90(x, -1)],
    "crop": lambda x: [
        np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="reflect")[i : i + 16, j : j + 16]
        for i in range(5)
        for j in range(5)
    ],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_moves_are_exact_and_each_occurs(name):
    seen = set()
    for before, after in zip(IMAGES, augment(IMAGES, NUMBERS, (name,)), strict=True):
        matches = [i for i, v in enumerate(VARIANTS[name](before)) if np.array_equal(v, after)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) >= min(len(VARIANTS[name](IMAGES[0])), 20)


def test_jitter_at_its_middle_changes_nothing_and_at_its_ends_little():
    middle = np.full((64, DRAWS), 0.5, np.float32)
    assert np.abs(augment(IMAGES, middle, ("jitter",)).astype(int) - IMAGES).max() <= 1
    grey = np.full((1, 16, 16, 3), 100, np.uint8)
    for value, expected in ((0.0, 80), (0.9999999, 120)):
        changed = augment(grey, np.full((1, DRAWS), value, np.float32), ("jitter",))
        assert set(np.unique(changed)) == {expected}


def test_jitter_keeps_grey_grey():
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    changed = augment(grey, NUMBERS, ("jitter",)).astype(int)
    assert np.abs(changed - changed[..., :1]).max() <= 1


@pytest.mark.parametrize("names", [("flip",), AUGMENTATIONS])
def test_an_image_changes_the_same_way_in_any_batch(names):
    whole = augment(IMAGES, NUMBERS, names)
    parts = [augment(IMAGES[i : i + 16], NUMBERS[i : i + 16], names) for i in range(0, 64, 16)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.dtype == np.uint8
    assert not np.array_equal(whole, IMAGES)


def test_a_name_draws_the_same_with_and_without_others():
    flipped = augment(IMAGES, NUMBERS, ("flip",))
    both = augment(IMAGES, NUMBERS, ("flip", "vflip"))
    assert all(np.array_equal(b, f) or np.array_equal(b, f[::-1]) for b, f in zip(both, flipped, strict=True))


def test_draws_depend_on_seed_and_epoch_only():
    assert np.array_equal(draws(1, 2, 10), draws(1, 2, 20)[:10])
    assert not np.array_equal(draws(1, 2, 10), draws(1, 3, 10))
    assert not np.array_equal(draws(1, 2, 10), draws(2, 2, 10))


def test_no_names_is_the_identity_and_unknown_names_are_refused():
    assert augment(IMAGES, NUMBERS, ()) is IMAGES
    with pytest.raises(UsageError, match=r"'blur'.*flip, vflip, rot90, crop, jitter"):
        augment(IMAGES, NUMBERS, ("blur",))
