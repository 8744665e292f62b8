"""The band of scores that a file does not decide, chosen on images that training never saw, and what it leaves decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.photos import Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.evaluation.photos.measures import Numbers, Resamples, interval, number
from bdd_tf.evaluation.photos.protocol import Settings, half_of, lowest_threshold

#: From the upper end upwards at most this share of REAL images may score.
REAL_RATE = 0.01
#: From the lower end downwards at most this share of FAKE images may score.
FAKE_RATE = 0.10
#: Fewest images that determine an end: two may lie beyond it.
_FEWEST_BEYOND = 2
_WORDS = {
    (REAL, "test"): "held-out real sources",
    (REAL, "validation"): "real sources that training saw (unseen contents)",
    (FAKE, "test"): "generators of held-out families",
    (FAKE, "validation"): "generators that training saw (unseen contents)",
}
_CLASSES = {REAL: "REAL", FAKE: "FAKE"}
Photos = dict[str, list[Photo]]
Logits = dict[str, Numbers]


@dataclass(frozen=True)
class Band:
    """A band of logits.

    Attributes:
        low: Logits at or below it are called REAL; NaN if there is no band.
        high: Logits at or above it are called FAKE.
        chosen_on: Class -> images that chose an end, in words and numbers; empty if the band was given.
        notes: What a reader should know; the reason if there is no band.
    """

    low: float
    high: float
    chosen_on: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.low < self.high

    def to_dict(self) -> dict:
        """Plain JSON values: ``low_logit``, ``high_logit``, ``low``, ``high`` (probabilities; None without a band)."""
        ends = {"low": self.low, "high": self.high}
        return {
            **{f"{name}_logit": value if self else None for name, value in ends.items()},
            **{name: float(1 / (1 + np.exp(-value))) if self else None for name, value in ends.items()},
            "real_rate": REAL_RATE,
            "fake_rate": FAKE_RATE,
            "chosen_on": list(self.chosen_on),
            "notes": list(self.notes),
        }


def choose_band(photos: Photos, logits: Logits, given: tuple[float, float] | None = None) -> Band:
    """Choose a band on half of the images that training never saw; sources count alike.

    The upper end is the lowest logit from which at most 1 % of the real images score upwards, the lower end the highest
    logit from which at most 10 % of the fakes score downwards. Of each class the held-out sources choose, or unseen contents
    of seen sources where too few are held out.

    Args:
        photos: ``test`` and ``validation`` -> images.
        logits: Their clean logits.
        given: Use this band, e.g. that of a file.

    Returns:
        The band; a false one, with the reason in its notes, if there are too few images or the ends would cross.
    """
    if given is not None:
        return Band(*given, notes=("the band of the file",))
    ends: dict[int, float] = {}
    said: list[str] = []
    notes: list[str] = []
    for label, rate, sign in ((REAL, REAL_RATE, 1.0), (FAKE, FAKE_RATE, -1.0)):
        part, index = _choosing(photos, label, rate)
        if part is None:
            notes.append(
                f"no band was chosen: fewer than {round(_FEWEST_BEYOND / rate)} {_CLASSES[label]} images can choose its end."
            )
            return Band(np.nan, np.nan, tuple(said), tuple(notes))
        sources = [photos[part][i].source for i in index]
        ends[label] = sign * lowest_threshold(sign * logits[part][index], sources, rate)
        said.append(f"{len(index)} {_CLASSES[label]} images of {len(set(sources))} {_WORDS[label, part]}")
        if part == "validation":
            notes.append(
                f"the band's {_CLASSES[label]} images are of {_WORDS[label, part]}: too few are held out."
            )
    low, high = ends[FAKE], ends[REAL]
    if low >= high:
        notes.append(
            f"no band is needed: {100 * FAKE_RATE:g} % of FAKE score up to {low:.3f}, which is not below {high:.3f}, from "
            f"which {100 * REAL_RATE:g} % of REAL score."
        )
        return Band(np.nan, np.nan, tuple(said), tuple(notes))
    return Band(low, high, tuple(said), tuple(notes))


def _choosing(photos: Photos, label: int, rate: float) -> tuple[str | None, list[int]]:
    """The part of a class that chooses an end, and the indices of its half 0; None if both have too few images."""
    for part in ("test", "validation"):
        index = [i for i, photo in enumerate(photos[part]) if photo.label == label and half_of(photo) == 0]
        if len(index) * rate >= _FEWEST_BEYOND:
            return part, index
    return None, []


def band_measures(photos: Photos, logits: Logits, band: Band, settings: Settings) -> dict[str, dict]:
    """What a band decides about images that did not choose it; classes count alike, and so do the sources of a class.

    Args:
        photos: ``test`` and ``validation`` -> images.
        logits: Their clean logits.
        band: A true one.
        settings: Resamples and seed.

    Returns:
        ``held_out`` and ``seen`` real sources, each against the same fakes (held-out families, or those that training saw where
        none is held out): ``real_images``, ``fake_images``; ``coverage`` (the share decided), ``right`` (of the decided
        ones), ``real_called_fake``, ``real_called_real``, ``fake_called_fake``, ``fake_called_real``, and 95 % ``intervals`` of
        them, resampled over contents. Without a class, the comparison is missing.
    """
    fakes = next(
        (part for part in ("test", "validation") if any(p.label == FAKE for p in photos[part])), "validation"
    )
    found = {}
    for name, part in (("held_out", "test"), ("seen", "validation")):
        sides = [(part, REAL), (fakes, FAKE)]
        rows = [(p, i, photo) for p, label in sides for i, photo in enumerate(photos[p])
                if photo.label == label and half_of(photo) == 1]  # fmt: skip
        labels = np.array([photo.label for _, _, photo in rows], int)
        if set(labels) != {REAL, FAKE}:
            continue
        values = np.array([logits[p][i] for p, i, _ in rows])
        found[name] = _measured([photo for _, _, photo in rows], labels, values, band, settings)
    return found


_SHARES = (
    "real_called_fake",
    "real_called_real",
    "fake_called_fake",
    "fake_called_real",
    "coverage",
    "right",
)


def _measured(
    photos: Sequence[Photo], labels: NDArray, logits: Numbers, band: Band, settings: Settings
) -> dict:
    weights = _alike(photos, labels)
    resamples = Resamples(labels, [photo.content for photo in photos], settings.bootstrap, settings.seed)
    drawn = weights * resamples.of(np.arange(len(photos)))
    values = _shares(np.vstack([weights, drawn]), labels, logits >= band.high, logits <= band.low)
    return {
        "real_images": int((labels == REAL).sum()),
        "fake_images": int((labels == FAKE).sum()),
        **{name: number(value) for name, value in zip(_SHARES, values[0], strict=True)},
        "intervals": {name: interval(values[1:, i]) for i, name in enumerate(_SHARES)},
    }


def _alike(photos: Sequence[Photo], labels: NDArray) -> Numbers:
    """Weights [N] under which the sources of a class count alike."""
    weights = np.zeros(len(photos))
    for label in (REAL, FAKE):
        mine = np.flatnonzero(labels == label)
        _, codes, counts = np.unique(
            [photos[i].source for i in mine], return_inverse=True, return_counts=True
        )
        weights[mine] = 1 / counts[codes]
    return weights


def _shares(weights: Numbers, labels: NDArray, fake: NDArray, real: NDArray) -> Numbers:
    """The values of :data:`_SHARES` under several sets of weights [B, N]: float64 [B, 6]."""

    def share(label: int, called: NDArray) -> Numbers:
        mine = weights * (labels == label)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (mine * called).sum(axis=1) / mine.sum(axis=1)

    wrong_real, right_real = share(REAL, fake), share(REAL, real)
    right_fake, wrong_fake = share(FAKE, fake), share(FAKE, real)
    decided = wrong_real + right_real + right_fake + wrong_fake
    with np.errstate(invalid="ignore", divide="ignore"):
        right = (right_real + right_fake) / decided
    return np.stack([wrong_real, right_real, right_fake, wrong_fake, decided / 2, right], axis=1)
