"""Random changes of training images: NumPy on whole batches, the same for the same random numbers."""

from __future__ import annotations

import numpy as np

from bdd_tf.errors import one_of

AUGMENTATIONS = ("flip", "vflip", "rot90", "crop", "jitter")
#: Random numbers that an image uses up, whichever changes are asked for: a name never shifts another's.
DRAWS = 8

_FLIP, _VFLIP, _TURN, _ROW, _COLUMN, _BRIGHTNESS, _CONTRAST, _SATURATION = range(DRAWS)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def check_names(names: tuple[str, ...]) -> None:
    """Raise :class:`bdd_tf.errors.UsageError` for a name that is not in :data:`AUGMENTATIONS`."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise one_of("augmentation", name, AUGMENTATIONS)


def draws(seed: int, epoch: int, count: int) -> np.ndarray:
    """The random numbers of an epoch's images, by position in the epoch.

    Args:
        seed: Seed of the run, at least 0.
        epoch: 0-based epoch.
        count: Images in the epoch.

    Returns:
        float32 [count, DRAWS] in [0, 1).
    """
    return np.random.default_rng([seed, epoch, 1]).random((count, DRAWS), np.float32)


def augment(images: np.ndarray, numbers: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Randomly changed images.

    Args:
        images: uint8 [B, S, S, 3].
        numbers: float32 [B, DRAWS] in [0, 1), one row per image (:func:`draws`).
        names: From :data:`AUGMENTATIONS`: ``flip`` and ``vflip`` (each for half of the images), ``rot90``
            (a quarter turn left or right, for half), ``crop`` (moved by up to S/8, edges reflected),
            ``jitter`` (brightness, contrast and saturation each within 20 %).

    Returns:
        uint8 [B, S, S, 3]; the input itself where nothing is asked for.

    Raises:
        UsageError: For an unknown name.
    """
    check_names(names)
    if {"flip", "vflip", "rot90", "crop"} & set(names):
        images = _move(images, numbers, names)
    return _jitter(images, numbers) if "jitter" in names else images


def _move(images: np.ndarray, numbers: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Every change of geometry in one gather: an output pixel's row and column in the input."""
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
        turn, turned = numbers[:, _TURN, None, None], flat.transpose(0, 2, 1)
        flat = np.where(turn < 0.25, turned[:, ::-1], np.where(turn < 0.5, turned[:, :, ::-1], flat))
    flat += np.arange(count)[:, None, None] * (side * side)
    return images.reshape(-1, 3)[flat]


def _jitter(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    def factor(number: int) -> np.ndarray:
        return (0.8 + 0.4 * numbers[:, number]).astype(np.float32)[:, None, None, None]

    # x -> brightness * (contrast * (x - mean) + mean), and the same about each pixel's luma for saturation;
    # being linear, the three become one 3 x 3 matrix and an offset per image.
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
