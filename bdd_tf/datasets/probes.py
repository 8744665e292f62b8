"""Which shortcuts tell the classes apart: simple classifiers on exactly the pixels that the network gets.

Probes of a fold: (a) traces of JPEG coding, (b) original format and short side, (c) twenty pixel statistics, (d) a
16-pixel thumbnail, (e) real sources against each other. The first two must be at chance; nothing counts as detection
that does not exceed (c).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets import probe_features
from bdd_tf.datasets.balance import matched
from bdd_tf.datasets.degrade import draw
from bdd_tf.datasets.photo_batches import PhotoBatches
from bdd_tf.datasets.photos import Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError

Features = NDArray[np.float64]
#: Probes (a) and (b) may reach this balanced accuracy, in percent, before a data set is said to leak.
CHANCE = 53.0
#: Points by which (a) may exceed the same probe on crops without any trace of their files' coding, if that is more.
BEYOND_CONTROL = 2.0
FOLDS, _RESAMPLES = 5, 200
_MIN_IMAGES = 40


@dataclass(frozen=True)
class Logistic:
    """Ridge logistic regression on standardized features.

    Attributes:
        mean: float64 [D].
        deviation: float64 [D].
        weights: float64 [D' + 1], the bias last; D' counts the products too where ``quadratic``.
        quadratic: Whether products of features are features.
    """

    mean: Features
    deviation: Features
    weights: Features
    quadratic: bool

    @classmethod
    def fit(
        cls,
        x: Features,
        y: NDArray,
        quadratic: bool = False,
        ridge: float = 1.0,
        weights: Features | None = None,
    ) -> Logistic:
        """Newton's method from zero.

        Args:
            x: [N, D].
            y: [N], 0 or 1; the classes weigh alike whatever their numbers.
            quadratic: Add all squares and products.
            ridge: Penalty per standardized weight, in images.
            weights: [N], how much an image counts within its class; None: all alike.

        Returns:
            The fitted model.
        """
        importance = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
        importance = importance.copy()
        for label in (REAL, FAKE):
            importance[y == label] *= 0.5 * len(y) / importance[y == label].sum()
        mean = np.average(x, axis=0, weights=importance)
        deviation = np.sqrt(np.average(np.square(x - mean), axis=0, weights=importance)) + 1e-6
        z = _expanded((x - mean) / deviation, quadratic)
        found = np.zeros(z.shape[1])
        penalty = np.full(z.shape[1], ridge)
        penalty[-1] = 1e-6
        for _ in range(25):
            p = 1 / (1 + np.exp(-np.clip(z @ found, -30, 30)))
            gradient = z.T @ (importance * (p - y)) + penalty * found
            curvature = (z * (importance * p * (1 - p))[:, None]).T @ z + np.diag(penalty)
            step = np.linalg.solve(curvature, gradient)
            found -= step * min(1.0, 4.0 / (np.abs(step).max() + 1e-12))
            if np.abs(step).max() < 1e-4:
                break
        return cls(mean, deviation, found, quadratic)

    def scores(self, x: Features) -> Features:
        """Logits [N]; above 0 is class 1."""
        return _expanded((x - self.mean) / self.deviation, self.quadratic) @ self.weights


def _expanded(z: Features, quadratic: bool) -> Features:
    z = np.clip(z, -5, 5)
    parts = [z]
    if quadratic:
        rows, columns = np.triu_indices(z.shape[1])
        parts.append(z[:, rows] * z[:, columns])
    return np.hstack([*parts, np.ones((len(z), 1))])


@dataclass(frozen=True)
class Result:
    """What a probe reached.

    Attributes:
        probe: Its name.
        balanced_accuracy: In percent, at the logit 0.
        accuracy_interval: 95 % interval, resampled over contents.
        auc: Area under the ROC curve.
        auc_interval: Likewise.
        images: Scored images.
    """

    probe: str
    balanced_accuracy: float
    accuracy_interval: tuple[float, float]
    auc: float
    auc_interval: tuple[float, float]
    images: int

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)


def auc(scores: Features, labels: NDArray) -> float:
    """Area under the ROC curve, ties counted half; NaN where a class is missing."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels == FAKE
    n, m = int(positive.sum()), int((~positive).sum())
    if not (n and m):
        return float("nan")
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def balanced_accuracy(scores: Features, labels: NDArray) -> float:
    """Mean of both classes' shares of right signs, in percent; NaN where a class is missing."""
    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(50 * ((scores[labels == FAKE] > 0).mean() + (scores[labels == REAL] <= 0).mean()))


def result(name: str, scores: Features, labels: NDArray, contents: Sequence[str], seed: int = 0) -> Result:
    """Score a probe, with intervals resampled over contents: images of one prompt are no independent draws."""
    _, codes = np.unique(np.asarray(contents), return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    rng = np.random.default_rng([seed, 43])
    accuracies, areas = [], []
    for _ in range(_RESAMPLES):
        index = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        accuracies.append(balanced_accuracy(scores[index], labels[index]))
        areas.append(auc(scores[index], labels[index]))
    low, high = np.nanpercentile(accuracies, (2.5, 97.5))
    auc_low, auc_high = np.nanpercentile(areas, (2.5, 97.5))
    return Result(
        name,
        balanced_accuracy(scores, labels),
        (float(low), float(high)),
        auc(scores, labels),
        (float(auc_low), float(auc_high)),
        len(labels),
    )


@dataclass(frozen=True)
class Crops:
    """Crops as the network gets them, with what the manifest says about them.

    Attributes:
        images: uint8 [N, S, S, 3].
        photos: Their rows.
        short_sides: float64 [N], of the whole image in pixels at the scale of the crop.
        known: Features by probe, once computed.
    """

    images: NDArray[np.uint8]
    photos: list[Photo]
    short_sides: Features
    known: dict[str, Features] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N]."""
        return np.array([photo.label for photo in self.photos])

    @property
    def contents(self) -> list[str]:
        """Contents, one per crop."""
        return [photo.content for photo in self.photos]


def recoded_crops(batches: PhotoBatches, count: int) -> Crops:
    """The same images as :func:`training_crops`, all of them rescaled and coded: no file's own coding can be left.

    A probe for JPEG traces still finds texture in them. Only what it finds beyond that is a leak of coding.
    """
    given = batches.chain
    batches.chain = replace(given, rescale=1.0, hard=0.0, codec=1.0)
    try:
        return training_crops(batches, count)
    finally:
        batches.chain = given


def training_crops(batches: PhotoBatches, count: int, epoch: int = 0) -> Crops:
    """The first crops of a training epoch, pixel for pixel, and the short sides that their rescale led to."""
    count = min(count, batches.mixture.images_per_epoch)
    order = batches.order(epoch)[:count]
    step = min(128, count)
    count -= count % step
    images = []
    for x, _ in batches.train_batches(step, epoch):
        images.append(x)
        if len(images) * step >= count:
            break
    photos = [batches.fold.train[i] for i in order[:count]]
    factors = []
    for position, photo in enumerate(photos):
        height, width = batches.files("train").pixels(order[position]).shape[:2]
        rng = np.random.default_rng([batches.mixture.seed, epoch, position])
        factors.append(draw(rng, batches.chain, height, width, photo.short_side).factor)
    short = np.array([photo.short_side for photo in photos]) * np.array(factors)
    return Crops(np.concatenate(images), photos, short)


def evaluation_crops(batches: PhotoBatches, part: str, condition: str = "clean", match: bool = True) -> Crops:
    """Crops of a part under a condition; with ``match``, equally many of each size in both classes."""
    photos = batches.photos(part)
    index = matched(photos, batches.mixture.seed) if match else range(len(photos))
    chosen = [photos[i] for i in index]
    if not chosen:
        raise UsageError(f"no {part} images have a counterpart of the same size in the other class.")
    images = np.concatenate([x for x, _ in batches.eval_batches(part, 128, condition, list(index))])
    return Crops(images, chosen, np.array([photo.short_side for photo in chosen]))


def raw_crops(batches: PhotoBatches, count: int) -> Crops:
    """Training images as they are, the centre of each on its own JPEG grid, unbalanced: what degradation starts from."""
    photos, files, size = batches.fold.train, batches.files("train"), batches.chain.size
    chosen = np.random.default_rng([batches.mixture.seed, 47]).permutation(len(photos))[:count]
    images = []
    for i in chosen:
        pixels = files.pixels(i)
        top, left = ((side - size) // 2 // 8 * 8 for side in pixels.shape[:2])
        images.append(pixels[max(top, 0) : max(top, 0) + size, max(left, 0) : max(left, 0) + size])
    same = [i for i, image in enumerate(images) if image.shape[:2] == (size, size)]
    rows = [photos[chosen[i]] for i in same]
    return Crops(np.stack([images[i] for i in same]), rows, np.array([photo.short_side for photo in rows]))


@dataclass(frozen=True)
class Probe:
    """A classifier and what it looks at."""

    name: str
    features: Callable[[Crops], Features]
    quadratic: bool
    ridge: float = 1.0


PROBES = (
    Probe("a: JPEG traces", lambda crops: probe_features.jpeg_traces(crops.images), True, 10.0),
    Probe(
        "b: format and short side",
        lambda crops: probe_features.size_and_format(
            crops.short_sides, np.array([photo.format == "PNG" for photo in crops.photos])
        ),
        False,
    ),
    Probe("c: pixel statistics", lambda crops: probe_features.pixel_statistics(crops.images), True, 3.0),
    Probe("d: thumbnail", lambda crops: probe_features.thumbnails(crops.images), False, 30.0),
)
#: The probe that a network has to exceed.
STATISTICS = PROBES[2]
#: Probes that must be at chance.
AT_CHANCE = (PROBES[0].name, PROBES[1].name)


def _features(probe: Probe, crops: Crops) -> Features:
    """The probe's features, computed once per set of crops."""
    if probe.name not in crops.known:
        crops.known[probe.name] = probe.features(crops)
    return crops.known[probe.name]


def cross_validated(probe: Probe, crops: Crops) -> Result:
    """Fit on four fifths of the contents, score the rest, in turns."""
    x = _features(probe, crops)
    labels, scores = crops.labels, np.zeros(len(crops.photos))
    parts = np.array([part_of(photo) for photo in crops.photos])
    for part in range(FOLDS):
        out = parts == part
        if out.any() and len(np.unique(labels[~out])) == 2:
            scores[out] = Logistic.fit(x[~out], labels[~out], probe.quadratic, probe.ridge).scores(x[out])
    return result(probe.name, scores, labels, crops.contents)


def part_of(photo: Photo) -> int:
    """The part of a cross-validation, 0 to 4, in which an image's content is scored."""
    return int(hashlib.sha256(photo.content.encode()).hexdigest()[:8], 16) % FOLDS


def transferred(probe: Probe, fitted: Crops, scored: Crops) -> Result:
    """Fit on some crops and score others, e.g. of held-out families."""
    model = Logistic.fit(_features(probe, fitted), fitted.labels, probe.quadratic, probe.ridge)
    return result(probe.name, model.scores(_features(probe, scored)), scored.labels, scored.contents)


def real_against_real(crops: Crops) -> dict[str, float]:
    """AUC of pixel statistics for each real source against all others, cross-validated over contents.

    Args:
        crops: REAL and FAKE; only REAL are used. Their statistics are computed unless they are known.

    Returns:
        Source -> AUC, for sources of at least 40 crops, the most recognizable first.
    """
    real = [i for i, photo in enumerate(crops.photos) if photo.label == REAL]
    x = _features(STATISTICS, crops)[real]
    sources = np.array([crops.photos[i].source for i in real])
    parts = np.array([part_of(crops.photos[i]) for i in real])
    found = {}
    for source in sorted(set(sources)):
        labels = (sources == source).astype(int)
        if labels.sum() < _MIN_IMAGES:
            continue
        scores = np.zeros(len(labels))
        for part in range(FOLDS):
            out = parts == part
            if out.any() and labels[~out].any():
                scores[out] = Logistic.fit(x[~out], labels[~out], True, 3.0).scores(x[out])
        found[source] = auc(scores, labels)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def report(batches: PhotoBatches, count: int = 8192) -> dict:
    """All probes of a fold.

    Args:
        batches: The fold with its degradation.
        count: Training crops that are used.

    Returns:
        ``raw``, ``training``, ``recoded`` (only (a)), ``validation`` and, where something is held out, ``test``: lists of
        :meth:`Result.to_dict`; ``real_against_real``; ``leaks``: messages on probes that must be at chance and are
        not.
    """
    training = training_crops(batches, count)
    sections = {
        "raw": [cross_validated(probe, crops) for crops in (raw_crops(batches, count),) for probe in PROBES],
        "training": [cross_validated(probe, training) for probe in PROBES],
    }
    control = cross_validated(PROBES[0], recoded_crops(batches, count))
    sections["recoded"] = [control]
    for part in ("validation", "test"):
        if len({photo.label for photo in batches.photos(part)}) == 2:
            crops = evaluation_crops(batches, part)
            # (a) and (b) ask for leaks of this part itself, (c) and (d) for what carries over from training.
            sections[part] = [
                cross_validated(probe, crops)
                if probe.name in AT_CHANCE
                else transferred(probe, training, crops)
                for probe in PROBES
            ]
    limits = (max(CHANCE, control.balanced_accuracy + BEYOND_CONTROL), CHANCE)
    leaks = [
        f"{found.probe} reaches {found.balanced_accuracy:.1f} % in training; at most {limit:.1f} % is chance."
        for found, limit in zip(sections["training"], limits, strict=False)
        if found.balanced_accuracy > limit
    ]
    return {
        "hold_out": list(batches.fold.hold_out),
        "size": batches.chain.size,
        "seed": batches.mixture.seed,
        **{name: [found.to_dict() for found in results] for name, results in sections.items()},
        "real_against_real": real_against_real(training),
        "leaks": leaks,
    }


def table(found: dict) -> str:
    """A report as text, one line per section and probe."""
    held = ", ".join(found["hold_out"]) or "nothing"
    lines = [f"held out: {held}; crops of {found['size']} px"]
    for section in ("raw", "training", "recoded", "validation", "test"):
        for row in found.get(section, ()):
            low, high = row["accuracy_interval"]
            auc_low, auc_high = row["auc_interval"]
            lines.append(
                f"{section:11} {row['probe']:25} {row['balanced_accuracy']:5.1f} % [{low:.1f}, {high:.1f}]  "
                f"AUC {row['auc']:.3f} [{auc_low:.3f}, {auc_high:.3f}]  {row['images']} crops"
            )
    pairs = found["real_against_real"]
    if pairs:
        mean = sum(pairs.values()) / len(pairs)
        most = ", ".join(f"{name} {value:.2f}" for name, value in list(pairs.items())[:3])
        lines.append(f"e: real source against the other reals, AUC: mean {mean:.2f}; highest {most}")
    return "\n".join([*lines, *(f"LEAK: {leak}" for leak in found["leaks"])])
