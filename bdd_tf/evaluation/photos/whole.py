"""Whole images: native views of each, combined into one score, under the same conditions as crops."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bdd_tf.datasets.codecs import decode
from bdd_tf.datasets.conditions import apply_condition
from bdd_tf.datasets.folds import Fold, divide_whole
from bdd_tf.datasets.photos import WHOLE, Photo, read_files, read_manifest
from bdd_tf.edge.images.views import NativeViews, ViewRule, native_views
from bdd_tf.errors import UsageError
from bdd_tf.evaluation.photos.band import Band, band_measures
from bdd_tf.evaluation.photos.measures import Numbers
from bdd_tf.evaluation.photos.protocol import (
    Comparisons,
    Settings,
    choose_threshold,
    chosen,
)
from bdd_tf.evaluation.photos.scorers import Images, Scorer, logit
from bdd_tf.evaluation.photos.view_scale import agreement, scale

#: Images whose views are scored at a time.
_GROUP = 16


def views_of(content: bytes, name: str, condition: str, rule: ViewRule, key: tuple[int, int]) -> NativeViews:
    """The native views of an encoded image under a condition.

    Args:
        content: JPEG, PNG or WebP.
        name: Of the image, for messages.
        condition: A key of :data:`bdd_tf.datasets.conditions.CONDITIONS`.
        rule: Which views.
        key: Seed of the evaluation, number of the image.

    Returns:
        The views.
    """
    return native_views(apply_condition(decode(content, name), condition, *key), rule)


def view_logits(scorer: Scorer, views: Sequence[Images]) -> list[Numbers]:
    """The logits of each image's views.

    Args:
        scorer: The detector.
        views: Per image uint8 [K, S, S, 3], K at least 1.

    Returns:
        Per image float64 [K].
    """
    edges = np.cumsum([len(part) for part in views])
    return np.split(scorer(np.concatenate(list(views))), edges[:-1])


def combined(rule: ViewRule, logits: Sequence[Numbers]) -> Numbers:
    """One logit per image: the rule's combination of the scores of its views.

    Args:
        rule: How views are combined.
        logits: Per image float64 [K], K at least 1.

    Returns:
        float64 [len(logits)].
    """
    return logit([rule.combine(1 / (1 + np.exp(-np.clip(part, -30, 30)))) for part in logits])


def whole_logits(
    scorer: Scorer, photos: Sequence[Photo], contents: Sequence[bytes], condition: str, seed: int
) -> tuple[list[Numbers], dict]:
    """Score the views of whole images under a condition.

    Args:
        scorer: The detector.
        photos: Rows of ``whole.csv``.
        contents: Their files.
        condition: A key of :data:`bdd_tf.datasets.conditions.CONDITIONS`.
        seed: Of the conditions' random numbers.

    Returns:
        Per image the logits of its views, float64 [K]; and ``views`` (mean per image), ``padded`` and ``featureless``
        (images).
    """
    found: list[Numbers] = []
    counts = {"views": 0.0, "padded": 0, "featureless": 0}
    with ThreadPoolExecutor(2, "whole") as pool:
        for start in range(0, len(photos), _GROUP):
            numbers = range(start, min(start + _GROUP, len(photos)))
            made = list(
                pool.map(
                    lambda i: views_of(contents[i], photos[i].path, condition, scorer.views, (seed, i)),
                    numbers,
                )
            )
            found += view_logits(scorer, [views.images for views in made])
            counts["views"] += sum(len(views.images) for views in made)
            counts["padded"] += sum(views.padded for views in made)
            counts["featureless"] += sum(views.featureless for views in made)
    counts["views"] /= max(len(photos), 1)
    return found, counts


def evaluate_whole(scorer: Scorer, fold: Fold, settings: Settings, band: Band | None = None) -> dict | None:
    """The protocol on whole images.

    Args:
        scorer: The detector, whose rule says how many views an image has.
        fold: Which image training knows.
        settings: Size of the evaluation; ``data_dir`` names the folder.
        band: Chosen on crops, since too few whole images are held out; None: no band.

    Returns:
        ``views`` (the rule); ``agreement`` of an image's views and the ``scale`` that follows from it
        (:mod:`bdd_tf.evaluation.photos.view_scale`, on clean validation images); ``threshold``, or None with a ``note``
        where too few real images can choose one; ``unsure``, what the band decides about whole images; and per condition
        the comparisons as for crops, with counts of views.
        None without ``whole.csv``.
    """
    if settings.data_dir is None or not (Path(settings.data_dir) / WHOLE).is_file():
        return None
    divided = divide_whole(read_manifest(settings.data_dir, WHOLE), fold)
    photos = {
        part: [rows[i] for i in chosen(rows, settings.per_source, settings.seed)]
        for part, rows in (("test", divided["test"]), ("validation", divided["validation"]))
    }
    contents = {part: read_files(settings.data_dir, rows) for part, rows in photos.items()}
    found: dict = {"views": scorer.views.to_dict()}
    scored: dict[str, dict[str, Numbers]] = {}
    counted: dict[str, dict] = {}
    for condition in ("clean", *(name for name in settings.conditions if name != "clean")):
        scored[condition], counted[condition] = {}, {}
        for part, rows in photos.items():
            settings.report(f"whole images, {condition}: {len(rows)} of {part}")
            each, counted[condition][part] = whole_logits(
                scorer, rows, contents[part], condition, settings.seed
            )
            scored[condition][part] = combined(scorer.views, each)
            if (condition, part) == ("clean", "validation"):
                found.update(_agreement(each, rows, scorer.views.count))
    if band:
        found["unsure"] = band_measures(photos, scored["clean"], band, settings)
    try:
        threshold = choose_threshold(photos, scored["clean"], "whole images", settings.given)
    except UsageError as error:
        return {**found, "threshold": None, "note": str(error), "conditions": {}}
    comparisons = Comparisons.of(photos, threshold, settings)
    return {
        **found,
        "threshold": threshold.to_dict(),
        "images": {name: made.remaining() for name, made in comparisons.made.items()},
        "conditions": {
            condition: {
                "views": counted[condition],
                **comparisons.measured(logits, threshold.logit),
            }
            for condition, logits in scored.items()
        },
    }


def _agreement(each: list[Numbers], photos: Sequence[Photo], count: int) -> dict:
    """Agreement of the views of validation images, and the factors that follow from it; empty for too few images."""
    try:
        share = agreement(each, [photo.label for photo in photos])
    except UsageError:
        return {}
    return {"agreement": share, "scale": list(scale(share, count))}
