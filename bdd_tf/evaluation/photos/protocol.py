"""The protocol: held-out and seen images under every condition, crops and whole images, beside what probes reach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.conditions import CONDITIONS
from bdd_tf.datasets.photo_batches import PhotoBatches
from bdd_tf.datasets.photos import Photo
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError, one_of
from bdd_tf.evaluation.photos.comparison import Comparison
from bdd_tf.evaluation.photos.measures import Numbers
from bdd_tf.evaluation.photos.scorers import Images, Scorer
from bdd_tf.runs import FALSE_ALARMS

#: False positive rate at which the threshold is chosen.
RATE = 0.05
#: Conditions and images per source of a quick evaluation.
QUICK_CONDITIONS, QUICK_IMAGES = ("clean", "jpeg70", "half"), 40
#: How :attr:`Threshold.chosen_on` begins where the threshold was given.
GIVEN = "given"
#: Fewest images on which a threshold for :data:`RATE` is chosen.
_FEWEST = 40
_BATCH = 128
Report = Callable[[str], None]
Watch = Callable[[str, str, Images], None]


@dataclass(frozen=True)
class Settings:
    """Size of an evaluation.

    Attributes:
        conditions: Keys of :data:`bdd_tf.datasets.conditions.CONDITIONS`.
        per_source: The most crops, and whole images, of a source; None: all.
        bootstrap: Resamples for the intervals.
        probe_crops: Training crops to which probes (c) and (d) are fitted.
        seed: Of crops and resamples.
        data_dir: Folder with ``whole.csv``; None: no whole images.
        given: A logit at which to report, e.g. the threshold of a file; None: chosen on the images.
        band: Logits of a band to report, e.g. that of a file; None: chosen on the images.
        report: Told what is done next.
    """

    conditions: tuple[str, ...] = tuple(CONDITIONS)
    per_source: int | None = None
    bootstrap: int = 200
    probe_crops: int = 4096
    seed: int = 0
    data_dir: str | None = None
    given: float | None = None
    band: tuple[float, float] | None = None
    report: Report = field(default=lambda text: None)

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: Names the value.
        """
        for condition in self.conditions:
            if condition not in CONDITIONS:
                raise one_of("condition", condition, tuple(CONDITIONS))
        if "clean" not in self.conditions:
            raise UsageError(
                f"the threshold is chosen on clean images; add clean to {', '.join(self.conditions)}."
            )


def half_of(photo: Photo) -> int:
    """0 or 1 by a hash of an image's content: thresholds are chosen on half 0 of some real images."""
    return int(hashlib.sha256(b"threshold:" + photo.content.encode()).hexdigest()[:8], 16) % 2


