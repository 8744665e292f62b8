"""Sampling weights under which size, format and coding of an image say nothing about its class.

Both classes are raked (iterative proportional fitting; Deming and Stephan 1940) to the same margins: kind and short
side, original format, kind and JPEG quality. Within these margins families and sources are balanced.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.photos import OWN_DECODERS, Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError

Weights = NDArray[np.float64]
#: Lower edges of the bins of the short side, in pixels; the last bin is open.
SHORT_EDGES = (0, 181, 215, 256, 304, 362, 431, 512, 609, 724, 861)
#: From this short side on only reals abound; they get at most :data:`LARGE_SHARE` of the draws of their class.
LARGE, LARGE_SHARE = 1250, 0.015
#: Lower edges of the bins of estimated JPEG quality.
QUALITY_EDGES = (0, 84, 93)
#: Lower edges of the finer bins of an evaluation: an eighth of an octave from 140 px on, up to 4,096.
EVALUATION_EDGES = (0, *(128 * 2 ** (k / 8) for k in range(1, 41)))
#: In an evaluation a real image stands for at most so many fakes of a family.
MAX_FAKES_PER_REAL = 4
#: A bin that holds a smaller share of a class's images gets no draws in the other class.
MIN_SHARE = 0.003
#: No image is drawn more often than this multiple of its class's mean.
MAX_REPEAT = 6.0
_ROUNDS = 200


def _bin(edges: Sequence[float], value: float) -> int:
    return int(np.searchsorted(edges, value, side="right")) - 1


def short_stratum(photo: Photo) -> tuple[str, int]:
    """Kind and bin of the short side."""
    last = len(SHORT_EDGES) - (1 if photo.kind == "native" else 2)  # scaled images end at 900 px
    return photo.kind, min(_bin(SHORT_EDGES, photo.short_side), last)


def _margins(photo: Photo) -> tuple[object, ...]:
    quality = _bin(QUALITY_EDGES, photo.quality) if photo.quality else -1
    return short_stratum(photo), photo.format == "PNG", (photo.kind, quality)


def source_weights(photos: Sequence[Photo], family_power: float = 0.75, source_power: float = 0.5) -> Weights:
    """Weights that balance families, and sources within them, by powers of their sizes.

    Args:
        photos: Images of one class. A real source is a family of its own.
        family_power: A family of n images gets a share proportional to n to this power.
        source_power: Likewise for the sources of a family.

    Returns:
        float64 [n], sum 1.
    """
    families = Counter(photo.family or photo.source for photo in photos)
    sources = Counter((photo.family or photo.source, photo.source) for photo in photos)
    power = family_power if any(photo.family for photo in photos) else source_power
    inside: dict[str, float] = defaultdict(float)
    for (family, _), count in sources.items():
        inside[family] += count**source_power
    weights = np.empty(len(photos))
    for i, photo in enumerate(photos):
        family = photo.family or photo.source
        count = sources[family, photo.source]
        weights[i] = families[family] ** power * count**source_power / inside[family] / count
    return weights / weights.sum()


@dataclass(frozen=True)
class Balance:
    """Draw probabilities of a set of images.

    Attributes:
        weights: float64 [n]; sum 1 within each class; 0 for images that have no counterpart of the other class.
        effective: Effective number of images per class, ``{REAL: ..., FAKE: ...}`` (1 / sum of squares).
        unused: Images with weight 0 per class.
    """

    weights: Weights
    effective: dict[int, float]
    unused: dict[int, int]


def balance(photos: Sequence[Photo], own_decoder_share: float = 0.0, match: bool = True) -> Balance:
    """Weights that give both classes one distribution of size, format and coding quality.

    Args:
        photos: Images of both classes.
        own_decoder_share: Share of the FAKE draws that come from our own decoders, in [0, 1); half of it is the
            share of resampled photographs among the REAL draws.
        match: False: only balance the sources.

    Returns:
        The weights.

    Raises:
        UsageError: If a class is empty, the classes share no stratum, or the share is out of range.
    """
    if not 0 <= own_decoder_share < 1:
        raise UsageError(f"the share of own decoders must lie in [0, 1); got {own_decoder_share}.")
    rows = {
        label: np.array([i for i, photo in enumerate(photos) if photo.label == label])
        for label in (REAL, FAKE)
    }
    for label, word in ((REAL, "REAL"), (FAKE, "FAKE")):
        if not len(rows[label]):
            raise UsageError(f"there are no {word} images to balance.")
    shares = {REAL: own_decoder_share / 2, FAKE: own_decoder_share}
    base = {label: _base([photos[i] for i in rows[label]], shares[label]) for label in rows}
    weights = np.zeros(len(photos))
    if match:
        base = _rake(rows, base, photos, shares)
    for label, index in rows.items():
        weights[index] = base[label]
    return Balance(
        weights,
        {label: float(1 / (weights[index] ** 2).sum()) for label, index in rows.items()},
        {label: int((weights[index] == 0).sum()) for label, index in rows.items()},
    )


def _base(photos: list[Photo], own_share: float) -> Weights:
    """Source balance and the share of own decoders."""
    weights = np.zeros(len(photos))
    own = np.array([photo.family == OWN_DECODERS for photo in photos])
    for mask, share in ((own, own_share), (~own, 1 - own_share)):
        if mask.any() and share:
            part = [photo for photo, inside in zip(photos, mask, strict=True) if inside]
            weights[mask] = share * source_weights(part)
    return weights / weights.sum()


def _limit(weights: Weights, large: NDArray[np.bool_], repeat: float) -> Weights:
    """Weights of sum 1 with the shares of large images and of each single image capped."""
    weights = np.minimum(weights, repeat / np.count_nonzero(weights))
    share = weights[large].sum() / weights.sum()
    if LARGE_SHARE < share < 1:
        weights[large] *= LARGE_SHARE / share
    return weights / weights.sum()


def _share(weights: Weights, part: NDArray[np.bool_], share: float) -> None:
    """Give a part of the images its share, in place, where it has any."""
    have = weights[part].sum() / weights.sum()
    if 0 < have < 1:
        weights[part] *= share / have
        weights[~part] *= (1 - share) / (1 - have)


def _rake(
    rows: dict[int, NDArray], base: dict[int, Weights], photos: Sequence[Photo], shares: dict[int, float]
) -> dict[int, Weights]:
    """Both classes' weights, adjusted in turns to each common margin until they agree."""
    keys = [_margins(photo) for photo in photos]
    codes = []
    for margin in range(len(keys[0])):
        names = {name: code for code, name in enumerate(sorted({key[margin] for key in keys}, key=repr))}
        codes.append(np.array([names[key[margin]] for key in keys]))
    large = {label: np.array([photos[i].short_side >= LARGE for i in rows[label]]) for label in rows}
    own = {label: np.array([photos[i].family == OWN_DECODERS for i in rows[label]]) for label in rows}
    weights = _common(rows, base, codes)
    targets = [_target(rows, weights, code, large) for code in codes]
    for _ in range(_ROUNDS):
        for label in weights:
            # Limits first: the last word belongs to the margins, the short side's at the very end.
            weights[label] = _limit(weights[label], large[label], MAX_REPEAT)
            _share(weights[label], own[label], shares[label])
            for code, target in reversed(list(zip(codes, targets, strict=True))):
                bins = code[rows[label]]
                have = np.bincount(bins, weights[label], minlength=len(target))
                weights[label] *= np.divide(target, have, out=np.zeros_like(target), where=have > 0)[bins]
            weights[label] /= weights[label].sum()
    return weights


