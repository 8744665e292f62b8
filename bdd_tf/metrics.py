"""How good are scores? Exact measures, bootstrap intervals, and the files they are kept in. NumPy only.

FAKE (1) is the positive class throughout. A measure that needs both classes is None where one is missing;
:func:`why_undefined` says so in words. Labels are array-likes [N] of 0 and 1; scores are array-likes [N] of
finite numbers where higher means more likely FAKE. Ties are handled exactly: images of equal score are never
ordered.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf.config import write_atomically
from bdd_tf.edge.labels import FAKE, LABELS, REAL
from bdd_tf.errors import BddError, UsageError

#: The measures that get an interval, in the order in which tables show them.
MEASURES = ("accuracy", "auc", "average_precision", "eer", "accuracy_real", "accuracy_fake")
Labels = Sequence[int] | np.ndarray
Scores = Sequence[float] | np.ndarray
SCORE_COLUMNS = ("path", "label", "fake_probability")
#: Bytes that a compressed table of scores may unpack to.
SCORES_LIMIT = 128 << 20


@dataclass(frozen=True)
class _Tally:
    """Scores reduced to counts per distinct value, highest first: all that any measure depends on.

    Attributes:
        values: Distinct scores, descending, float64 [G].
        cell: For each image, 2 * (index into ``values``) + label; int64 [N]. Resampling images is recounting
            cells.
    """

    values: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> _Tally:
        values, inverse = np.unique(-scores, return_inverse=True)
        return cls(-values, 2 * inverse.reshape(-1) + labels)

    def counts(self, images: np.ndarray | None = None) -> np.ndarray:
        """REAL and FAKE images per distinct score, int64 [G, 2]; of the given image indices, default all."""
        cell = self.cell if images is None else self.cell[images]
        return np.bincount(cell, minlength=2 * len(self.values)).reshape(-1, 2)

    def called_fake(self, threshold: float) -> int:
        """How many distinct scores a threshold calls FAKE: the verdict's rule, score >= threshold."""
        return int(np.count_nonzero(self.values >= threshold))


