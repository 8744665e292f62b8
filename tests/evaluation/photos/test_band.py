"""The band that a file does not decide: rates on images that chose it, and what is reported on the others."""

import numpy as np
import pytest

from bdd_tf.datasets.photos import Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.evaluation.photos.band import FAKE_RATE, REAL_RATE, Band, band_measures, choose_band
from bdd_tf.evaluation.photos.protocol import Settings, half_of

SETTINGS = Settings(bootstrap=50)


def photos_of(label, sources, each, split="test"):
    """Images of several sources; each has a content of its own."""
    rows = []
    for source in range(sources):
        for i in range(each):
            name = f"{'fake' if label == FAKE else 'real'}-{split}-{source}"
            rows.append(_photo(name, i, label, split))
    return rows


def _photo(source, i, label, split):
    family = "family" if label == FAKE else ""
    return Photo(f"{source}/{i}.jpg", label, split, source, family, f"{source}/{i}", "native", 1.0, 300, 200)


@pytest.fixture(scope="module")
def made():
    """Held-out reals of three sources, seen reals, and seen fakes whose logits overlap with theirs."""
    rng = np.random.default_rng(11)
    photos = {
        "test": photos_of(REAL, 3, 400),
        "validation": [*photos_of(REAL, 2, 200, "validation"), *photos_of(FAKE, 4, 150, "validation")],
    }
    logits = {
        part: np.array([rng.normal(1.5 if photo.label == FAKE else -1.0, 1.2) for photo in rows])
        for part, rows in photos.items()
    }
    return photos, logits


def shares(photos, values, label, half, beyond):
    """The share beyond an end, every source alike."""
    by_source = {}
    for photo, value in zip(photos, values, strict=True):
        if photo.label == label and half_of(photo) == half:
            by_source.setdefault(photo.source, []).append(beyond(value))
    return float(np.mean([np.mean(rows) for rows in by_source.values()]))


def test_contents_differ(made):
    photos, _ = made
    assert len({half_of(photo) for photo in photos["test"]}) == 2


def test_the_ends_keep_their_rates_and_could_not_be_closer(made):
    photos, logits = made
    band = choose_band(photos, logits)
    assert band
    real = shares(photos["test"], logits["test"], REAL, 0, lambda value: value >= band.high)
    assert real <= REAL_RATE + 1e-9
    assert shares(photos["test"], logits["test"], REAL, 0, lambda value: value >= band.high - 0.3) > REAL_RATE
    rows, values = photos["validation"], logits["validation"]
    assert shares(rows, values, FAKE, 0, lambda value: value <= band.low) <= FAKE_RATE + 1e-9
    assert shares(rows, values, FAKE, 0, lambda value: value <= band.low + 0.3) > FAKE_RATE
    assert any("generators that training saw" in note for note in band.notes)
    assert "held-out real sources" in band.chosen_on[0]


def test_images_that_are_reported_did_not_choose(made):
    photos, logits = made
    band = choose_band(photos, logits)
    other = {
        part: np.where([half_of(photo) == 1 for photo in photos[part]], 50.0, values)
        for part, values in logits.items()
    }
    assert choose_band(photos, other) == band
    mine = {
        part: np.where([half_of(photo) == 0 for photo in photos[part]], 50.0, values)
        for part, values in logits.items()
    }
    assert band_measures(photos, mine, band, SETTINGS) == band_measures(photos, logits, band, SETTINGS)


def test_what_is_reported_adds_up(made):
    photos, logits = made
    band = choose_band(photos, logits)
    found = band_measures(photos, logits, band, SETTINGS)
    assert set(found) == {"held_out", "seen"}
    row = found["held_out"]
    decided = [
        row[key] for key in ("real_called_fake", "real_called_real", "fake_called_fake", "fake_called_real")
    ]
    assert row["coverage"] == pytest.approx(sum(decided) / 2)
    assert row["right"] == pytest.approx((decided[1] + decided[2]) / sum(decided))
    assert row["real_called_fake"] == pytest.approx(
        shares(photos["test"], logits["test"], REAL, 1, lambda value: value >= band.high)
    )
    for key, (low, high) in row["intervals"].items():
        assert low <= row[key] <= high


def test_a_detector_that_separates_the_classes_needs_no_band(made):
    photos, _ = made
    logits = {
        part: np.array([3.0 if photo.label == FAKE else -3.0 for photo in rows]) + 1e-3 * np.arange(len(rows))
        for part, rows in photos.items()
    }
    band = choose_band(photos, logits)
    assert not band
    assert "no band is needed" in band.notes[-1]
    assert band.to_dict()["low"] is None
    assert band.to_dict()["high_logit"] is None


def test_too_few_images_choose_no_band():
    photos = {"test": photos_of(REAL, 1, 50), "validation": photos_of(FAKE, 1, 200, "validation")}
    logits = {part: np.linspace(-1, 1, len(rows)) for part, rows in photos.items()}
    band = choose_band(photos, logits)
    assert not band
    assert "fewer than 200 REAL" in band.notes[-1]


def test_a_given_band_is_reported_as_it_is(made):
    photos, logits = made
    assert choose_band(photos, logits, (-1.0, 2.0)) == Band(-1.0, 2.0, notes=("the band of the file",))
