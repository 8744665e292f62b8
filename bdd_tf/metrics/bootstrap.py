"""Metrics with bootstrap confidence intervals, per source, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bdd_tf.edge.labels import FAKE, LABELS
from bdd_tf.errors import BddError
from bdd_tf.metrics.classification import (
    MEASURES,
    Labels,
    Scores,
    _auc,
    _checked_probabilities,
    _checked_threshold,
    _confusion,
    _measures,
    _or_none,
    _rates,
    _Tally,
    accuracy,
    auc,
    why_undefined,
)

#: AUC from which on a network is said to rank images, though its threshold may not separate them.
_RANKS = 0.7


def _interval(samples: np.ndarray) -> list[float] | None:
    samples = samples[~np.isnan(samples)]
    return [float(v) for v in np.percentile(samples, (2.5, 97.5))] if len(samples) else None


def _resamples(images: int, bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(bootstrap):
        yield random.integers(0, images, images)


def evaluate(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict:
    """Compute all measures of a split at a given threshold.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores at or above it are called FAKE; in [0, 1].
        bootstrap: Resamples of the images for the intervals; 0: no intervals.
        seed: Seed of the resamples.

    Returns:
        ``images``, ``confusion`` (see :func:`confusion`), ``accuracy``, ``auc``, ``average_precision``,
        ``eer``, ``threshold``, ``accuracy_real``, ``accuracy_fake`` (numbers in [0, 1]; None if a required
        class is missing; the last two are specificity and recall) and ``intervals``: for each measure the 2.5th and
        97.5th percentile over the resamples in which it is defined (None if there is no such resample). The interval of a
        perfect measure has zero width for every N.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    threshold = _checked_threshold(threshold)
    tally = _Tally.of(labels, scores)
    counts, called = tally.counts(), tally.called_fake(threshold)
    found = {name: _or_none(value) for name, value in _measures(counts, called).items()}
    samples = np.array(
        [list(_measures(tally.counts(i), called).values()) for i in _resamples(len(labels), bootstrap, seed)]
    )
    intervals = {name: _interval(samples[:, i]) for i, name in enumerate(MEASURES)} if bootstrap else {}
    return {
        "images": len(labels),
        "confusion": _confusion(counts, called),
        **{name: found[name] for name in ("accuracy", "auc", "average_precision", "eer")},
        "threshold": threshold,
        **{name: found[name] for name in ("accuracy_real", "accuracy_fake")},
        "intervals": intervals,
    }


def evaluate_by(
    groups: Sequence[str] | np.ndarray,
    labels: Labels,
    scores: Scores,
    threshold: float,
) -> dict[str, dict]:
    """Compute measures per source (camera, generator ...).

    Args:
        groups: Name of each image's source, [N].
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores at or above it are called FAKE; in [0, 1].

    Returns:
        Source, sorted -> ``images``, ``real`` and ``fake`` (counts), ``accuracy``, and ``auc`` for sources with both
        classes. A generator has FAKE images only, so its accuracy is its recall.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    threshold = _checked_threshold(threshold)
    names = np.asarray([str(g) for g in groups])
    if names.shape != labels.shape:
        raise BddError(f"each image needs a source; got {len(names)} sources for {len(labels)} images.")
    found = {}
    for name in np.unique(names):
        mine = names == name
        fake = int(labels[mine].sum())
        row: dict[str, Any] = {
            "images": int(mine.sum()),
            "real": int(mine.sum()) - fake,
            "fake": fake,
            "accuracy": accuracy(labels[mine], scores[mine], threshold),
        }
        if row["real"] and row["fake"]:
            row["auc"] = auc(labels[mine], scores[mine])
        found[str(name)] = row
    return found


def metrics_document(
    labels: Labels,
    scores: Scores,
    threshold: float,
    *,
    leaked: Sequence[bool] | np.ndarray | None = None,
    sources: Sequence[str] | np.ndarray | None = None,
    about: dict | None = None,
    bootstrap: int = 1000,
) -> dict:
    """Compute the content of ``metrics-SPLIT.json``.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores at or above it are called FAKE; in [0, 1].
        leaked: Which images the training split also contains, bool [N]; None: not determined.
        sources: Name of each image's source, [N]; None: unknown.
        about: Further entries (data set, split, parameters ...), none with a key of :func:`evaluate`.
        bootstrap: See :func:`evaluate`.

    Returns:
        The keys of :func:`evaluate` and ``about``. With ``leaked``: ``leaked`` (their number) and
        ``deduplicated``, the keys of :func:`evaluate` for the other images (None if there are none). With more than one
        source: ``sources``, see :func:`evaluate_by`. If something is None: ``notes``, a list of sentences.

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    measured = evaluate(labels, scores, threshold, bootstrap=bootstrap)
    reserved = {*measured, "leaked", "deduplicated", "sources", "notes"} & set(about or {})
    if reserved:
        raise ValueError(f"about may not name {sorted(reserved)}: these keys hold measures.")
    document: dict[str, Any] = {**(about or {}), **measured}
    reason = why_undefined(labels)
    notes = [f"{reason}."] if reason else []
    called = np.asarray(scores) >= threshold
    if called.all() or not called.any():
        everything = f"the network calls all {len(called)} images {LABELS[int(called.all())]}"
        auc = measured["auc"]
        if auc is not None and auc > _RANKS:
            notes.append(
                f"{everything}, though it ranks them (AUC {auc:.4f}): the threshold {threshold:.4f} does not suit them. "
                "bdd evaluate --split validation chooses one."
            )
        else:
            notes.append(
                f"{everything}: it tells nothing apart. Train longer, or with another learning rate, and check the data "
                "(bdd data check)."
            )
    if leaked is not None:
        leaked = np.asarray(leaked, dtype=bool)
        if leaked.shape != labels.shape:
            raise BddError(
                f"the mask of leaked images has shape {leaked.shape}; the labels have {labels.shape}."
            )
        keep = ~leaked
        document["leaked"] = int(leaked.sum())
        document["deduplicated"] = None
        if keep.any():
            document["deduplicated"] = evaluate(labels[keep], scores[keep], threshold, bootstrap=bootstrap)
        reason = why_undefined(labels[keep])
        if reason:
            notes.append(f"without the leaked images: {reason}.")
    if sources is not None and len({str(s) for s in sources}) > 1:
        document["sources"] = evaluate_by(sources, labels, scores, threshold)
    if notes:
        document["notes"] = notes
    return document