def checked(labels: Labels, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int64 [N] and scores as float64 [N].

    Raises:
        BddError: If they are empty, of different lengths, no labels, or not finite; the text says which.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise BddError(
            f"labels and scores must be two lists of one length; got {labels.shape} and {scores.shape}."
        )
    if not len(labels):
        raise BddError("there are no images to measure; give a split that holds some.")
    if not np.isin(labels, (REAL, FAKE)).all():
        wrong = labels[~np.isin(labels, (REAL, FAKE))][0]
        raise BddError(f"labels must be {REAL} ({LABELS[REAL]}) or {FAKE} ({LABELS[FAKE]}); got {wrong!r}.")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise BddError(f"{bad} of {len(scores)} scores are not finite; the network that made them is broken.")
    return labels.astype(np.int64), scores


def _checked_probabilities(labels: Labels, scores: Scores) -> tuple:
    labels, scores = checked(labels, scores)
    if scores.min() < 0 or scores.max() > 1:
        raise BddError(
            f"scores must be fake probabilities in [0, 1]; got {scores.min():g} to {scores.max():g}."
        )
    return labels, scores


def _checked_threshold(threshold: float) -> float:
    if not 0 <= threshold <= 1:
        raise BddError(f"the threshold must lie in [0, 1]; got {threshold}.")
    return float(threshold)


def _auc(counts: np.ndarray) -> float:
    # Twice the number of (FAKE, REAL) pairs in the right order, a tie counting half: integers, so exact.
    real, fake = counts[:, REAL], counts[:, FAKE]
    above = np.cumsum(fake)
    pairs = above[-1] * real.sum()
    return float(np.dot(real, 2 * above - fake) / (2 * pairs)) if pairs else np.nan


def _average_precision(counts: np.ndarray) -> float:
    # A step per distinct score. Scores that a resample did not draw add no recall, whatever their precision.
    true, every = np.cumsum(counts[:, FAKE]), np.cumsum(counts.sum(axis=1))
    if not 0 < true[-1] < every[-1]:
        return np.nan
    return float(np.dot(counts[:, FAKE] / true[-1], true / np.maximum(every, 1)))


def _equal_error_rate(counts: np.ndarray) -> float:
    # Both error rates are piecewise linear along the ROC and their difference falls from 1 to -1: one
    # crossing.
    totals = counts.sum(axis=0)
    if not totals.all():
        return np.nan
    false_fake, missed = (np.cumsum(counts[:, label]) / totals[label] for label in (REAL, FAKE))
    missed = 1 - missed
    difference = missed - false_fake
    at = int(np.argmax(difference <= 0))
    before, low = (difference[at - 1], false_fake[at - 1]) if at else (1.0, 0.0)
    return float(low + (false_fake[at] - low) * before / (before - difference[at]))


def _confusion(counts: np.ndarray, called_fake: int) -> dict[str, int]:
    fake, real = counts[:called_fake].sum(axis=0), counts[called_fake:].sum(axis=0)
    return {
        "true_real": int(real[REAL]),
        "false_fake": int(fake[REAL]),
        "false_real": int(real[FAKE]),
        "true_fake": int(fake[FAKE]),
    }


def _rates(cells: dict[str, int]) -> dict[str, float]:
    real, fake = cells["true_real"] + cells["false_fake"], cells["true_fake"] + cells["false_real"]
    return {
        "accuracy": (cells["true_real"] + cells["true_fake"]) / (real + fake),
        "accuracy_real": cells["true_real"] / real if real else np.nan,
        "accuracy_fake": cells["true_fake"] / fake if fake else np.nan,
    }


def _measures(counts: np.ndarray, called_fake: int) -> dict[str, float]:
    """Every measure of :data:`MEASURES`; NaN where undefined."""
    found = {
        **_rates(_confusion(counts, called_fake)),
        "auc": _auc(counts),
        "average_precision": _average_precision(counts),
        "eer": _equal_error_rate(counts),
    }
    return {name: found[name] for name in MEASURES}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def why_undefined(labels: Labels) -> str | None:
    """Why measures that need both classes are None for these labels, in words; None if they are defined."""
    present = np.unique(np.asarray(labels))
    if len(present) == 2:
        return None
    if not len(present):
        return "there are no images"
    there = int(present[0])
    return (
        f"all images are {LABELS[there]}; AUC, average precision and equal error rate need "
        f"{LABELS[1 - there]} images too"
    )


def confusion(labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, int]:
    """Count verdicts. The label gives the row, the verdict (FAKE from the threshold on) the column.

    Returns:
        ``true_real`` (REAL called REAL), ``false_fake`` (REAL called FAKE), ``false_real`` (FAKE called
        REAL), ``true_fake`` (FAKE called FAKE).

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    tally = _Tally.of(*checked(labels, scores))
    return _confusion(tally.counts(), tally.called_fake(threshold))


def accuracy(labels: Labels, scores: Scores, threshold: float = 0.5) -> float:
    """Share of right verdicts in [0, 1].

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    return _rates(confusion(labels, scores, threshold))["accuracy"]


def roc_curve(
    labels: Labels, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ROC: one point per distinct score, from (0, 0) to (1, 1).

    Returns:
        False-fake rate, true-fake rate and threshold, float64 [G + 1] each; rates rise, thresholds fall from
        infinity (nothing is called FAKE).

    Raises:
        BddError: For impossible input, or where a class is missing.
    """
    labels, scores = checked(labels, scores)
    reason = why_undefined(labels)
    if reason:
        raise BddError(f"there is no ROC curve: {reason}.")
    tally = _Tally.of(labels, scores)
    counts = np.vstack([np.zeros((1, 2), np.int64), tally.counts()])
    rates = np.cumsum(counts, axis=0) / counts.sum(axis=0)
    return rates[:, REAL], rates[:, FAKE], np.concatenate([[np.inf], tally.values])


def auc(labels: Labels, scores: Scores) -> float | None:
    """Area under the ROC: the chance that a FAKE image scores above a REAL one, a tie counting half.

    Args:
        labels: 0 or 1, [N].
        scores: Any finite numbers, logits as well as probabilities, [N].

    Returns:
        In [0, 1]; None where a class is missing (:func:`why_undefined`).

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    return _or_none(_auc(_Tally.of(*checked(labels, scores)).counts()))


def average_precision(labels: Labels, scores: Sequence[float] | np.ndarray) -> float | None:
    """Area under the precision-recall steps (one per distinct score, no interpolation), FAKE positive.

    Returns:
        In [0, 1]; None where a class is missing.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    return _or_none(_average_precision(_Tally.of(*checked(labels, scores)).counts()))


def equal_error_rate(labels: Labels, scores: Sequence[float] | np.ndarray) -> float | None:
    """The error rate at which as large a share of REAL is called FAKE as of FAKE is called REAL.

    Between two points of the ROC both rates are interpolated linearly.

    Returns:
        In [0, 1]; None where a class is missing.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    return _or_none(_equal_error_rate(_Tally.of(*checked(labels, scores)).counts()))


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A threshold between each two neighbouring scores, 0 <= low < high <= 1: above low, at most high.

    Halfway between their logits. So a temperature, which stretches all logits alike, moves thresholds and scores
    together and changes no decision. (Outside the outermost score, where 0 and 1 have no logit: halfway.)
    """

    def logit(p: np.ndarray) -> np.ndarray:
        return np.log(p) - np.log1p(-p)

    inside = (low > 0) & (high < 1)
    a, b = (np.where(inside, p, 0.5) for p in (low, high))
    middle = np.where(inside, 1 / (1 + np.exp(-(logit(a) + logit(b)) / 2)), low + (high - low) / 2)
    # Two scores may be neighbouring floats with nothing between them; the upper one separates them as well.
    return np.where((middle > low) & (middle <= high), middle, high)


def best_threshold(labels: Labels, scores: Scores) -> float:
    """The threshold with the highest balanced accuracy, the mean of both classes' accuracies.

    Meant for validation scores. Balanced, so that the choice does not depend on how many images of each class
    the validation split happens to hold; where both classes are equally many, it is accuracy itself.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].

    Returns:
        In [0, 1], halfway between the logits of two neighbouring scores (or halfway between the outermost one and
        0 or 1). Of equally good thresholds, the one closest to 0.5, and of two equally close the lower. 0.5 where
        a class is missing.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if why_undefined(labels):
        return 0.5
    tally = _Tally.of(labels, scores)
    counts, rising = tally.counts()[::-1], tally.values[::-1]
    # Candidate i calls REAL the i lowest scores. Integers, so that ties are ties: twice the balanced accuracy
    # times both totals is (REAL called REAL) * fakes + (FAKE called FAKE) * reals.
    reals, fakes = (int(n) for n in counts.sum(axis=0))
    below = np.vstack([np.zeros((1, 2), np.int64), np.cumsum(counts, axis=0)])
    gain = below[:, REAL] * fakes + (fakes - below[:, FAKE]) * reals
    edges = np.concatenate([[0.0], rising, [1.0]])
    middle = _between(edges[:-1], edges[1:])
    if rising[-1] == 1.0:
        gain, middle = gain[:-1], middle[:-1]  # No threshold in [0, 1] calls a score of 1 REAL.
    best = middle[gain == gain.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def false_alarm_threshold(labels: Labels, scores: Scores, rate: float) -> float | None:
    """The lowest threshold that calls at most a given share of REAL images FAKE. Meant for validation scores.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        rate: In (0, 1).

    Returns:
        In [0, 1], placed as :func:`best_threshold`'s. None where the images do not tell: fewer REAL ones than
        1 / rate (not one of them may be a false alarm then, and none among so few promises little), or so many of
        them with a score of exactly 1 that no threshold does it.

    Raises:
        UsageError: For an impossible rate; BddError for empty, mismatched or impossible input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if not 0 < rate < 1:
        raise UsageError(f"a rate of false alarms must lie between 0 and 1; got {rate:g}.")
    tally = _Tally.of(labels, scores)
    false = np.cumsum(tally.counts()[:, REAL])
    # A rate such as 0.07 of 100 images is 7.000000000000001 in floats, and may be 6.99...
    allowed = int(np.floor(rate * false[-1] + 1e-9))
    called = int(np.count_nonzero(false <= allowed))
    if not allowed or (not called and tally.values[0] == 1.0):
        return None
    edges = np.concatenate([[1.0], tally.values, [0.0]])
    return float(_between(edges[called + 1], edges[called]))


def at_thresholds(labels: Labels, scores: Scores, thresholds: dict[str, float | None]) -> dict[str, dict]:
    """What thresholds for rates of false alarms, chosen elsewhere, do on these images.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        thresholds: By rate, as text; None where there is none.

    Returns:
        By rate: ``threshold``, ``false_alarms`` (share of REAL called FAKE) and ``detected`` (share of FAKE called
        FAKE), all in [0, 1]; None where there is no threshold or the class is missing.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    found = {}
    for rate, threshold in thresholds.items():
        row = dict.fromkeys(("threshold", "false_alarms", "detected"))
        if threshold is not None:
            cells = confusion(labels, scores, threshold)
            real, fake = cells["true_real"] + cells["false_fake"], cells["true_fake"] + cells["false_real"]
            row = {
                "threshold": threshold,
                "false_alarms": cells["false_fake"] / real if real else None,
                "detected": cells["true_fake"] / fake if fake else None,
            }
        found[rate] = row
    return found


def _interval(samples: np.ndarray) -> list[float] | None:
    samples = samples[~np.isnan(samples)]
    return [float(v) for v in np.percentile(samples, (2.5, 97.5))] if len(samples) else None


def _resamples(images: int, bootstrap: int, seed: int):  # noqa: ANN202 (a generator of index arrays)
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
    """Every measure of a split at a threshold that was chosen elsewhere.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores from here on are called FAKE; in [0, 1].
        bootstrap: Resamples of the images for the intervals; 0: no intervals.
        seed: Of the resamples.

    Returns:
        ``images``, ``confusion`` (see :func:`confusion`), ``accuracy``, ``auc``, ``average_precision``,
        ``eer``, ``threshold``, ``accuracy_real``, ``accuracy_fake`` (plain numbers in [0, 1]; None where the
        class it needs is missing) and ``intervals``: for each measure the 2.5th and 97.5th percentile over
        the resamples in which it is defined (None where it never is). A measure that no image contradicts has
        an interval of no width, whatever N.

    Raises:
        BddError: For empty, mismatched or impossible input.
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
    """Measures per source (camera, generator ...).

    Args:
        groups: Name of each image's source, [N].
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores from here on are called FAKE; in [0, 1].

    Returns:
        By name, sorted: ``images``, ``real`` and ``fake`` (counts), ``accuracy``, and ``auc`` for sources
        that hold both classes. (A generator holds only FAKE images, so its accuracy is the share of them that
        was caught.)

    Raises:
        BddError: For empty, mismatched or impossible input.
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
        row = {
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
    seed: int = 0,
) -> dict:
    """All that ``metrics-SPLIT.json`` holds.

    Args:
        labels: 0 or 1, [N].
        scores: Fake probabilities in [0, 1], [N].
        threshold: Scores from here on are called FAKE; in [0, 1].
        leaked: Which images the training split holds too, bool [N]; None: not looked for.
        sources: Name of each image's source, [N]; None: unknown.
        about: What else to record (data set, split, parameters ...); may not name a key of :func:`evaluate`.
        bootstrap: See :func:`evaluate`.
        seed: See :func:`evaluate`.

    Returns:
        The keys of :func:`evaluate` and ``about``. With ``leaked``: ``leaked`` (how many) and
        ``deduplicated``, the keys of :func:`evaluate` without them (None where nothing is left). With more
        than one source: ``sources``, see :func:`evaluate_by`. ``notes``, sentences, where something is None.

    Raises:
        BddError: For empty, mismatched or impossible input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    measured = evaluate(labels, scores, threshold, bootstrap=bootstrap, seed=seed)
    reserved = {*measured, "leaked", "deduplicated", "sources", "notes"} & set(about or {})
    if reserved:
        raise ValueError(f"about may not name {sorted(reserved)}: these keys hold measures.")
    document = {**(about or {}), **measured}
    reason = why_undefined(labels)
    notes = [f"{reason}."] if reason else []
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
            document["deduplicated"] = evaluate(
                labels[keep], scores[keep], threshold, bootstrap=bootstrap, seed=seed
            )
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
    """Two detectors on the same images: is the difference more than chance?

    Args:
        labels: 0 or 1, [N].
        first: Fake probabilities of one detector in [0, 1], [N], of the same images in the same order.
        second: Those of the other.
        thresholds: Of the first and the second.
        bootstrap: Resamples; each draws the same images for both detectors (paired).
        seed: Of the resamples.

    Returns:
        ``images``; ``accuracy`` and ``auc``, each with ``first``, ``second``, ``difference`` (second - first)
        and ``interval`` (95 % of the difference); ``mcnemar`` with ``only_first_right``,
        ``only_second_right`` (images) and ``p_value`` (exact, two-sided).

    Raises:
        BddError: For empty, mismatched or impossible input.
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
    right = [(scores >= x) == (labels == FAKE) for scores, x in zip((first, second), thresholds, strict=True)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    document["mcnemar"] = {
        "only_first_right": only[0],
        "only_second_right": only[1],
        # Two detectors that never disagree give no evidence of a difference.
        "p_value": float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
    }
    return document


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")


def write_json(path: str | Path, document: dict | list) -> Path:
    """Write JSON (UTF-8, indented, strict: no NaN) atomically; NumPy numbers and arrays become plain ones.

    Returns:
        The path.

    Raises:
        ValueError: For NaN or infinity; nothing is written.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    # A file name that is no UTF-8 holds lone surrogates; backslashed, they are JSON's own escapes.
    write_atomically(Path(path), (text + "\n").encode("utf-8", "backslashreplace"))
    return Path(path)


def write_scores_csv(
    path: str | Path,
    paths: Sequence[str | Path],
    labels: Labels,
    scores: Scores,
) -> Path:
    """Write ``path,label,fake_probability`` (0 = REAL, 1 = FAKE), a line per image, atomically.

    Probabilities are written with as many digits as it takes to read the same float64 back.

    Returns:
        The path.

    Raises:
        BddError: For mismatched or impossible input.
    """
    labels, scores = _checked_probabilities(labels, scores)
    if len(paths) != len(labels):
        raise BddError(f"each image needs a path; got {len(paths)} paths for {len(labels)} images.")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(SCORE_COLUMNS)
    table.writerows((str(p), int(y), repr(float(s))) for p, y, s in zip(paths, labels, scores, strict=True))
    # File names on Linux are bytes; those that are no UTF-8 reach Python as surrogates and go back the same
    # way.
    write_atomically(Path(path), text.getvalue().encode("utf-8", "surrogateescape"))
    return Path(path)


def _score_text(path: Path) -> io.TextIOBase:
    if path.suffix != ".xz":
        return path.open(newline="", encoding="utf-8", errors="surrogateescape")
    # A few bytes can unpack to gigabytes: no more is unpacked than a table of a million images needs.
    with lzma.open(path) as file:
        content = file.read(SCORES_LIMIT + 1)
    if len(content) > SCORES_LIMIT:
        raise BddError(f"{path} unpacks to more than {SCORES_LIMIT:,} bytes: that is no table of scores.")
    return io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")


def read_scores_csv(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read what :func:`write_scores_csv` wrote, or the same compressed (``.xz``).

    Returns:
        Paths, labels (int64 [N]) and fake probabilities (float64 [N]).

    Raises:
        BddError: If the file is missing or damaged; names the line.
    """
    path = Path(path)
    paths, labels, scores = [], [], []
    try:
        with _score_text(path) as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header) != SCORE_COLUMNS:
                raise BddError(
                    f"{path} should begin with {','.join(SCORE_COLUMNS)}; it has {','.join(header)[:80]!r}."
                )
            for row in lines:
                try:
                    name, label, score = row
                    label, score = {"0": REAL, "1": FAKE}[label], float(score)
                    if not 0 <= score <= 1:
                        raise ValueError(score)
                except (ValueError, KeyError) as error:
                    raise BddError(
                        f"{path}, line {lines.line_num}: expected path, label (0 or 1) and probability; "
                        f"got {','.join(row)[:80]!r}."
                    ) from error
                paths.append(name)
                labels.append(label)
                scores.append(score)
    except FileNotFoundError as error:
        raise BddError(f"{path} does not exist; `make evaluate` writes it.") from error
    except (OSError, EOFError, lzma.LZMAError, csv.Error) as error:
        raise BddError(f"{path} cannot be read: {error}") from error
    return paths, np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64)
