"""Ablation of channels: the change of the logit when RGB or one forensic channel is replaced by an average."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bdd_tf.errors import BddError

REFERENCE_IMAGES = 256
"""Maximum number of reference images."""


def channel_names(channels: object) -> tuple[str, ...]:
    """Return the channels named in a file's metadata, ``rgb`` first; empty if the value is not a list of names."""
    if not isinstance(channels, (list, tuple)) or not all(isinstance(name, str) for name in channels):
        return ()
    return ("rgb", *(name for name in channels if name != "rgb"))


def planes_of(names: Sequence[str], depths: Sequence[int]) -> dict[str, slice]:
    """Return the planes of each channel in a stack of channels with so many planes each."""
    ends = np.cumsum(depths).tolist()
    return {name: slice(end - depth, end) for name, depth, end in zip(names, depths, ends, strict=True)}


def ablate(
    stack: NDArray[np.float32],
    planes: dict[str, slice],
    logits: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    reference: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Compute the change of the logit that each channel causes.

    A channel is replaced by its pixelwise mean over reference images, or without a reference by the mean of its own
    pixels. A reference is preferable, since it measures how this image's channel differs from that of other images. A
    constant spectrum never occurs in training, and changes the score by itself.

    Args:
        stack: [S, S, C], RGB followed by the planes of each further channel.
        planes: The planes of each channel (`planes_of`).
        logits: Computes the logits [N] of stacks [N, S, S, C].
        reference: [S, S, C], mean over the reference images; None for the mean of the image's own pixels.

    Returns:
        For each channel, the logit of the image minus the logit with this channel replaced; positive for FAKE.
    """
    inputs = np.repeat(stack[None], len(planes) + 1, 0)
    for row, part in enumerate(planes.values(), 1):
        inputs[row, ..., part] = stack[..., part].mean((0, 1)) if reference is None else reference[..., part]
    with_all, *without = logits(inputs)
    return {name: float(with_all - value) for name, value in zip(planes, without, strict=True)}


class ChannelAblation:
    """Ablates the channels of images (see `ablate`); the mean over the reference images is computed once.

    Args:
        planes: The planes of each channel (`planes_of`).
        stacks: Computes RGB and channels, float32 [N, S, S, C], of images uint8 [N, S, S, 3].
        logits: Computes the logits, float64 [N], of such stacks.
        reference: Reference images uint8 [R, S, S, 3], or None.

    Attributes:
        reference: Replacement of an ablated channel, in words.
    """

    def __init__(
        self,
        planes: dict[str, slice],
        stacks: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        logits: Callable[[NDArray[np.float32]], NDArray[np.float64]],
        reference: NDArray[np.uint8] | None,
    ) -> None:
        self._planes, self._stacks, self._logits = planes, stacks, logits
        self._mean = None if reference is None else stacks(reference).mean(0)
        self.reference = "own mean" if reference is None else f"mean of {len(reference)} images"

    def __call__(self, image: NDArray[np.uint8]) -> dict[str, float]:
        """Apply `ablate` to one image uint8 [S, S, 3]."""
        return ablate(self._stacks(image[None])[0], self._planes, self._logits, self._mean)


def finite(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits unchanged.

    Raises:
        BddError: If a value is infinite or NaN.
    """
    if not np.isfinite(logits).all():
        raise BddError("the model's logit is not finite; convert it again.")
    return logits