def compare(
    labels: Labels,
    first: Scores,
    second: Scores,
    thresholds: tuple[float, float] = (0.5, 0.5),
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict:
    """Compare two detectors on the same images, with intervals and a significance test.

    Args:
        labels: 0 or 1, [N].
        first: Fake probabilities of the first detector in [0, 1], [N].
        second: Fake probabilities of the second detector for the same images in the same order.
        thresholds: Thresholds of the first and the second detector.
        bootstrap: Resamples, paired: each draws the same images for both detectors.
        seed: Seed of the resamples.

    Returns:
        ``images``; ``accuracy`` and ``auc``, each with ``first``, ``second``, ``difference`` (second - first)
        and ``interval`` (95 % of the difference); ``mcnemar`` with ``only_first_right``,
        ``only_second_right`` (images) and ``p_value`` (exact, two-sided).

    Raises:
        BddError: For empty, mismatched or invalid input.
    """
    from scipy.stats import binomtest

    labels, first = _checked_probabilities(labels, first)
    _, second = _checked_probabilities(labels, second)
    tallies = [_Tally.of(labels, scores) for scores in (first, second)]
    called = [t.called_fake(_checked_threshold(x)) for t, x in zip(tallies, thresholds, strict=True)]

    def measure(images: np.ndarray | None = None) -> np.ndarray:
        counts = [tally.counts(images) for tally in tallies]
        right = [_rates(_confusion(c, k))["accuracy"] for c, k in zip(counts, called, strict=True)]
        return np.array([right, [_auc(c) for c in counts]])

    value = measure()
    samples = np.array([np.diff(measure(i))[:, 0] for i in _resamples(len(labels), bootstrap, seed)]).reshape(
        -1, 2
    )
    document: dict = {"images": len(labels)}
    for row, name in enumerate(("accuracy", "auc")):
        document[name] = {
            "first": _or_none(value[row, 0]),
            "second": _or_none(value[row, 1]),
            "difference": _or_none(value[row, 1] - value[row, 0]),
            "interval": _interval(samples[:, row]),
        }
    fake = labels == FAKE
    one, other = (np.asarray(first) >= thresholds[0]) == fake, (np.asarray(second) >= thresholds[1]) == fake
    only = int((one & ~other).sum()), int((other & ~one).sum())
    document["mcnemar"] = {
        "only_first_right": only[0],
        "only_second_right": only[1],
        # Without a disagreement there is no evidence of a difference.
        "p_value": float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
    }
    return document