@dataclass(frozen=True)
class Threshold:
    """A logit at which at most 5 % of some real images are called FAKE.

    Attributes:
        logit: Logits at or above it are called FAKE.
        chosen_on: The images, in words.
        images: Their number.
        sources: Their sources, which count alike.
        part: ``test`` or ``validation``: whose half 0 chose it, and is left out of what is reported.
        others: Logits for the rates of :data:`bdd_tf.runs.FALSE_ALARMS`, chosen on the same images; None for a rate that
            they are too few to determine.
    """

    logit: float
    chosen_on: str
    images: int
    sources: tuple[str, ...]
    part: str
    others: dict[float, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {
            "logit": self.logit,
            "probability": float(1 / (1 + np.exp(-self.logit))),
            "false_positive_rate": RATE,
            "logits": {f"{rate:g}": logit for rate, logit in self.others.items()},
            "chosen_on": self.chosen_on,
            "images": self.images,
            "sources": list(self.sources),
            "reported_on": "the other half; no image that chose the threshold is counted at it",
        }


def lowest_threshold(logits: Numbers, sources: Sequence[str], rate: float = RATE) -> float:
    """The lowest logit at which at most a share of real images is called FAKE, every source counting alike.

    Args:
        logits: float64 [N] of REAL images, N at least 1.
        sources: Their sources [N].
        rate: In (0, 1).

    Returns:
        Between two neighbouring logits; above the highest one where even that must not be called FAKE.
    """
    names, codes, counts = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    weights = 1 / (len(names) * counts[codes])
    order = np.argsort(-logits, kind="stable")
    ranked, alarms = logits[order], np.cumsum(weights[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    allowed = int(np.count_nonzero(alarms[last] <= rate + 1e-9))
    values = ranked[last]
    if allowed == 0:
        return float(np.nextafter(values[0], np.inf))
    below = values[allowed] if allowed < len(values) else values[allowed - 1] - 1.0
    middle = (values[allowed - 1] + below) / 2
    return float(middle if below < middle <= values[allowed - 1] else values[allowed - 1])


def choose_threshold(
    photos: dict[str, list[Photo]], logits: dict[str, Numbers], kind: str, given: float | None = None
) -> Threshold:
    """Choose a threshold on half of the real images that training never saw, or of seen sources where too few are held out.

    Args:
        photos: ``test`` and ``validation`` -> images.
        logits: Their clean logits.
        kind: ``crops`` or ``whole images``, for the text.
        given: Use this logit; the images that would have chosen one are left out of the report all the same, since they
            chose the threshold of a run's file.

    Returns:
        The threshold.

    Raises:
        UsageError: If there are fewer than 40 such images of either kind.
    """
    for part, words in (
        ("test", "held-out real sources"),
        ("validation", "real sources that training saw (unseen contents)"),
    ):
        index = [i for i, p in enumerate(photos[part]) if p.label == REAL and half_of(p) == 0]
        if len(index) >= _FEWEST:
            sources = [photos[part][i].source for i in index]
            if given is not None:
                return Threshold(
                    given,
                    f"{GIVEN}: the threshold of the file",
                    len(index),
                    tuple(sorted(set(sources))),
                    part,
                )
            reals = logits[part][index]
            return Threshold(
                lowest_threshold(reals, sources),
                f"clean {kind}: the half of {words} that a hash of the content selects",
                len(index),
                tuple(sorted(set(sources))),
                part,
                {
                    rate: lowest_threshold(reals, sources, rate)
                    if len(reals) * rate >= _FEWEST * RATE
                    else None
                    for rate in FALSE_ALARMS
                },
            )
    raise UsageError(
        f"fewer than {_FEWEST} real {kind} in half of the held-out and half of the validation images: they cannot "
        f"determine a threshold at {100 * RATE:g} % false alarms; evaluate on more images."
    )


def reporting(photos: Sequence[Photo], threshold: Threshold, part: str) -> NDArray[np.bool_]:
    """bool [N]: which images of a part did not choose the threshold."""
    return np.array([part != threshold.part or p.label == FAKE or half_of(p) == 1 for p in photos], bool)


def chosen(photos: Sequence[Photo], per_source: int | None, seed: int) -> list[int]:
    """At most so many images of each source, drawn by a seed: rising indices."""
    if per_source is None:
        return list(range(len(photos)))
    taken: dict[str, int] = {}
    found = []
    for i in np.random.default_rng([seed, 59]).permutation(len(photos)):
        source = photos[i].source
        taken[source] = taken.get(source, 0) + 1
        if taken[source] <= per_source:
            found.append(int(i))
    return sorted(found)


def patch_shuffled(images: Images, seed: int, start: int = 0) -> Images:
    """Crops cut into 16 squares that change places: local traces stay, the subject goes.

    Args:
        images: uint8 [B, S, S, 3].
        seed: Of the permutations.
        start: Number of the first image, which seeds its own permutation.

    Returns:
        uint8 [B, S, S, 3]; a border of S modulo 4 pixels stays.
    """
    images = images.copy()
    side = images.shape[1] // 4
    for i, image in enumerate(images):
        order = np.random.default_rng([seed, start + i, 61]).permutation(16)
        inner = image[: 4 * side, : 4 * side].copy().reshape(4, side, 4, side, 3)
        squares = inner.transpose(0, 2, 1, 3, 4).reshape(16, side, side, 3)[order]
        image[: 4 * side, : 4 * side] = (
            squares.reshape(4, 4, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(4 * side, 4 * side, 3)
        )
    return images


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of two parts, by name, and which image of which part is in them.

    Attributes:
        made: Name -> comparison: ``held_out`` (held-out generators and cameras), ``seen`` (seen generators and
            cameras, unseen contents), ``seen_generators_unseen_cameras``. Those without both classes are missing.
        members: Name -> part and indices, in the comparison's order.
    """

    made: dict[str, Comparison]
    members: dict[str, list[tuple[str, NDArray[np.int64]]]]

    @classmethod
    def of(cls, photos: dict[str, list[Photo]], threshold: Threshold, settings: Settings) -> Comparisons:
        """Divide the images of ``test`` and ``validation``."""

        def of_class(part: str, label: int) -> tuple[str, NDArray[np.int64]]:
            return part, np.flatnonzero(np.array([p.label for p in photos[part]], int) == label)

        fakes = {part: of_class(part, FAKE) for part in photos}
        reals = {part: of_class(part, REAL) for part in photos}
        unseen = reals["test"] if len(reals["test"][1]) else reals["validation"]
        wanted = {
            "held_out": [unseen, fakes["test"]],
            "seen": [reals["validation"], fakes["validation"]],
            "seen_generators_unseen_cameras": [reals["test"], fakes["validation"]],
        }
        made, members = {}, {}
        for name, sides in wanted.items():
            if not all(len(index) for _, index in sides):
                continue
            rows = [photos[part][i] for part, index in sides for i in index]
            free = np.concatenate([reporting(photos[part], threshold, part)[index] for part, index in sides])
            made[name] = Comparison(rows, free, settings.bootstrap, settings.seed)
            members[name] = sides
        return cls(made, members)

    def measured(self, logits: dict[str, Numbers], threshold: float) -> dict:
        """Comparison -> :meth:`bdd_tf.evaluation.photos.comparison.Comparison.measured` of logits per part."""
        return {name: made.measured(self.values(name, logits), threshold) for name, made in self.made.items()}

    def values(self, name: str, of: dict[str, Numbers]) -> Numbers:
        """Values per part, in the order of a comparison's images."""
        return np.concatenate([of[part][index] for part, index in self.members[name]])


def crop_logits(
    scorer: Scorer,
    batches: PhotoBatches,
    index: dict[str, list[int]],
    condition: str,
    settings: Settings,
    watch: Watch | None = None,
) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    """Logits of the crops of both parts under a condition.

    Args:
        scorer: The detector.
        batches: The fold.
        index: Part -> indices of its images.
        condition: A key of :data:`bdd_tf.datasets.conditions.CONDITIONS`.
        settings: Of the evaluation.
        watch: Called with part, condition and crops of each batch.

    Returns:
        Part -> float64 [N]; and the same for patch-shuffled crops, only under ``clean``, else empty.
    """
    found: dict[str, Numbers] = {}
    shuffled: dict[str, Numbers] = {}
    for part, chosen_index in index.items():
        settings.report(f"crops, {condition}: {len(chosen_index)} of {part}")
        plain, mixed, start = [np.empty(0)], [np.empty(0)], 0
        for images, _ in batches.eval_batches(part, _BATCH, condition, chosen_index):
            plain.append(scorer(images))
            if watch is not None:
                watch(part, condition, images)
            if condition == "clean":
                mixed.append(scorer(patch_shuffled(images, settings.seed, start)))
            start += len(images)
        found[part] = np.concatenate(plain)
        if condition == "clean":
            shuffled[part] = np.concatenate(mixed)
    return found, shuffled


@dataclass(frozen=True)
class Scored:
    """The crops of an evaluation with their logits.

    Attributes:
        photos: Part -> images.
        logits: Condition -> part -> logits; ``clean`` first.
        shuffled: Part -> logits of patch-shuffled clean crops.
        threshold: Chosen on clean crops.
        comparisons: Of the parts' images.
    """

    photos: dict[str, list[Photo]]
    logits: dict[str, dict[str, Numbers]]
    shuffled: dict[str, Numbers]
    threshold: Threshold
    comparisons: Comparisons


def score_crops(
    scorer: Scorer, batches: PhotoBatches, settings: Settings, watch: Watch | None = None
) -> Scored:
    """Score crops of held-out and of validation images under every condition, and choose the threshold.

    Args:
        scorer: The detector; its size must be that of the batches' crops.
        batches: The fold.
        settings: Of the evaluation.
        watch: Called with part, condition and crops of each batch.

    Returns:
        Images, logits, threshold and comparisons.

    Raises:
        UsageError: For another size, or where no comparison has both classes.
    """
    if scorer.size != batches.chain.size:
        raise UsageError(f"{scorer.name} scores crops of {scorer.size} px, not of {batches.chain.size} px.")
    index = {
        part: chosen(batches.photos(part), settings.per_source, settings.seed)
        for part in ("test", "validation")
    }
    photos = {part: [batches.photos(part)[i] for i in index[part]] for part in index}
    logits: dict[str, dict[str, Numbers]] = {}
    shuffled: dict[str, Numbers] = {}
    for condition in ("clean", *(name for name in settings.conditions if name != "clean")):
        logits[condition], mixed = crop_logits(scorer, batches, index, condition, settings, watch)
        shuffled = mixed or shuffled
    threshold = choose_threshold(photos, logits["clean"], "crops", settings.given)
    comparisons = Comparisons.of(photos, threshold, settings)
    if not comparisons.made:
        raise UsageError(
            "neither the held-out nor the validation images hold both classes; give a folder whose manifest lists "
            "REAL and FAKE images of the split validation."
        )
    return Scored(photos, logits, shuffled, threshold, comparisons)
