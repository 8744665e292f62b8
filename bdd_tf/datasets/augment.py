"""Augmentation of training images: NumPy on whole batches, a pure function of images and random numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from bdd_tf import entry_points
from bdd_tf.edge.images.channel_constants import LUMA
from bdd_tf.errors import BddError

AUGMENTATIONS = ("flip", "vflip", "rot90", "crop", "jitter")
#: Random draws per image. Fixed, so that enabling one augmentation does not change the random stream of another.
DRAWS = 8

_FLIP, _VFLIP, _TURN, _ROW, _COLUMN, _BRIGHTNESS, _CONTRAST, _SATURATION = range(DRAWS)
_LUMA = np.array(LUMA, np.float32)
#: Augmentations from outside the package (:func:`bdd_tf.extensions.register_augmentation`), by name.
REGISTERED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {}


def known() -> tuple[str, ...]:
    """Return all names: :data:`AUGMENTATIONS` and the registered ones."""
    return (*AUGMENTATIONS, *REGISTERED)


def check_names(names: tuple[str, ...]) -> None:
    """Check names of augmentations.

    Raises:
        UsageError: For a name that is not in :func:`known`.
    """
    for name in names:
        entry_points.check_known("augmentation", name, entry_points.AUGMENTATIONS, known)


def draws(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draw the random numbers of an epoch's images, by position in the epoch.

    Args:
        seed: Seed of the run, at least 0.
        epoch: 0-based epoch.
        count: Images in the epoch.

    Returns:
        float32 [count, DRAWS] in [0, 1).
    """
    return np.random.default_rng([seed, epoch, 1]).random((count, DRAWS), np.float32)


def augment(images: np.ndarray, numbers: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Augment a batch of images.

    Args:
        images: uint8 [B, S, S, 3].
        numbers: float32 [B, DRAWS] in [0, 1), one row per image (:func:`draws`).
        names: From :func:`known`: ``flip`` and ``vflip`` (probability 0.5 each), ``rot90`` (rotation
            by 90 degrees to the left or right, probability 0.25 each), ``crop`` (shift by up to S/8, reflected at the
            border), ``jitter`` (brightness, contrast and saturation, within 20 % each), then registered ones.

    Returns:
        uint8 [B, S, S, 3]; the input itself if no names are given.

    Raises:
        UsageError: For an unknown name.
        BddError: If a registered augmentation returns another shape or type.
    """
    check_names(names)
    if {"flip", "vflip", "rot90", "crop"} & set(names):
        images = _move(images, numbers, names)
    if "jitter" in names:
        images = _jitter(images, numbers)
    for name in names:
        if name in REGISTERED:
            images = _registered(name, images, numbers)
    return images


def _registered(name: str, images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Apply an augmentation from outside to each image; its random numbers depend on the image's draws and on its name."""
    changed = np.empty_like(images)
    for i, (image, row) in enumerate(zip(images, numbers, strict=True)):
        random = np.random.default_rng([*row.view(np.uint32).tolist(), zlib.crc32(name.encode())])
        result = np.asarray(REGISTERED[name](image.copy(), random))
        if result.shape != image.shape or result.dtype != np.uint8:
            raise BddError(
                f"augmentation {name} returned {result.dtype} {result.shape}; uint8 {image.shape} is needed."
            )
        changed[i] = result
    return changed


def _move(images: np.ndarray, numbers: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Apply all geometric augmentations in one gather, by each output pixel's row and column in the input."""
    count, side = images.shape[:2]
    rows = np.tile(np.arange(side), (count, 1))
    columns = rows.copy()
    if "crop" in names:
        margin = max(side // 8, 1)
        for index, number in ((rows, _ROW), (columns, _COLUMN)):
            index += (numbers[:, number : number + 1] * (2 * margin + 1)).astype(np.int64) - margin
            np.abs(index, out=index)
            np.minimum(index, 2 * (side - 1) - index, out=index)
    if "flip" in names:
        columns = np.where(numbers[:, _FLIP, None] < 0.5, columns[:, ::-1], columns)
    if "vflip" in names:
        rows = np.where(numbers[:, _VFLIP, None] < 0.5, rows[:, ::-1], rows)
    flat = rows[:, :, None] * side + columns[:, None, :]
    if "rot90" in names:
        turn, rotated = numbers[:, _TURN, None, None], flat.transpose(0, 2, 1)
        flat = np.where(turn < 0.25, rotated[:, ::-1], np.where(turn < 0.5, rotated[:, :, ::-1], flat))
    flat += np.arange(count)[:, None, None] * (side * side)
    return images.reshape(-1, 3)[flat]


def _jitter(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    def factor(number: int) -> np.ndarray:
        return (0.8 + 0.4 * numbers[:, number]).astype(np.float32)[:, None, None, None]

    # x -> brightness * (contrast * (x - mean) + mean); saturation does the same about each pixel's luma. All three are
    # linear, so they combine to one 3 x 3 matrix and an offset per image.
    brightness, contrast, saturation = factor(_BRIGHTNESS), factor(_CONTRAST), factor(_SATURATION)
    means = images.mean(axis=(1, 2), dtype=np.float32) @ _LUMA
    matrix = (
        brightness * contrast * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * _LUMA[:, None])
    )
    offset = brightness[:, 0, 0] * (1 - contrast[:, 0, 0]) * means[:, None]
    count, side = images.shape[:2]
    x = images.reshape(count, -1, 3).astype(np.float32) @ matrix[:, 0]
    x += offset[:, None] + 0.5
    return np.clip(x, 0, 255, out=x).astype(np.uint8).reshape(count, side, side, 3)
