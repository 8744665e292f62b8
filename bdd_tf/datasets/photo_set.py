"""The data set ``photos`` for training and evaluation: drawn and degraded crops, with the interface of a `DataSet`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bdd_tf.datasets.balance import matched
from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.folds import Fold
from bdd_tf.datasets.index import Entry
from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
from bdd_tf.datasets.photos import OWN_DECODERS, Photo
from bdd_tf.datasets.pipeline import Item
from bdd_tf.datasets.share import WHOLE, Share
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf

#: Conditions of validation during training; a third of the images each (:mod:`bdd_tf.datasets.conditions`).
VALIDATION_CONDITIONS = ("clean", "jpeg70", "half")
TEST_CONDITIONS = ("clean",)
Names = tuple[str, ...]


class PhotoDataSet:
    """Crops of one fold.

    The test split holds the images of held-out families and sources; validation holds seen sources with unseen
    contents. In both, the classes have equally many images of each kind and size.

    Args:
        batches: The fold, its degradation and its draws.

    Attributes:
        name: ``photos``.
        rule: The rule of one crop, which leaves it as it is.
        counts: Images per split and class; of ``train``, those that one epoch draws.
        fingerprint: Hash of the manifest's rows and of the fold.
        skipped: Unreadable images: none, since an archive with one is refused.
    """

    name = "photos"

    def __init__(self, batches: PhotoBatches):
        self.batches = batches
        self.rule = ResizeRule.native(batches.chain.size)
        self.skipped: list[Entry] = []
        fold, seed = batches.fold, batches.mixture.seed
        self._chosen = {part: self._matched(fold, part, seed) for part in ("validation", "test")}
        half = batches.mixture.images_per_epoch // 2
        self.counts = {"train": {REAL: batches.mixture.images_per_epoch - half, FAKE: half}}
        for part, chosen in self._chosen.items():
            labels = Counter(batches.photos(part)[i].label for i in chosen)
            self.counts[part] = {REAL: labels[REAL], FAKE: labels[FAKE]}
        digest = hashlib.sha256(repr(fold.hold_out).encode())
        for photo in (*fold.train, *fold.validation, *fold.test):
            digest.update(repr(photo).encode())
        self.fingerprint = digest.hexdigest()[:16]

    @property
    def loader_threads(self) -> int:
        """Threads that decode and degrade images; the batches do not depend on it."""
        return self.batches.workers

    @loader_threads.setter
    def loader_threads(self, threads: int) -> None:
        self.batches.workers = threads

    @staticmethod
    def _matched(fold: Fold, part: str, seed: int) -> list[int]:
        photos = getattr(fold, part)
        if len({photo.label for photo in photos}) < 2:
            return []
        return matched(photos, seed)

    def size(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(self.counts.get(split, {}).values())

    def train_batches(
        self, batch: int, *, seed: int, epoch: int, skip: int = 0, augment: Names = (), share: Share = WHOLE
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yield the batches of an epoch: uint8 images [B, S, S, 3] and float32 labels [B, 1].

        Args:
            batch: Images per batch; an incomplete last batch is dropped.
            seed: The seed of the fold's draws.
            epoch: 0-based epoch.
            skip: Number of batches of all workers to skip; the remaining ones do not depend on it.
            augment: Must be empty: the degradation includes flips, turns and jitter.
            share: Part of one of several workers.

        Raises:
            UsageError: For augmentations, another seed, or a batch, epoch or skip that is out of range.
        """
        if augment or seed != self.batches.mixture.seed:
            raise UsageError(
                f"data set photos has its own augmentation and seed {self.batches.mixture.seed}; got {augment}, {seed}."
            )
        for images, labels in self.batches.train_batches(batch, epoch, skip, share):
            yield tf.constant(images), tf.constant(labels)

    def eval_batches(
        self, split: str, batch: int, share: Share = WHOLE
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yield the batches of a split in the order of :meth:`items`.

        Raises:
            UsageError: If the split has no images.
        """
        for condition, index in self._parts(split):
            for images, labels in self.batches.eval_batches(split, batch, condition, index, share):
                yield tf.constant(images), tf.constant(labels)
            share = share.after(-(-len(index) // batch))

    def items(self, split: str) -> list[Item]:
        """Return a split's images in the order of :meth:`eval_batches`."""
        photos = self.batches.photos(split)
        chosen = [photos[i] for _, index in self._parts(split) for i in index]
        return [Item(p.path, p.label, p.family or p.source, p.group or p.path) for p in chosen]

    def _parts(self, split: str) -> list[tuple[str, list[int]]]:
        """Conditions of a split, each with the images that are seen under it."""
        if split not in self._chosen or not self._chosen[split]:
            held = "nothing is held out" if split == "test" else "it has no images of both classes there"
            raise UsageError(f"data set photos has no split {split} for evaluation: {held}.")
        conditions = VALIDATION_CONDITIONS if split == "validation" else TEST_CONDITIONS
        chosen = self._chosen[split]
        return [(condition, chosen[k :: len(conditions)]) for k, condition in enumerate(conditions)]

    def file(self, path: str) -> Path:
        """Return the file of an item."""
        return self.batches.root(path) / path

    def leaked(self, split: str = "test", into: tuple[str, ...] = ("train", "validation")) -> set[str]:
        """Return the groups of a split that other splits also hold: none, since a fold divides by content."""
        return set()

    def training_crops(self, count: int) -> np.ndarray:
        """Sample crops that detection could cut from the training images, for the out-of-distribution check.

        Args:
            count: Number of crops.

        Returns:
            uint8 [N, S, S, 3], N at most ``count``: images drawn with the weights of training, under the conditions of
            validation in turns.
        """
        batches = self.batches
        own = [photo.family == OWN_DECODERS for photo in batches.fold.train]
        order = [int(i) for i in dict.fromkeys(batches.order(0)) if not own[i]][:count]
        parts = [
            images
            for k, condition in enumerate(VALIDATION_CONDITIONS)
            for images, _ in batches.eval_batches(
                "train", 256, condition, order[k :: len(VALIDATION_CONDITIONS)]
            )
        ]
        return np.concatenate(parts)

    def native_sides(self) -> tuple[int, int]:
        """Return the least and the largest short side of the whole training images, at their crops' scale."""
        sides = [_short(photo) for photo in self.batches.fold.train]
        return min(sides), max(sides)


def _short(photo: Photo) -> int:
    return max(round(photo.short_side), 1)


def photo_set(data_dir: str | None, mixture: Mixture, chain: Degradation) -> PhotoDataSet:
    """Open the data set ``photos``.

    Args:
        data_dir: Folder with ``manifest.csv``.
        mixture: The fold and the draws.
        chain: The degradation of training; its ``size`` is the side of all crops in pixels.

    Raises:
        UsageError: Without a folder, for a damaged manifest, unknown names and impossible values.
    """
    if data_dir is None:
        raise UsageError(
            "data set photos needs --data-dir: a folder with manifest.csv and its images (docs/photos.md)."
        )
    return PhotoDataSet(PhotoBatches(data_dir, mixture, chain))
