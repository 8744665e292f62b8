"""Which batches of a data set one of several workers computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bdd_tf.errors import UsageError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Share:
    """One worker's part of the batches: every ``count``-th one.

    Batches are numbered as for one process. Worker ``index`` gets the numbers ``index``, ``index + count``, and so on, so that
    ``count`` workers together compute in one round the batches that one process would compute one after another.

    Attributes:
        index: The worker, from 0.
        count: All workers.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: If the index is not below the count.
        """
        if not 0 <= self.index < self.count:
            raise ValueError(f"share {self.index} of {self.count}")

    def batches(self, images: int, batch: int) -> int:
        """Return the number of an epoch's batches: equally many for each worker, and those left over are dropped."""
        return images // (batch * self.count) * self.count

    def of(self, batches: _T) -> _T:
        """Return this worker's batches of those in a list, range or array, of which the first one has number 0."""
        return batches[self.index :: self.count]  # type: ignore[index]

    def after(self, batches: int) -> Share:
        """Return the same share for numbers that start again at 0 behind so many batches."""
        return Share((self.index - batches) % self.count, self.count)


#: The share of a single process.
WHOLE = Share()


def rejoined(parts: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """Put results of all shares in the order of one process.

    Args:
        parts: Every share's results, one per image, in the order of the shares.
        batch: Images per batch; only the last batch of all may be smaller.
    """
    rounds = range(-(-len(parts[0]) // batch))
    return np.concatenate([part[k * batch : (k + 1) * batch] for k in rounds for part in parts])


def check_batch(size: int, split: str, batch: int, workers: int = 1) -> None:
    """Check that a split can fill a batch of every worker.

    Raises:
        UsageError: If it is smaller.
    """
    if size < batch * workers:
        several = f" of each of {workers} workers" if workers > 1 else ""
        raise UsageError(
            f"batch {batch}{several} is larger than the {split} split ({size} images); give a smaller one with --batch."
        )
