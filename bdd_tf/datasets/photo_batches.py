"""Batches of the data set ``photos``: encoded images in memory, decoded and degraded by threads as they are needed.

The pixels of an image depend on (seed, epoch, position in the epoch) alone, whatever the batch or the threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.balance import Balance, balance, draw_order
from bdd_tf.datasets.codecs import decode
from bdd_tf.datasets.conditions import CONDITIONS, crop_under
from bdd_tf.datasets.degrade import Degradation, degrade
from bdd_tf.datasets.folds import Fold, divide
from bdd_tf.datasets.photos import OWN_DECODERS, Photo, read_files, read_manifest
from bdd_tf.datasets.share import WHOLE, Share
from bdd_tf.errors import UsageError, one_of

Images = NDArray[np.uint8]
Labels = NDArray[np.float32]
Batch = tuple[Images, Labels]
PARTS = ("train", "validation", "test")
#: Images that a thread prepares at a time.
_CHUNK = 16


@dataclass(frozen=True)
class _Files:
    """Photos with their encoded contents."""

    photos: tuple[Photo, ...]
    contents: tuple[bytes, ...]

    def pixels(self, index: int) -> Images:
        return decode(self.contents[index], self.photos[index].path)


@dataclass(frozen=True)
class Mixture:
    """What a training draws from.

    Attributes:
        hold_out: Fold, JSON file, or names of families and sources (:func:`bdd_tf.datasets.folds.hold_out_names`).
        decoders_dir: Folder of reconstructions with a manifest of the same columns, or None.
        own_decoder_share: Share of the FAKE draws that come from them; must be 0 without ``decoders_dir``.
        match: Give both classes one distribution of size, format and quality.
        images_per_epoch: Images that an epoch draws.
        seed: Seed of order, degradation and evaluation crops.
    """

    hold_out: str | tuple[str, ...] = ()
    decoders_dir: str | Path | None = None
    own_decoder_share: float = 0.0
    match: bool = True
    images_per_epoch: int = 16_384
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: Names the value.
        """
        if self.own_decoder_share and self.decoders_dir is None:
            raise UsageError("a share of own decoders needs the folder of their reconstructions.")
        if self.images_per_epoch < 1 or self.seed < 0:
            raise UsageError(
                "images per epoch must be at least 1 and the seed at least 0; got "
                f"{self.images_per_epoch} and {self.seed}."
            )


