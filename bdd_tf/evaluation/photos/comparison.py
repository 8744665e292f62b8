"""Generators against real sources: weights under which every source counts alike, and all measures under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.balance import matched_weights, source_weights
from bdd_tf.datasets.photos import Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.evaluation.photos.measures import (
    MEASURES,
    Numbers,
    Ranking,
    Resamples,
    described,
    interval,
    measures,
    number,
)

_AUC, _ALARMS = MEASURES.index("auc"), MEASURES.index("false_alarms")
#: The two weightings: ``matched`` also gives both classes one distribution of size, format and coding quality.
WEIGHTINGS = ("matched", "plain")


@dataclass(frozen=True)
class _Part:
    """Some images of a comparison with their weights."""

    index: NDArray[np.int64]
    weights: Numbers


class Comparison:
    """Images of both classes and what does not depend on their scores: weights and resamples.

    A family is compared with all real sources. *Plain* weights: sources of a class count alike. *Matched* weights:
    beyond that, real images and the family have one distribution of size, format and coding quality, as far as there
    are images of both.

    Args:
        photos: Images [N] of both classes.
        report: bool [N], False for images on which the threshold was chosen; None: no image chose it.
        bootstrap: Resamples for the intervals.
        seed: Of the resamples.

    Attributes:
        photos: As given.
        labels: int64 [N].
        families: Names of the families of the fakes, sorted; a fake without one is its source's.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        report: NDArray[np.bool_] | None = None,
        bootstrap: int = 200,
        seed: int = 0,
    ):
        self.photos = list(photos)
        self.labels = np.array([photo.label for photo in self.photos])
        self.report = np.ones(len(self.photos)) if report is None else report.astype(np.float64)
        self._family = np.array([p.family or p.source if p.label == FAKE else "" for p in self.photos])
        self._source = np.array([photo.source for photo in self.photos])
        self.families = tuple(sorted({str(name) for name in self._family if name}))
        self.resamples = Resamples(self.labels, [photo.content for photo in self.photos], bootstrap, seed)
        self._plain = {name: self._part(name, match=False) for name in self.families}
        self._matched = {name: self._part(name, match=True) for name in self.families}

    def _part(self, family: str, match: bool) -> _Part | None:
        """A family and the reals with their weights, sum 1 per class; None where nothing can be matched."""
        index = np.flatnonzero((self.labels == REAL) | (self._family == family))
        chosen = [self.photos[i] for i in index]
        labels = self.labels[index]
        if len(set(labels.tolist())) < 2:
            return None
        if match:
            weights = matched_weights(chosen)
        else:
            weights = np.empty(len(index))
            for label in (REAL, FAKE):
                mine = labels == label
                weights[mine] = source_weights([p for p in chosen if p.label == label], 0.0, 0.0)
        if not weights.any():
            return None
        used = weights > 0
        return _Part(index[used], weights[used])

    @property
    def weights(self) -> Numbers:
        """Matched weights of all families together, float64 [N], sum 1 per class: what one probe is judged with."""
        total = np.zeros(len(self.photos))
        for part in self._matched.values():
            if part is not None:
                np.add.at(total, part.index, part.weights)
        return total / max(sum(part is not None for part in self._matched.values()), 1)

    def remaining(self) -> dict:
        """How many images take part, per source.

        Returns:
            Source -> ``label``, ``family``, ``images``, ``contents``, ``matched`` (images with a matched weight).
        """
        used = self.weights > 0
        found = {}
        for source in sorted(set(self._source)):
            mine = np.flatnonzero(self._source == source)
            first = self.photos[mine[0]]
            found[str(source)] = {
                "label": int(first.label),
                "family": first.family,
                "images": len(mine),
                "contents": len({self.photos[i].content for i in mine}),
                "matched": int(used[mine].sum()),
            }
        return found

    def measured(self, logits: Numbers, threshold: float) -> dict:
        """All measures of a detector.

        Args:
            logits: float64 [N].
            threshold: Logits at or above it are called FAKE.

        Returns:
            ``summary``: per weighting the means over families, each with 95 % intervals, and ``worst_family``;
            ``families``: per family and weighting likewise, and its images; ``real``: per real source ``images``,
            ``called_fake``, ``false_alarms`` and ``auc`` against all families; ``false_alarms``: their mean, every
            source alike; ``sources``: per source of either class ``label``, ``family``, ``images``, ``called_fake``.
        """
        families: dict[str, dict] = {name: self._counts(name) for name in self.families}
        summary = {}
        for weighting in WEIGHTINGS:
            summary[weighting], rows = self._summary(weighting, logits, threshold)
            for name in self.families:
                families[name][weighting] = rows.get(name)
        return {
            "summary": summary,
            "families": families,
            **self._reals(logits, threshold),
            "sources": self._called(logits >= threshold),
        }

    def _area(
        self, mine: NDArray[np.bool_], logits: Numbers, fake_weights: Numbers
    ) -> tuple[float | None, list[float] | None]:
        """AUC of all fakes, sources alike, against one real source, and its interval."""
        if not fake_weights.any():
            return None, None
        index = np.flatnonzero(mine | (self.labels == FAKE))
        weights = np.where(mine, 1 / mine.sum(), fake_weights)[index]
        value, sample = self._measure(_Part(index, weights), logits, 0.0)
        return number(value[_AUC]), interval(sample[:, _AUC]) if len(sample) else None

    def _called(self, called: NDArray[np.bool_]) -> dict:
        """Images that report, and how many of them are called FAKE, per source."""
        found = {}
        for source in sorted(set(self._source)):
            mine = (self._source == source) & (self.report > 0)
            first = self.photos[int(np.flatnonzero(self._source == source)[0])]
            found[str(source)] = {
                "label": int(first.label),
                "family": first.family,
                "images": int(mine.sum()),
                "called_fake": int((mine & called).sum()),
            }
        return found

    def summary(self, weighting: str, logits: Numbers, threshold: float) -> dict | None:
        """The part ``summary`` of :meth:`measured` for ``matched`` or ``plain``; None where nothing is matched."""
        return self._summary(weighting, logits, threshold)[0]

    def _summary(
        self, weighting: str, logits: Numbers, threshold: float
    ) -> tuple[dict | None, dict[str, dict]]:
        rows, values, samples = {}, [], []
        parts = self._matched if weighting == "matched" else self._plain
        for name, part in parts.items():
            if part is not None:
                value, sample = self._measure(part, logits, threshold)
                rows[name] = described(value, sample)
                values.append((name, value))
                samples.append(sample)
        return _mean(values, samples), rows

    def exceeds(self, logits: Numbers, other: Numbers) -> dict:
        """How far the mean AUC over families, matched, lies above that of other scores of the same images.

        Args:
            logits: float64 [N].
            other: float64 [N], e.g. of a probe.

        Returns:
            ``difference`` and its 95 % ``interval``, both resampled alike; None where nothing is matched.
        """
        values, samples = [], []
        for part in self._matched.values():
            if part is None:
                continue
            (value, drawn), (base, base_drawn) = (self._measure(part, x, 0.0) for x in (logits, other))
            values.append(value[_AUC] - base[_AUC])
            samples.append((drawn - base_drawn)[:, _AUC] if len(drawn) else np.empty(0))
        if not values:
            return {"difference": None, "interval": None}
        return {
            "difference": number(float(np.nanmean(values))),
            "interval": interval(_nanmean(np.array(samples).T)),
        }

    def _measure(self, part: _Part, logits: Numbers, threshold: float) -> tuple[Numbers, Numbers]:
        ranking = Ranking.of(logits[part.index], self.labels[part.index])
        report = self.report[part.index]
        drawn = part.weights * self.resamples.of(part.index)
        found = measures(ranking, np.vstack([part.weights, drawn]), threshold, report)
        return found[0], found[1:]

    def _counts(self, family: str) -> dict:
        mine = [self.photos[i] for i in np.flatnonzero(self._family == family)]
        part = self._matched[family]
        fakes = 0 if part is None else int((self.labels[part.index] == FAKE).sum())
        found = {
            "images": len(mine),
            "contents": len({photo.content for photo in mine}),
            "sources": dict(sorted(Counter(photo.source for photo in mine).items())),
            "matched_images": fakes,
            "matched_reals": 0 if part is None else len(part.index) - fakes,
        }
        if part is not None:
            for label, key in ((FAKE, "effective_images"), (REAL, "effective_reals")):
                weights = part.weights[self.labels[part.index] == label]
                found[key] = round(float(weights.sum() ** 2 / np.square(weights).sum()), 1)
        return found

    def _reals(self, logits: Numbers, threshold: float) -> dict:
        """False alarms per real source on the images that report, and their mean over sources."""
        fakes = np.flatnonzero(self.labels == FAKE)
        fake_weights = np.zeros(len(self.photos))
        if len(fakes):
            fake_weights[fakes] = source_weights([self.photos[i] for i in fakes], 0.0, 0.0)
        called = (logits >= threshold).astype(np.float64)
        found, values, samples = {}, [], []
        for source in sorted(set(self._source[self.labels == REAL])):
            mine = (self._source == source) & (self.labels == REAL)
            reporting = mine * self.report
            index = np.flatnonzero(reporting)
            times = self.resamples.of(index)
            with np.errstate(invalid="ignore"):
                drawn = (times @ called[index] / times.sum(axis=1))[:, None]
            rate = _share(called, reporting)
            area, spread = self._area(mine, logits, fake_weights)
            row = {
                "images": int(reporting.sum()),
                "called_fake": int((reporting * called).sum()),
                "false_alarms": number(rate),
                "auc": area,
                "intervals": {
                    "false_alarms": interval(drawn[:, 0]) if len(drawn) else None,
                    "auc": spread,
                },
            }
            found[str(source)] = row
            values.append(rate)
            samples.append(drawn)
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        stacked = np.hstack(samples) if samples and self.resamples.count else np.empty((0, 1))
        with np.errstate(invalid="ignore"):
            spread = interval(_nanmean(stacked)) if len(stacked) else None
        return {"real": found, "false_alarms": number(mean), "false_alarms_interval": spread}


def _share(called: Numbers, weights: Numbers) -> float:
    total = weights.sum()
    return float((called * weights).sum() / total) if total else float("nan")


def _nanmean(values: Numbers) -> Numbers:
    """Means over the second axis, of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)


def _mean(values: list[tuple[str, Numbers]], samples: list[Numbers]) -> dict | None:
    """Means over families, and the family of the lowest AUC; None without families."""
    if not values:
        return None
    table = np.array([value for _, value in values])
    means = _nanmean(table.T)
    stacked = np.array(samples)
    spread = np.array([_nanmean(stacked[:, :, k].T) for k in range(len(MEASURES))]).T
    worst = int(np.nanargmin(table[:, _AUC])) if np.isfinite(table[:, _AUC]).any() else 0
    return {
        **described(means, spread if stacked.shape[1] else np.empty((0, len(MEASURES)))),
        "worst_family": {"family": values[worst][0], "auc": number(table[worst, _AUC])},
        "families": len(values),
    }
