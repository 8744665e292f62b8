from collections import Counter

import numpy as np
import pytest

from bdd_tf.datasets.balance import (
    LARGE,
    LARGE_SHARE,
    MAX_FAKES_PER_REAL,
    MAX_REPEAT,
    _margins,
    balance,
    draw_order,
    evaluation_cell,
    matched,
    matched_weights,
    source_weights,
)
from bdd_tf.datasets.photos import OWN_DECODERS, Photo
from bdd_tf.errors import UsageError


def leaky(count=3000, seed=0):
    """REAL: mostly small JPEGs of low quality; FAKE: mostly large, a fifth PNG, of high quality."""
    rng, photos = np.random.default_rng(seed), []
    for i in range(count):
        label = i % 2
        short = round(float(np.exp(rng.normal(np.log((350, 600)[label]), 0.45))))
        quality = int(np.clip(rng.normal((80, 90)[label], 8), 50, 98))
        source = f"{'real' if not label else 'fake'}-{rng.integers(4) ** 2}"
        kind = "native" if rng.random() < 0.6 else "scaled"
        png = rng.random() < (0.05, 0.2)[label]
        photos.append(Photo(f"{i}", label, "train", source, "f" * label, f"{i}", kind, 1.0, max(short, 128), 4000,
                            "PNG" if png else "JPEG", quality, "", f"{i}"))  # fmt: skip
    return photos


def distance(photos, weights, key):
    shares = [Counter(), Counter()]
    for photo, weight in zip(photos, weights, strict=True):
        shares[photo.label][key(photo)] += weight
    return sum(abs(shares[0][k] - shares[1][k]) for k in shares[0] | shares[1]) / 2


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_size_format_and_quality_say_nothing_about_the_class(margin):
    photos = leaky()
    plain = balance(photos, match=False).weights
    even = balance(photos).weights
    assert distance(photos, plain, lambda p: _margins(p)[margin]) > 0.08
    assert distance(photos, even, lambda p: _margins(p)[margin]) < 0.02


def test_weights_are_a_distribution_per_class_with_few_repeats():
    photos = leaky()
    found = balance(photos)
    labels = np.array([photo.label for photo in photos])
    for label in (0, 1):
        own = found.weights[labels == label]
        assert own.sum() == pytest.approx(1)
        assert own.min() >= 0
        assert own.max() * np.count_nonzero(own) < 2 * MAX_REPEAT
        assert 100 < found.effective[label] <= len(own)


def test_large_reals_are_few():
    photos = leaky()
    photos += [Photo(f"l{i}", 0, "train", "huge", "", f"l{i}", "native", 1, 3000, 3000) for i in range(400)]
    weights = balance(photos).weights
    share = sum(w for p, w in zip(photos, weights, strict=True) if not p.label and p.short_side >= LARGE)
    assert 0 < share < 1.5 * LARGE_SHARE


def test_small_sources_count_for_more_than_their_size():
    photos = [
        Photo(f"{i}", 0, "train", "big" if i >= 10 else "small", "", f"{i}", "native", 1, 300, 300)
        for i in range(1010)
    ]
    weights = source_weights(photos)
    assert 0.05 < weights[:10].sum() < 0.2


def test_own_decoders_get_their_share():
    photos = leaky()
    photos += [
        Photo(f"o{i}", 1, "train", "decoder-1", OWN_DECODERS, p.content, p.kind, p.scale, p.width, p.height, p.format, p.quality)
        for i, p in enumerate(photos)
        if not p.label
    ]  # fmt: skip
    own = np.array([photo.family == OWN_DECODERS for photo in photos])
    assert balance(photos, 0.0).weights[own].sum() == 0
    assert balance(photos, 0.4).weights[own].sum() == pytest.approx(0.4, abs=0.04)
    with pytest.raises(UsageError, match="share of own decoders"):
        balance(photos, 1.0)


def test_classes_without_anything_in_common_are_refused():
    def photo(i, label, side):
        return Photo(f"{i}", label, "train", "s", "f" * label, f"{i}", "native", 1, side, side)

    apart = [photo(i, i % 2, (200, 600)[i % 2]) for i in range(100)]
    with pytest.raises(UsageError, match="that the other class has too"):
        balance(apart)
    with pytest.raises(UsageError, match="no FAKE images"):
        balance(apart[::2])


def test_the_order_follows_the_weights_and_repeats():
    photos = leaky(400)
    weights = balance(photos).weights
    labels = np.array([photo.label for photo in photos])
    order = draw_order(weights, labels, 1000, 3, 0)
    assert (labels[order[::2]] == 0).all()
    assert (labels[order[1::2]] == 1).all()
    counts = np.bincount(order, minlength=len(photos))
    assert (np.abs(counts - 500 * weights) < 1).all()
    assert np.array_equal(order, draw_order(weights, labels, 1000, 3, 0))
    assert not np.array_equal(order, draw_order(weights, labels, 1000, 3, 1))
    assert not np.array_equal(order, draw_order(weights, labels, 1000, 4, 0))


def test_matched_parts_hold_equally_many_of_each_cell():
    photos = leaky(1200)
    chosen = [photos[i] for i in matched(photos)]
    assert len(chosen) > 100
    cells = [Counter(evaluation_cell(p) for p in chosen if p.label == label) for label in (0, 1)]
    assert cells[0] == cells[1]


def test_matched_weights_give_both_classes_one_joint_distribution():
    photos = leaky(1200)
    weights = matched_weights(photos)
    labels = np.array([photo.label for photo in photos])
    for label in (0, 1):
        assert weights[labels == label].sum() == pytest.approx(1)
    assert distance(photos, weights, evaluation_cell) < 1e-9
    # Weights keep more images than a part of equal numbers.
    assert (weights > 0).sum() > len(matched(photos))
    assert weights[labels == 0].max() <= MAX_FAKES_PER_REAL / (labels == 1).sum() * 3


def test_sources_count_alike_within_a_cell():
    photos = [
        Photo(f"{i}", int(i >= 50), "train", "big" if i % 50 >= 10 else "small", "f" * (i >= 50), f"{i}", "native", 1, 300, 300)
        for i in range(100)
    ]  # fmt: skip
    weights = matched_weights(photos)
    assert weights[:10].sum() == pytest.approx(0.5)
    assert weights[50:60].sum() == pytest.approx(0.5)


def test_nothing_in_common_matches_nothing():
    photos = [
        Photo(f"{i}", i % 2, "train", "s", "f" * (i % 2), f"{i}", "native", 1, (200, 600)[i % 2], 900)
        for i in range(40)
    ]
    assert not matched_weights(photos).any()
    assert matched(photos) == []
