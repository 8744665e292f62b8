"""The probes of :mod:`bdd_tf.datasets.probes` on exactly the crops that a detector is judged on, by the same measures."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bdd_tf.datasets import probe_features, probes
from bdd_tf.datasets.photo_batches import PhotoBatches
from bdd_tf.datasets.photos import Photo
from bdd_tf.evaluation.photos.comparison import WEIGHTINGS, Comparison
from bdd_tf.evaluation.photos.measures import Numbers
from bdd_tf.evaluation.photos.protocol import Comparisons
from bdd_tf.evaluation.photos.scorers import Images

_CODING, _SIZE, _STATISTICS, _THUMBNAIL = probes.PROBES
#: A condition that rescales and codes every image anew: what (a) finds there is texture, not the files' coding.
CONTROL = "half"
_CONTROL_NAME = "a: the same, half size (control)"
#: Points that the probes of coding and size may exceed 50 % balanced accuracy by on matched images.
ALLOWED = 3.0
STATISTICS_NAME = _STATISTICS.name


class Watched:
    """Features of the crops of an evaluation, gathered while a detector scores them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], list[Numbers]] = defaultdict(list)

    def __call__(self, part: str, condition: str, images: Images) -> None:
        """Keep the features of a batch: statistics under every condition, the others under ``clean``."""
        self._kept[_STATISTICS.name, condition, part].append(probe_features.pixel_statistics(images))
        if condition in ("clean", CONTROL):
            self._kept[_CODING.name, condition, part].append(probe_features.jpeg_traces(images))
        if condition == "clean":
            self._kept[_THUMBNAIL.name, condition, part].append(probe_features.thumbnails(images))

    def features(
        self, probe: probes.Probe, condition: str, photos: dict[str, list[Photo]]
    ) -> dict[str, Numbers]:
        """Features float64 [N, D] per part."""
        if probe is _SIZE:
            return {part: _sizes(rows) for part, rows in photos.items()}
        return {
            part: np.concatenate(kept) for part in photos if (kept := self._kept[probe.name, condition, part])
        }

    @property
    def conditions(self) -> list[str]:
        """Conditions that were seen."""
        return list(dict.fromkeys(condition for _, condition, _ in self._kept))


def _sizes(photos: list[Photo]) -> Numbers:
    if not photos:
        return np.empty((0, 21))
    return probe_features.size_and_format(
        np.array([photo.short_side for photo in photos]),
        np.array([photo.format == "PNG" for photo in photos]),
    )


def _cross_validated(probe: probes.Probe, x: Numbers, made: Comparison, weights: Numbers) -> Numbers:
    """Scores [N] from fits to the other contents, images weighing as they do in the measures."""
    scores, parts = np.zeros(len(x)), np.array([probes.part_of(photo) for photo in made.photos])
    for part in range(probes.FOLDS):
        out = parts == part
        used = ~out & (weights > 0)
        if out.any() and len(np.unique(made.labels[used])) == 2:
            model = probes.Logistic.fit(
                x[used], made.labels[used], probe.quadratic, probe.ridge, weights[used]
            )
            scores[out] = model.scores(x[out])
    return scores


def probe_scores(watched: Watched, photos: dict[str, list[Photo]], batches: PhotoBatches, crops: int) -> dict:
    """Fit the probes of statistics and thumbnails to training crops and score the evaluation's.

    Args:
        watched: The evaluation's features.
        photos: Its images per part.
        batches: The fold.
        crops: Training crops.

    Returns:
        Probe name -> condition -> part -> logits.
    """
    training = probes.training_crops(batches, crops)
    found: dict[str, dict[str, dict[str, Numbers]]] = {}
    for probe in (_STATISTICS, _THUMBNAIL):
        model = probes.Logistic.fit(probe.features(training), training.labels, probe.quadratic, probe.ridge)
        found[probe.name] = {
            condition: {part: model.scores(x) for part, x in features.items()}
            for condition in watched.conditions
            if (features := watched.features(probe, condition, photos))
        }
    return found


def probed(
    watched: Watched, photos: dict[str, list[Photo]], comparisons: Comparisons, transferred: dict
) -> dict:
    """What the probes reach in each comparison.

    Args:
        watched: The evaluation's features.
        photos: Its images per part.
        comparisons: The evaluation's.
        transferred: Of :func:`probe_scores`.

    Returns:
        Comparison -> ``clean``: probe -> ``matched`` and ``plain`` as a detector's ``summary`` at the logit 0;
        ``leaks``: sentences on probes of coding and size that exceed chance on the matched images. And
        ``real_against_real``: source -> AUC against the other real sources.
    """
    found: dict = {}
    for name, made in comparisons.made.items():
        rows = {}
        for title, probe, condition in (
            (_CODING.name, _CODING, "clean"),
            (_CONTROL_NAME, _CODING, CONTROL),
            (_SIZE.name, _SIZE, "clean"),
        ):
            if condition in watched.conditions:
                x = comparisons.values(name, watched.features(probe, condition, photos))
                rows[title] = _both_weightings(probe, x, made)
        for probe_name, scores in transferred.items():
            values = comparisons.values(name, scores["clean"])
            rows[probe_name] = {weighting: made.summary(weighting, values, 0.0) for weighting in WEIGHTINGS}
        found[name] = {"clean": rows, "leaks": _leaks(name, rows)}
    return {"comparisons": found, "real_against_real": _real_against_real(watched, photos)}


def _both_weightings(probe: probes.Probe, x: Numbers, made: Comparison) -> dict:
    """What a probe that is fitted to a comparison's own images reaches, as a detector's ``summary``."""
    row = {}
    for weighting, weights in (("matched", made.weights), ("plain", np.ones(len(x)))):
        scores = _cross_validated(probe, x, made, weights)
        row[weighting] = made.summary(weighting, scores, 0.0)
    return row


def _leaks(name: str, rows: dict) -> list[str]:
    """Sentences on probes of coding and size that exceed chance on the matched images."""

    def reached(title: str) -> float | None:
        row = rows.get(title, {}).get("matched")
        return None if row is None or row["balanced_accuracy"] is None else 100 * row["balanced_accuracy"]

    control, chance = reached(_CONTROL_NAME), 50 + ALLOWED
    limits = {
        _CODING.name: chance if control is None else max(chance, control + probes.BEYOND_CONTROL),
        _SIZE.name: chance,
    }
    return [
        f"{name}: probe {title} reaches {found:.1f} % balanced accuracy on the matched images; at most {limit:.1f} % is "
        "chance."
        for title, limit in limits.items()
        if (found := reached(title)) is not None and found > limit
    ]


def _real_against_real(watched: Watched, photos: dict[str, list[Photo]]) -> dict[str, float]:
    features = watched.features(_STATISTICS, "clean", photos)
    rows = [photo for part in features for photo in photos[part]]
    x = np.concatenate(list(features.values()))
    crops = probes.Crops(
        np.empty((len(rows), 0), np.uint8),
        rows,
        np.array([photo.short_side for photo in rows]),
        {_STATISTICS.name: x},
    )
    return {name: value for name, value in probes.real_against_real(crops).items() if np.isfinite(value)}