class PhotoBatches:
    """Training epochs and evaluation batches of one fold.

    Args:
        data_dir: Folder with ``manifest.csv``.
        mixture: What is drawn.
        chain: The degradation; its ``size`` is that of all crops.
        workers: Threads that decode and degrade.

    Attributes:
        fold: Which image is in which part.
        balance: Draw weights of ``fold.train``.

    Raises:
        UsageError: For bad paths, manifests, names, shares and counts.
    """

    def __init__(
        self,
        data_dir: str | Path,
        mixture: Mixture | None = None,
        chain: Degradation | None = None,
        workers: int = 2,
    ):
        if workers < 1:
            raise UsageError(f"workers must be at least 1; got {workers}.")
        self.mixture, self.chain, self.workers = mixture or Mixture(), chain or Degradation(), workers
        self._roots = {"": Path(data_dir)}
        photos = read_manifest(data_dir)
        own_dir, share = self.mixture.decoders_dir, self.mixture.own_decoder_share
        if own_dir is not None and share:
            own = read_manifest(own_dir)
            self._roots[OWN_DECODERS] = Path(own_dir)
            for photo in own:
                if photo.family != OWN_DECODERS:
                    raise UsageError(
                        f"{own_dir}: {photo.path} is of family {photo.family!r}, not {OWN_DECODERS}."
                    )
            photos += own
        self.fold: Fold = divide(photos, self.mixture.hold_out)
        self.balance: Balance = balance(self.fold.train, share, self.mixture.match)
        self._files: dict[str, _Files] = {}

    def photos(self, part: str) -> tuple[Photo, ...]:
        """The images of ``train``, ``validation`` or ``test``."""
        if part not in PARTS:
            raise one_of("part", part, PARTS)
        return getattr(self.fold, part)

    def root(self, path: str) -> Path:
        """The folder that holds an image of the manifest, by its path."""
        own = any(photo.path == path and photo.family == OWN_DECODERS for photo in self.fold.train)
        return self._roots[OWN_DECODERS if own else ""]

    def files(self, part: str) -> _Files:
        """A part's encoded images, read at the first call."""
        if part not in self._files:
            photos = self.photos(part)
            contents: list[bytes] = [b""] * len(photos)
            for family, root in self._roots.items():
                index = [
                    i for i, photo in enumerate(photos) if (photo.family == OWN_DECODERS) == bool(family)
                ]
                for i, content in zip(index, read_files(root, [photos[i] for i in index]), strict=True):
                    contents[i] = content
            self._files[part] = _Files(photos, tuple(contents))
        return self._files[part]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """int64 [images_per_epoch]: the training images of an epoch, REAL and FAKE in turns."""
        labels = np.array([photo.label for photo in self.fold.train])
        count, seed = self.mixture.images_per_epoch, self.mixture.seed
        return draw_order(self.balance.weights, labels, count, seed, epoch)

    def train_batches(self, batch: int, epoch: int, skip: int = 0, share: Share = WHOLE) -> Iterator[Batch]:
        """Degraded batches of an epoch.

        Args:
            batch: Images per batch; what is left over at the end is dropped.
            epoch: 0-based epoch.
            skip: Batches of all workers to leave out at the beginning, at no cost; the others are the same as without.
            share: Part of one of several workers. Each gets equally many batches; those left over are dropped.

        Yields:
            uint8 images [B, S, S, 3] and float32 labels [B, 1], 0 = REAL, 1 = FAKE.

        Raises:
            UsageError: For a batch below 1 or a negative skip or epoch.
        """
        if batch < 1 or min(skip, epoch) < 0:
            raise UsageError(
                f"batch must be at least 1, skip and epoch at least 0; got {batch}, {skip}, {epoch}."
            )
        files, order = self.files("train"), self.order(epoch)

        def make(position: int) -> Images:
            photo = files.photos[order[position]]
            key = (self.mixture.seed, epoch, position)
            return degrade(files.pixels(order[position]), photo.short_side, self.chain, key)

        labels = np.array([photo.label for photo in files.photos], np.float32)[order][:, None]
        steps = share.batches(len(order), batch)
        starts = share.of(range(skip * batch, steps * batch, batch))
        yield from self._batches(make, labels, [range(start, start + batch) for start in starts])

    def eval_batches(
        self,
        part: str,
        batch: int,
        condition: str = "clean",
        index: Sequence[int] | None = None,
        share: Share = WHOLE,
    ) -> Iterator[Batch]:
        """Batches of a part under a condition, in the manifest's order.

        Args:
            part: ``validation`` or ``test`` (or ``train``, without its degradation).
            batch: Images per batch; the last one is as small as it comes.
            condition: A key of :data:`bdd_tf.datasets.conditions.CONDITIONS`.
            index: Which images of the part, e.g. from :func:`matched`; None: all.
            share: Part of one of several workers.

        Yields:
            As for training.

        Raises:
            UsageError: For an unknown part or condition.
        """
        if condition not in CONDITIONS:
            raise one_of("condition", condition, tuple(CONDITIONS))
        files = self.files(part)
        chosen = list(range(len(files.photos))) if index is None else list(index)

        def make(position: int) -> Images:
            i = chosen[position]
            return crop_under(files.pixels(i), condition, self.chain.size, self.mixture.seed, i)

        labels = np.array([[files.photos[i].label] for i in chosen], np.float32).reshape(-1, 1)
        steps = [range(start, min(start + batch, len(chosen))) for start in range(0, len(chosen), batch)]
        yield from self._batches(make, labels, list(share.of(steps)))

    def _batches(self, make: Callable[[int], Images], labels: Labels, steps: list[range]) -> Iterator[Batch]:
        """Batches in order, prepared ahead by the threads in chunks."""
        # OpenCV's own threads would contend with ours for images this small.
        cv2.setNumThreads(1)
        size = self.chain.size

        def fill(target: Images, part: range, start: int) -> None:
            for position in part:
                target[position - start] = make(position)

        with ThreadPoolExecutor(self.workers, "photos") as pool:
            ahead: deque[tuple[Images, range, list[Future]]] = deque()
            waiting = iter(steps)

            def submit() -> None:
                step = next(waiting, None)
                if step is None:
                    return
                target = np.empty((len(step), size, size, 3), np.uint8)
                parts = [step[i : i + _CHUNK] for i in range(0, len(step), _CHUNK)]
                ahead.append((target, step, [pool.submit(fill, target, part, step.start) for part in parts]))

            try:
                for _ in range(3):
                    submit()
                while ahead:
                    target, step, futures = ahead.popleft()
                    for future in futures:
                        future.result()
                    submit()
                    yield target, labels[step.start : step.stop]
            finally:
                # A consumer that stops early must not wait for what nobody will see.
                pool.shutdown(wait=False, cancel_futures=True)