def _common(rows: dict[int, NDArray], base: dict[int, Weights], codes: list[NDArray]) -> dict[int, Weights]:
    """The base weights without images of a bin that is too rare in the other class."""
    weights = {label: base[label].copy() for label in base}
    for code in codes:
        size = int(code.max()) + 1
        for label in weights:
            other = FAKE if label == REAL else REAL
            counts = np.bincount(code[rows[other]][base[other] > 0], minlength=size)
            few = counts < max(MIN_SHARE * len(rows[other]), 1)
            weights[label][few[code[rows[label]]]] = 0
    for label, word in ((REAL, "REAL"), (FAKE, "FAKE")):
        if not weights[label].sum():
            raise UsageError(f"no {word} image has a size, format and quality that the other class has too.")
        weights[label] /= weights[label].sum()
    return weights


def _target(
    rows: dict[int, NDArray], weights: dict[int, Weights], code: NDArray, large: dict[int, NDArray[np.bool_]]
) -> Weights:
    """Shares of a margin's bins for both classes: their geometric mean, no more than either class can supply."""
    size = int(code.max()) + 1
    target = np.ones(size)
    supply = np.full(size, np.inf)
    for label, own in weights.items():
        bins = code[rows[label]]
        target *= np.sqrt(np.bincount(bins, own, minlength=size))
        used = (own > 0) & ~large[label]
        # A third of what the cap allows leaves room for the other margins.
        supply = np.minimum(supply, MAX_REPEAT / 3 * np.bincount(bins[used], minlength=size) / used.sum())
    return _capped(target / target.sum(), supply)


