"""The input pipeline of training and evaluation, from a data set's name to batches."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from absl import logging

from bdd_tf.console import say
from bdd_tf.datasets import augment as augmenting
from bdd_tf.datasets import builders
from bdd_tf.datasets.class_names import Location
from bdd_tf.datasets.index import SPLITS, Entry, assign_splits, counts, fingerprint, index
from bdd_tf.datasets.shards import default_processes, stored_path
from bdd_tf.datasets.share import WHOLE, Share, check_batch
from bdd_tf.datasets.sources import NEEDED, records_of
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.labels import LABELS
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.files import cache_folder, locked, write_atomically
from bdd_tf.legacy_keras import tf

import tensorflow_datasets as tfds  # isort: skip

#: Splits up to this size are held in memory and shuffled completely; larger ones are streamed from disk.
MEMORY_BYTES = 2 * 1024**3
#: Shuffle buffer of a streamed split, in encoded images; smaller if the buffer would exceed a quarter of MEMORY_BYTES. A
#: small buffer suffices because the images are stored in the order of a hash, with the classes mixed.
SHUFFLE_BUFFER = 20_000
_FILES = "files.json"


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


@tf.autograph.experimental.do_not_convert
def _image_and_label(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    return example["image"], tf.cast(example["label"], tf.float32)[None]


class DataSet:
    """Indexed, split and prepared images.

    Args:
        name: The data set's name.
        entries: Its readable images with splits.
        skipped: Its unreadable ones.
        rule: The resize rule.
        cache: Folder for prepared data.

    Attributes:
        counts: Images per split and class, ``{"train": {REAL: n, FAKE: m}, ...}``.
        fingerprint: Hash of names, labels, splits and file contents.
        skipped: The unreadable images, each with its ``error``.
        loader_threads: Threads that decode and augment training images; the batches do not depend on it.
    """

    loader_threads = 2

    def __init__(self, name: str, entries: list[Entry], skipped: list[Entry], rule: ResizeRule, cache: Path):
        self.name, self.rule, self.skipped = name, rule, skipped
        self.entries = entries
        self.fingerprint = fingerprint(entries)
        self.counts = counts(entries)
        self._arrays: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._items: dict[str, list[Item]] = {}
        self._files: dict[str, Path] = {}
        self._prepared = cache / "prepared"
        self._config = builders.PreparedConfig(
            name=f"{self.fingerprint}-{rule.size}-{rule.shorter_side}-{rule.interpolation}",
            entries=tuple(entries),
            rule=rule,
        )
        self._builder = self._new_builder()

    def _new_builder(self) -> tfds.core.GeneratorBasedBuilder:
        # tfds warns of every configuration that is not in its catalogue.
        level = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            return builders.BUILDERS[self.name](config=self._config, data_dir=str(self._prepared))
        finally:
            logging.set_verbosity(level)

    @property
    def folder(self) -> Path:
        """Folder of the prepared images."""
        return Path(self._builder.data_path)

    def is_prepared(self) -> bool:
        """Return whether the preparation is complete and the files still have their sizes."""
        try:
            sizes = json.loads((self.folder / _FILES).read_text())
            return all((self.folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, AttributeError):
            return False

    def prepare(self, processes: int | None = None) -> None:
        """Resize and write every image, unless this was done before. An incomplete preparation is deleted.

        Args:
            processes: Processes that do it, at least 1; None: all cores for many images. The result does not depend on it.

        Raises:
            BddError: If a file changes in the meantime, or the disk is full.
        """
        if self.is_prepared():
            return
        with locked(self._prepared / self.name / f".{self._config.name}.lock"):
            if self.is_prepared():  # by the process that held the lock, since this builder was made
                self._builder = self._new_builder()
                return
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            self._config.processes = processes or default_processes(len(self.entries))
            self._builder = self._new_builder()
            several = f" by {self._config.processes} processes" if self._config.processes > 1 else ""
            say(f"preparing {len(self.entries)} images of {self.name} at {self.rule.size} px{several}")
            tfds.disable_progress_bar()  # the builder has its own
            settings = tfds.download.DownloadConfig(try_download_gcs=False, compute_stats="skip")
            try:
                # tfds prints messages on standard output, which is reserved for results.
                with contextlib.redirect_stdout(io.StringIO()):
                    self._builder.download_and_prepare(
                        download_dir=str(self._prepared / ".downloads"), download_config=settings
                    )
            except BddError:
                raise
            except (OSError, tf.errors.OpError) as error:
                raise BddError(f"{self.name} cannot be prepared in {self._prepared}: {error}.") from error
            finally:
                shutil.rmtree(self._prepared / ".downloads", ignore_errors=True)
            # Written last: it marks the preparation as complete.
            sizes = {p.name: p.stat().st_size for p in sorted(self.folder.iterdir())}
            write_atomically(self.folder / _FILES, json.dumps(sizes, indent=1).encode())

    def size(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(self.counts[split].values()) if split in self.counts else 0

    def file(self, path: str) -> Path:
        """Return the original file of an item."""
        if not self._files:
            self._files = {stored_path(e.record): e.record.file for e in self.entries}
        return self._files[path]

    def _examples(
        self, split: str, *, decode: bool = True, shuffle_files: bool = False, shuffle_seed: int | None = None
    ) -> tf.data.Dataset:
        if not self.size(split):
            raise UsageError(
                f"data set {self.name} has no images in split {split!r}; it has "
                + ", ".join(f"{s} ({self.size(s)})" for s in self.counts if self.size(s))
                + "."
            )
        return self._builder.as_dataset(
            split=split,
            decoders=None if decode else {"image": tfds.decode.SkipDecoding()},
            shuffle_files=shuffle_files,
            read_config=tfds.ReadConfig(try_autocache=False, shuffle_seed=shuffle_seed),
        )

    def items(self, split: str) -> list[Item]:
        """Return a split's images in the order of :meth:`eval_batches`."""
        if split not in self._items:
            examples = tfds.as_numpy(self._examples(split, decode=False))
            self._items[split] = [
                Item(e["path"].decode(), int(e["label"]), e["source"].decode(), e["pixel_hash"].decode())
                for e in self._read(examples)
            ]
        return self._items[split]

    def _read(self, examples: Iterator) -> Iterator:
        try:
            yield from examples
        except tf.errors.OpError as error:
            raise BddError(
                f"{self.folder} is damaged ({error.message}); remove it and run the same command again."
            ) from error

    def in_memory(self, split: str) -> bool:
        """Return whether a split fits into :data:`MEMORY_BYTES`."""
        return self.size(split) * self.rule.size**2 * 3 <= MEMORY_BYTES

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Load a whole split: uint8 images [N, S, S, 3] and float32 labels [N, 1], in the order of :meth:`items`."""
        if split not in self._arrays:
            count, side = self.size(split), self.rule.size
            images, labels = np.empty((count, side, side, 3), np.uint8), np.empty((count, 1), np.float32)
            start = 0
            for batch in self._read(tfds.as_numpy(self._examples(split).batch(512))):
                stop = start + len(batch["label"])
                images[start:stop], labels[start:stop, 0] = batch["image"], batch["label"]
                start = stop
            self._arrays[split] = images, labels
        return self._arrays[split]

    def train_batches(
        self,
        batch: int,
        *,
        seed: int,
        epoch: int,
        skip: int = 0,
        augment: tuple[str, ...] = (),
        share: Share = WHOLE,
    ) -> tf.data.Dataset:
        """Return the batches of one epoch of the training split, in an order that depends on seed and epoch only.

        Args:
            batch: Images per batch; an incomplete last batch is dropped.
            seed: Seed of order and augmentation.
            epoch: 0-based epoch.
            skip: Number of batches of all workers to skip; the remaining ones do not depend on it.
            augment: Names from :data:`bdd_tf.datasets.augment.AUGMENTATIONS`.
            share: Part of one of several workers. Each gets equally many batches; those left over are dropped.

        Returns:
            Batches of uint8 images [B, S, S, 3] and float32 labels [B, 1].

        Raises:
            UsageError: For an unknown augmentation, a batch below 1, or a negative skip, seed or epoch.
        """
        augmenting.check_names(augment)
        if batch < 1 or min(skip, seed, epoch) < 0:
            raise UsageError(
                f"batch must be at least 1, and skip, seed and epoch at least 0; got {batch}, {skip}, {seed}, {epoch}."
            )
        steps, side = share.batches(self.size("train"), batch), self.rule.size
        numbers = augmenting.draws(seed, epoch, steps * batch)
        numbers = share.of(numbers.reshape(steps, batch, *numbers.shape[1:])[skip:])
        picked = self._picked if self.in_memory("train") else self._streamed
        images = picked(batch, range(skip, steps), seed, epoch, share)

        def change(x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
            return augmenting.augment(x, numbers, augment)

        @tf.autograph.experimental.do_not_convert
        def changed(pair: tuple[tf.Tensor, tf.Tensor], numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x = tf.numpy_function(change, [pair[0], numbers], tf.uint8, stateful=False)
            return tf.ensure_shape(x, (batch, side, side, 3)), pair[1]

        if augment:
            images = tf.data.Dataset.zip((images, tf.data.Dataset.from_tensor_slices(numbers))).map(
                changed, num_parallel_calls=self.loader_threads, deterministic=True
            )
        return images.prefetch(4)

    def _picked(self, batch: int, steps: range, seed: int, epoch: int, share: Share) -> tf.data.Dataset:
        """Batches from memory, completely shuffled."""
        images, labels = self.arrays("train")
        order = epoch_order(len(images), batch, steps, seed=seed, epoch=epoch, share=share)

        def pick(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return images[rows], labels[rows]

        @tf.autograph.experimental.do_not_convert
        def fetch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x, y = tf.numpy_function(pick, [rows], (tf.uint8, tf.float32), stateful=False)
            return tf.ensure_shape(x, (batch, *images.shape[1:])), tf.ensure_shape(y, (batch, 1))

        return tf.data.Dataset.from_tensor_slices(order).map(fetch)

    def _streamed(self, batch: int, steps: range, seed: int, epoch: int, share: Share) -> tf.data.Dataset:
        """Batches from disk: files in random order, then a shuffle within a buffer."""
        mixed = int(np.random.default_rng([seed, epoch, 0]).integers(2**31))
        side = self.rule.size
        buffer = min(SHUFFLE_BUFFER, max(MEMORY_BYTES // 4 // (side * side * 3), 1000))
        examples = self._examples("train", decode=False, shuffle_files=True, shuffle_seed=mixed)

        examples = examples.map(_image_and_label).shuffle(buffer, seed=mixed, reshuffle_each_iteration=False)
        examples = examples.skip(steps.start * batch).take(len(steps) * batch)
        return self._decoded(examples, batch, share)

    def _decoded(self, examples: tf.data.Dataset, batch: int, share: Share) -> tf.data.Dataset:
        """A share's batches of encoded images. The images of the other shares are read, but not decoded."""
        side = self.rule.size

        @tf.autograph.experimental.do_not_convert
        def decode(png: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.io.decode_png(png, channels=3)
            return tf.ensure_shape(image, (side, side, 3)), label

        if share != WHOLE:
            examples = examples.batch(batch).shard(share.count, share.index).unbatch()
        return examples.map(decode, num_parallel_calls=self.loader_threads, deterministic=True).batch(batch)

    def eval_batches(self, split: str, batch: int, share: Share = WHOLE) -> tf.data.Dataset:
        """Return the batches of a split in fixed order; the last one may be smaller. Types as in :meth:`train_batches`."""
        if self.in_memory(split) and split in self._arrays:
            examples = tf.data.Dataset.from_tensor_slices(self._arrays[split])
            return examples.batch(batch).shard(share.count, share.index).prefetch(2)
        examples = self._examples(split, decode=False).map(_image_and_label)
        return self._decoded(examples, batch, share).prefetch(2)

    def leaked(self, split: str = "test", into: tuple[str, ...] = ("train", "validation")) -> set[str]:
        """Find images of a split that are pixel-identical to images of other splits.

        Args:
            split: The split that training should not have seen.
            into: The splits that training has seen.

        Returns:
            Their hashes (:attr:`Item.pixel_hash`).

        Raises:
            UsageError: For an unknown split.
        """
        for name in (split, *into):
            if name not in SPLITS:
                raise one_of("split", name, SPLITS)
        elsewhere = {e.pixel_hash for e in self.entries if e.record.split in into}
        return {e.pixel_hash for e in self.entries if e.record.split == split} & elsewhere


def epoch_order(count: int, batch: int, steps: range, *, seed: int, epoch: int, share: Share) -> np.ndarray:
    """Return the order of a split in memory: the images [n, B] of those of an epoch's batches that belong to a share.

    Args:
        count: Images of the split.
        batch: Images per batch (B).
        steps: Numbers of the epoch's batches, without those that are skipped.
        seed: Seed of the order.
        epoch: 0-based epoch.
        share: One of several workers' part.
    """
    order = np.random.default_rng([seed, epoch, 0]).permutation(count)[: steps.stop * batch]
    return share.of(order.reshape(steps.stop, batch)[steps.start :])


def load_dataset(name: str, *, processes: int | None = None, **options: Any) -> DataSet:
    """Open a data set (:func:`open_dataset`) and prepare its images.

    Args:
        name: A name from ``bdd data list``.
        processes: Processes that prepare the images (:meth:`DataSet.prepare`).
        options: Those of :func:`open_dataset`.

    Returns:
        The data set, ready for batches.

    Raises:
        UsageError: As for :func:`open_dataset`.
        BddError: For a damaged archive, a failed download, or a file that changes in the meantime.
    """
    data = open_dataset(name, **options)
    data.prepare(processes)
    return data


def open_dataset(
    name: str,
    *,
    rule: ResizeRule,
    data_dir: str | Location | None = None,
    cache_dir: str | Path | None = None,
    validation_fraction: float = 0.05,
    train_fraction: float = 1.0,
    need: Mapping[str, int] = MappingProxyType(dict.fromkeys(NEEDED, 1)),
) -> DataSet:
    """Find, index and split a data set.

    Args:
        name: A name from ``bdd data list``.
        rule: The resize rule.
        data_dir: Folder, archive or CSV; None: the data set's own source.
        cache_dir: Folder for derived data; None: :func:`bdd_tf.files.cache_folder`.
        validation_fraction: Fraction of train held out if the source has no validation split.
        train_fraction: Fraction of the remaining train split that is used.
        need: Splits that must contain images of both classes, each with the size of a batch: the fewest images that it
            must have. The other splits may be empty.

    Returns:
        The data set, whose images :meth:`DataSet.prepare` prepares.

    Raises:
        UsageError: For an unknown name, a wrong path or layout, an empty class or split, or one smaller than a batch.
        BddError: For a damaged archive or a failed download.
    """
    cache = Path(cache_dir) if cache_dir is not None else cache_folder()
    entries = index(records_of(name, data_dir, cache, tuple(need)), cache)
    skipped = [e for e in entries if e.error]
    if skipped:
        shown = "".join(f"\n  {e.record.path}: {e.error}" for e in skipped[:5])
        more = f"\n  and {len(skipped) - 5} more (bdd data check lists them)" if len(skipped) > 5 else ""
        say(f"skipping {len(skipped)} unreadable images of {name}:{shown}{more}")
    split = assign_splits(entries, validation_fraction, train_fraction)
    table = counts(split)
    carved = all(e.record.split is None for e in entries)
    # Of a random split, training needs the validation part as well; a given split is checked by the training.
    parts = (*need, "validation") if carved and "train" in need else need
    for part in parts:
        for label, word in enumerate(LABELS):
            if not table[part][label]:
                hint = (
                    f" Its {len(split)} images are too few for a random split: give train and test folders."
                    if carved
                    else ""
                )
                raise UsageError(f"data set {name} has no readable {word} images in its {part} split.{hint}")
    data = DataSet(name, split, skipped, rule, cache)
    for part, batch in need.items():
        check_batch(data.size(part), part, batch)
    return data
