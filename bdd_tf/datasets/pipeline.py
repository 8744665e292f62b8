"""From a data set's name to batches: the one input pipeline of training and evaluation."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bdd_tf.datasets import builders
from bdd_tf.datasets.index import Entry, assign_splits, counts, fingerprint, index
from bdd_tf.datasets.sources import records_of
from bdd_tf.edge.images import ResizeRule
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.legacy_keras import tf

import tensorflow_datasets as tfds  # isort: skip

AUGMENTATIONS = ("flip", "vflip", "rot90", "crop", "jitter")
#: Splits up to this size are kept in memory and shuffled perfectly; larger ones stream from disk.
MEMORY_BYTES = 2 * 1024**3
#: Encoded images that a streamed split shuffles over.
SHUFFLE_BUFFER = 20_000


def cache_folder() -> Path:
    """Where indexes, unpacked archives and prepared data are kept: ``BDD_CACHE``, or ``data/cache`` here."""
    return Path(os.environ.get("BDD_CACHE") or Path("data") / "cache")


@dataclass(frozen=True)
class Item:
    """An image of a prepared split.

    Attributes:
        path: Name within the data set.
        label: 0 = REAL, 1 = FAKE.
        source: Generator or camera; may be empty.
        pixel_hash: Hash of the original's decoded pixels.
    """

    path: str
    label: int
    source: str
    pixel_hash: str


class DataSet:
    """Indexed, split and prepared images.

    Args:
        name: The data set's name.
        entries: Its readable images with splits.
        skipped: Its unreadable ones.
        rule: The resize rule.
        cache: Where prepared data are kept.
    """

    def __init__(self, name: str, entries: list[Entry], skipped: list[Entry], rule: ResizeRule, cache: Path):
        self.name, self.rule, self.skipped = name, rule, skipped
        self.entries = entries
        self.fingerprint = fingerprint(entries)
        self.counts = counts(entries)
        self._arrays: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._files = {e.record.path.encode("utf-8", "backslashreplace").decode(): e.record.file for e in entries}
        config = builders.PreparedConfig(
            name=f"{self.fingerprint}-{rule.size}-{rule.shorter_side}-{rule.interpolation}",
            entries=tuple(entries),
            rule=rule,
        )
        self._builder = builders.BUILDERS[name](config=config, data_dir=str(cache / "prepared"))

    def prepare(self) -> None:
        """Resize and write every image once; a killed preparation starts again."""
        if not (Path(self._builder.data_path) / "dataset_info.json").is_file():
            print(
                f"preparing {len(self.entries)} images of {self.name} at {self.rule.size} px", file=sys.stderr
            )
            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
        self._builder.download_and_prepare()

    def size(self, split: str) -> int:
        """Number of images in a split."""
        return sum(self.counts[split].values()) if split in self.counts else 0

    def file(self, path: str) -> Path:
        """The original file of an item's path."""
        return self._files[path]

    def _examples(self, split: str, decode: bool = True, **options) -> tf.data.Dataset:  # noqa: ANN003
        if not self.size(split):
            raise UsageError(
                f"data set {self.name} has no images in split {split!r}; it has "
                + ", ".join(f"{s} ({self.size(s)})" for s in self.counts if self.size(s))
                + "."
            )
        return self._builder.as_dataset(
            split=split,
            decoders=None if decode else {"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, **options),
        )

    def items(self, split: str) -> list[Item]:
        """A split's images in the order of :meth:`eval_batches`."""
        return self._items(split)

    def _items(self, split: str) -> list[Item]:
        if split not in self._item_cache:
            self._item_cache[split] = [
                Item(e["path"].decode(), int(e["label"]), e["source"].decode(), e["pixel_hash"].decode())
                for e in tfds.as_numpy(self._examples(split, decode=False))
            ]
        return self._item_cache[split]

    @cached_property
    def _item_cache(self) -> dict[str, list[Item]]:
        return {}

    def in_memory(self, split: str) -> bool:
        """Whether a split fits :data:`MEMORY_BYTES`."""
        return self.size(split) * self.rule.size**2 * 3 <= MEMORY_BYTES

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """A whole split: uint8 images [n, S, S, 3] and float32 labels [n, 1], in the order of items."""
        if split not in self._arrays:
            count, side = self.size(split), self.rule.size
            images, labels = np.empty((count, side, side, 3), np.uint8), np.empty((count, 1), np.float32)
            start = 0
            for batch in tfds.as_numpy(self._examples(split).batch(512)):
                stop = start + len(batch["label"])
                images[start:stop], labels[start:stop, 0] = batch["image"], batch["label"]
                start = stop
            if start != count:
                raise BddError(
                    f"{count - start} images of {self.name} changed while they were being prepared; run again."
                )
            self._arrays[split] = images, labels
        return self._arrays[split]

    def train_batches(
        self, batch: int, *, seed: int, epoch: int, skip: int = 0, augment: tuple[str, ...] = ()
    ) -> tf.data.Dataset:
        """Batches of one epoch of the training split, in an order that seed and epoch determine.

        Args:
            batch: Images per batch; what is left over at the end is dropped.
            seed: Seed of order and augmentation.
            epoch: 0-based epoch.
            skip: Batches to leave out at the beginning; those that follow are the same as without.
            augment: Names from :data:`AUGMENTATIONS`.

        Returns:
            Batches of uint8 images [B, S, S, 3] and float32 labels [B, 1].

        Raises:
            UsageError: For an unknown augmentation.
        """
        for name in augment:
            if name not in AUGMENTATIONS:
                raise one_of("augmentation", name, AUGMENTATIONS)
        steps = self.size("train") // batch
        plain = self._memory_batches if self.in_memory("train") else self._streamed_batches
        batches = plain(batch, steps, seed, epoch, skip)
        if augment:
            numbers = tf.data.Dataset.range(skip, steps)
            batches = tf.data.Dataset.zip((batches, numbers)).map(
                lambda pair, number: (
                    augmented(pair[0], augment, tf.stack([tf.constant(seed, tf.int64), epoch * 1_000_003 + number])),
                    pair[1],
                ),
                num_parallel_calls=1,
                deterministic=True,
            )
        return batches.prefetch(4)

    def _memory_batches(self, batch: int, steps: int, seed: int, epoch: int, skip: int) -> tf.data.Dataset:
        images, labels = self.arrays("train")
        order = np.random.default_rng([seed, epoch]).permutation(len(images))[skip * batch : steps * batch]

        def pick(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return images[rows], labels[rows]

        def fetch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = tf.numpy_function(pick, [rows], (tf.uint8, tf.float32), stateful=False)
            return tf.ensure_shape(x, (batch, *images.shape[1:])), tf.ensure_shape(y, (batch, 1))

        return tf.data.Dataset.from_tensor_slices(order).batch(batch, drop_remainder=True).map(fetch)

    def _streamed_batches(self, batch: int, steps: int, seed: int, epoch: int, skip: int) -> tf.data.Dataset:
        mixed = int(np.random.default_rng([seed, epoch]).integers(2**31))
        examples = self._builder.as_dataset(
            split="train",
            shuffle_files=True,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(shuffle_seed=mixed, try_autocache=False),
        )
        side = self.rule.size

        def decode(png: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.io.decode_png(png, channels=3)
            return tf.ensure_shape(image, (side, side, 3)), tf.cast(label, tf.float32)[None]

        return (
            examples.map(lambda e: (e["image"], e["label"]))
            .shuffle(SHUFFLE_BUFFER, seed=mixed)
            .skip(skip * batch)
            .take((steps - skip) * batch)
            .map(decode, num_parallel_calls=2, deterministic=True)
            .batch(batch, drop_remainder=True)
        )

    def eval_batches(self, split: str, batch: int) -> tf.data.Dataset:
        """Batches of a split in fixed order, the last one as small as it comes; types as in training."""
        if self.in_memory(split) and split in self._arrays:
            examples = tf.data.Dataset.from_tensor_slices(self._arrays[split])
            return examples.batch(batch).prefetch(2)
        examples = self._examples(split).map(lambda e: (e["image"], tf.cast(e["label"], tf.float32)[None]))
        return examples.batch(batch).prefetch(2)

    def leaked(self, split: str = "test", into: tuple[str, ...] = ("train", "validation")) -> set[str]:
        """Pixel hashes of a split's images that are pixel-identical to images of other splits."""
        elsewhere = {e.pixel_hash for e in self.entries if e.record.split in into}
        return {e.pixel_hash for e in self.entries if e.record.split == split} & elsewhere


def augmented(images: tf.Tensor, names: tuple[str, ...], seed: tf.Tensor) -> tf.Tensor:
    """Randomly changed images, the same for the same seed.

    Args:
        images: uint8 [B, S, S, 3].
        names: Names from :data:`AUGMENTATIONS`: ``flip``, ``vflip`` (each for half of the images), ``rot90``
            (a quarter turn either way, for half), ``crop`` (up to S/8 of reflected margin), ``jitter``
            (brightness, contrast and saturation within 20 %).
        seed: int64 [2].

    Returns:
        uint8 [B, S, S, 3].
    """
    count, side = tf.shape(images)[0], images.shape[1]

    def uniform(salt: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        return tf.random.stateless_uniform([count, 1, 1, 1], seed + [0, salt * 7_919], low, high)

    if "flip" in names:
        images = tf.where(uniform(1) < 0.5, images[:, :, ::-1], images)
    if "vflip" in names:
        images = tf.where(uniform(2) < 0.5, images[:, ::-1], images)
    if "rot90" in names:
        turned, draw = tf.transpose(images, [0, 2, 1, 3]), uniform(3)
        images = tf.where(draw < 0.25, turned[:, ::-1], tf.where(draw < 0.5, turned[:, :, ::-1], images))
    if "crop" in names:
        margin = max(side // 8, 1)
        padded = tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]], mode="REFLECT")
        for axis, salt in ((1, 4), (2, 5)):
            offset = tf.cast(uniform(salt, 0, 2 * margin + 1)[:, 0, 0], tf.int32)
            padded = tf.gather(padded, offset + tf.range(side)[None], axis=axis, batch_dims=1) if axis == 1 else (
                tf.transpose(
                    tf.gather(
                        tf.transpose(padded, [0, 2, 1, 3]), offset + tf.range(side)[None], axis=1, batch_dims=1
                    ),
                    [0, 2, 1, 3],
                )
            )
        images = padded
    if "jitter" in names:
        x = tf.cast(images, tf.float32) * uniform(6, 0.8, 1.2)
        mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
        x = mean + (x - mean) * uniform(7, 0.8, 1.2)
        luma = tf.reduce_mean(x, axis=3, keepdims=True)
        x = luma + (x - luma) * uniform(8, 0.8, 1.2)
        images = tf.cast(tf.clip_by_value(tf.round(x), 0, 255), tf.uint8)
    return images


def load_dataset(
    name: str,
    *,
    rule: ResizeRule,
    data_dir: str | None = None,
    cache_dir: str | Path | None = None,
    validation_fraction: float = 0.05,
) -> DataSet:
    """Find, index, split and prepare a data set.

    Args:
        name: A name from ``bdd data list``.
        rule: How images become square.
        data_dir: Folder, archive or CSV; None where the data set has a source of its own.
        cache_dir: Where derived data are kept; None: :func:`cache_folder`.
        validation_fraction: Share of train held out where the source has no validation split.

    Returns:
        The data set, ready for batches.

    Raises:
        UsageError: For an unknown name, a bad path or layout, an empty class or split.
        BddError: For a bad archive or a failed download.
    """
    cache = Path(cache_dir) if cache_dir is not None else cache_folder()
    entries = index(records_of(name, data_dir, cache), cache)
    skipped = [e for e in entries if e.error]
    if skipped:
        shown = "".join(f"\n  {e.record.path}: {e.error}" for e in skipped[:5])
        more = f"\n  and {len(skipped) - 5} more (bdd data check lists them)" if len(skipped) > 5 else ""
        print(f"skipping {len(skipped)} unreadable images of {name}:{shown}{more}", file=sys.stderr)
    split = assign_splits(entries, validation_fraction)
    table = counts(split)
    for part in ("train", "test"):
        for label, word in enumerate(("REAL", "FAKE")):
            if not table[part][label]:
                raise UsageError(f"data set {name} has no readable {word} images in its {part} split.")
    data = DataSet(name, split, skipped, rule, cache)
    data.prepare()
    return data
