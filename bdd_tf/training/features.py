"""Features of a frozen backbone, computed once and kept on disk: a linear probe then trains on features alone.

The recipe of Amoroso et al. (arXiv 2304.00500): a linear classifier on the features of a pretrained network. The backbone sees
each image once, whatever the number of epochs. The cache (``features`` in the cache folder) is keyed by the data, the weights and
the preprocessing; it is filled in parts, each written atomically, so that an interrupted computation goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bdd_tf.config import PHOTOS, Experiment
from bdd_tf.console import progress_bar, say
from bdd_tf.datasets.pipeline import DataSet, epoch_order
from bdd_tf.datasets.share import WHOLE, Share
from bdd_tf.files import cache_folder, replace_atomically
from bdd_tf.legacy_keras import tf

#: Images of a part of the cache: the most that an interruption loses.
PART = 1024
#: Images that the backbone sees at a time.
BATCH = 32
#: Version of the cached values. Increase it when a change makes them stale.
_EDITION = 1


def caches_features(config: Experiment) -> bool:
    """Whether the features of an experiment are the same in each epoch, and may be cached.

    The backbone is frozen, no adapter in front of it is trained, and images are not augmented.
    """
    return (
        config.cache_features
        and config.freeze
        and config.channels == ("rgb",)
        and config.stem == "adapter"
        and not config.augment
        and config.dataset != PHOTOS
    )


def probe_of(model: tf.keras.Model) -> tf.keras.Model:
    """Make the classifier of a detector as a network of its own, with a copy of its weights.

    Args:
        model: A detector.

    Returns:
        Features float32 [N, C] -> ``fake_probability`` [N, 1]; the layers ``logit`` and ``fake_probability`` as in a detector.
    """
    layer = model.get_layer("logit")
    features = tf.keras.Input(layer.input.shape[1:], dtype=tf.float32, name="features")
    logit = tf.keras.layers.Dense(1, name="logit", dtype=tf.float32)(features)
    probe = tf.keras.Model(
        features, tf.keras.layers.Activation("sigmoid", name="fake_probability")(logit), name="probe"
    )
    probe.get_layer("logit").set_weights(layer.get_weights())
    return probe


def weights_digest(model: tf.keras.Model) -> str:
    """Return the SHA-256 of a detector's weights in front of its classifier."""
    digest = hashlib.sha256()
    classifier = {id(weight) for weight in model.get_layer("logit").weights}
    for weight in model.weights:
        if id(weight) not in classifier:
            digest.update(str(tuple(weight.shape)).encode())
            digest.update(weight.numpy().astype(np.float32).tobytes())
    return digest.hexdigest()


class FeatureData:
    """The features of a data set's images, in place of the images.

    Args:
        data: The data set.
        model: A detector; its backbone makes the features.
        config: Its experiment.

    Attributes:
        counts: As of the data set.
        folder: Folder of the cached parts.
    """

    def __init__(self, data: DataSet, model: tf.keras.Model, config: Experiment):
        self.data, self.counts = data, data.counts
        self._network = tf.keras.Model(model.input, model.get_layer("logit").input)
        self._width = int(self._network.output_shape[-1])
        self._run = tf.function(
            lambda x: tf.cast(self._network(x, training=False), tf.float32), autograph=False
        )
        key = {
            "edition": _EDITION,
            "data": data.fingerprint,
            "rule": dataclasses.asdict(data.rule),
            "weights": weights_digest(model),
            **{k: getattr(config, k) for k in ("backbone", "resolution", "statistics", "mixed_precision")},
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = cache_folder() / "features" / f"{config.backbone}-{name}"
        self._loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def size(self, split: str) -> int:
        """Return the number of images in a split."""
        return self.data.size(split)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the features float32 [N, C] and labels float32 [N, 1] of a split, in the order of the data set's items."""
        if split not in self._loaded:
            self._fill(split)
            parts = [self._read(split, first) for first in range(0, self.size(split), PART)]
            labels = np.array([[item.label] for item in self.data.items(split)], np.float32)
            self._loaded[split] = np.concatenate([p for p in parts if p is not None]), labels
        return self._loaded[split]

    def _file(self, split: str, first: int) -> Path:
        return self.folder / f"{split}-{first:08d}.npy"

    def _read(self, split: str, first: int) -> np.ndarray | None:
        """Return a part of the cache; None if it is missing or damaged."""
        path, rows = self._file(split, first), min(PART, self.size(split) - first)
        try:
            # Sizes are compared before NumPy allocates what a damaged header states.
            if not 0 <= path.stat().st_size - 4 * rows * self._width <= 4096:
                return None
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        fits = found.dtype == np.float32 and found.shape == (rows, self._width)
        return found if fits and np.isfinite(found).all() else None

    def _fill(self, split: str) -> None:
        """Compute the parts that are missing."""
        count = self.size(split)
        missing = [first for first in range(0, count, PART) if self._read(split, first) is None]
        if not missing:
            say(f"features of {count} {split} images are in {self.folder}")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        start = missing[0]
        with progress_bar(count, "img", f"features of {split}", initial=start) as bar:
            kept: list[np.ndarray] = []
            for features in self._computed(split, start, set(missing)):
                kept.append(features)
                done = sum(map(len, kept))
                bar.update(len(features))
                if done == min(PART, count - start):
                    if start in missing:
                        with replace_atomically(self._file(split, start), ".npy", follow=False) as temporary:
                            np.save(temporary, np.concatenate(kept))
                    start, kept = start + done, []

    def _computed(self, split: str, start: int, missing: set[int]) -> Iterator[np.ndarray]:
        """Yield the features of each batch from image `start` on; zeros where a part is there already."""
        batches = self.data.eval_batches(split, BATCH).skip(start // BATCH)
        for number, (images, _) in enumerate(batches):
            first = (start + number * BATCH) // PART * PART
            if first in missing:
                yield self._run(images).numpy()
            else:
                yield np.zeros((len(images), self._width), np.float32)

    def train_batches(
        self,
        batch: int,
        *,
        seed: int,
        epoch: int,
        skip: int = 0,
        augment: tuple[str, ...] = (),
        share: Share = WHOLE,
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yield an epoch's batches in the order in which the data set yields its images from memory.

        Args:
            batch: Images per batch; an incomplete last batch is dropped.
            seed: Seed of the order.
            epoch: 0-based epoch.
            skip: Number of batches to skip.
            augment: Empty.
            share: Part of one of several workers.

        Yields:
            Features float32 [B, C] and labels float32 [B, 1].
        """
        assert not augment
        features, labels = self.arrays("train")
        steps = range(skip, share.batches(len(features), batch))
        for rows in epoch_order(len(features), batch, steps, seed=seed, epoch=epoch, share=share):
            yield tf.constant(features[rows]), tf.constant(labels[rows])

    def eval_batches(
        self, split: str, batch: int, share: Share = WHOLE
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yield a split's batches in order; the last one may be smaller. Types as in :meth:`train_batches`."""
        features, labels = self.arrays(split)
        for first in share.of(range(0, len(features), batch)):
            yield tf.constant(features[first : first + batch]), tf.constant(labels[first : first + batch])