def _capped(shares: Weights, limit: Weights) -> Weights:
    """Shares of sum 1, none above its limit, the excess spread over the others."""
    for _ in range(len(shares)):
        shares = np.minimum(shares, limit)
        free = shares < limit
        missing = 1 - shares.sum()
        if missing <= 1e-9 or not shares[free].sum():
            break
        shares = np.where(free, shares * (1 + missing / shares[free].sum()), shares)
    return shares / shares.sum()


def evaluation_cell(photo: Photo) -> tuple[str, bool, int, int]:
    """Kind, whether the original is PNG, bin of the short side and bin of the JPEG quality: what an evaluation matches."""
    return (
        photo.kind,
        photo.format == "PNG",
        _bin(EVALUATION_EDGES, photo.short_side),
        _bin(QUALITY_EDGES, photo.quality),
    )


def _cells(photos: Sequence[Photo]) -> list[dict[int, list[int]]]:
    """Indices per class of each evaluation cell, cells in a fixed order."""
    cells: dict[tuple, dict[int, list[int]]] = defaultdict(lambda: {REAL: [], FAKE: []})
    for i, photo in enumerate(photos):
        cells[evaluation_cell(photo)][photo.label].append(i)
    return [cells[key] for key in sorted(cells)]


def matched(photos: Sequence[Photo], seed: int = 0) -> list[int]:
    """A part of the images in which both classes hold equally many of each kind, format, size and coding quality.

    For evaluation: a score that only reads these has AUC 0.5 on the images.

    Args:
        photos: Images of both classes.
        seed: Decides which images of the more frequent class stay.

    Returns:
        Their indices, rising.
    """
    rng = np.random.default_rng([seed, 41])
    chosen: list[int] = []
    for cell in _cells(photos):
        count = min(len(index) for index in cell.values())
        for label in (REAL, FAKE):
            chosen += [int(i) for i in rng.permutation(cell[label])[:count]]
    return sorted(chosen)


def matched_weights(photos: Sequence[Photo]) -> Weights:
    """Weights of an evaluation under which both classes have one joint distribution over the cells of :func:`matched`.

    Unlike a part of the images, weights keep all images of the cells that both classes have. Within a cell the
    sources of a class count alike. No real image stands for more than :data:`MAX_FAKES_PER_REAL` fakes.

    Args:
        photos: Images of both classes, e.g. one family and all real sources.

    Returns:
        float64 [n], sum 1 within each class; 0 for images without a counterpart; all 0 where there is no common cell.
    """
    sources = Counter((photo.label, photo.source) for photo in photos)
    base = np.array([1 / sources[photo.label, photo.source] for photo in photos])
    fakes = np.array([photo.label == FAKE for photo in photos], bool)
    if fakes.any():
        base[fakes] *= fakes.sum() / base[fakes].sum()
    weights = np.zeros(len(photos))
    for cell in _cells(photos):
        if not (cell[REAL] and cell[FAKE]):
            continue
        mass = min(base[cell[FAKE]].sum(), MAX_FAKES_PER_REAL * len(cell[REAL]))
        for index in cell.values():
            weights[index] = base[index] * mass / base[index].sum()
    for label in (REAL, FAKE):
        mine = fakes == (label == FAKE)
        if weights[mine].any():
            weights[mine] /= weights[mine].sum()
    return weights


def draw_order(weights: Weights, labels: NDArray, count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The images of an epoch: REAL and FAKE in turns, each as often as its weight says.

    Systematic sampling: an image of expected count 2.3 is drawn twice or three times.

    Args:
        weights: float64 [n], sum 1 within each class.
        labels: int [n], 0 = REAL, 1 = FAKE.
        count: Images of the epoch.
        seed: Seed of the run.
        epoch: 0-based.

    Returns:
        int64 [count], indices of images; even positions are REAL, odd ones FAKE.
    """
    order = np.empty(count, np.int64)
    for label in (REAL, FAKE):
        index = np.flatnonzero((labels == label) & (weights > 0))
        draws = (count + 1 - label) // 2
        rng = np.random.default_rng([seed, epoch, label, 17])
        index = index[rng.permutation(len(index))]
        edges = np.cumsum(weights[index])
        points = (rng.random() + np.arange(draws)) / max(draws, 1) * edges[-1]
        picked = index[np.minimum(np.searchsorted(edges, points, side="right"), len(index) - 1)]
        order[label::2] = picked[rng.permutation(draws)]
    return order
