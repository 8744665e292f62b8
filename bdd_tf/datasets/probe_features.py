"""Simple features of crops, for probes that ask which shortcuts a data set offers. All take uint8 [N, S, S, 3]."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Features = NDArray[np.float64]
#: Quantization steps that are looked for, and the DCT coefficients (row, column) in which they are.
STEPS = np.arange(2, 33)
COEFFICIENTS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
#: Names of :func:`pixel_statistics`.
STATISTICS = (
    "luma mean", "luma deviation", "dark share", "bright share", "saturation mean", "saturation deviation",
    "horizontal gradient", "vertical gradient", "diagonal gradient", "gradient at 2 px", "Haar HH at 2 px",
    "Laplacian", "median residual", "HH kurtosis", "chroma gradient", "chroma to luma gradient",
    "red-green correlation of details", "flat share", "edge share", "gradient entropy",
)  # fmt: skip


def _luma(image: Images) -> NDArray[np.float32]:
    return cv2.transform(image.astype(np.float32), np.array([[0.299, 0.587, 0.114]], np.float32))


def _dct_matrix() -> NDArray[np.float64]:
    k, n = np.mgrid[:8, :8]
    matrix = np.cos((2 * n + 1) * k * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix


_DCT = _dct_matrix()
#: For each step, how well values of 0, 0.25, 0.5 ... 255 agree with its multiples. Those near zero, multiples of every
#: step, do not count.
_VALUES = np.arange(1024) / 4 + 0.125
_USED = (0.6 * STEPS[:, None] < _VALUES).astype(np.float64)
_COMBS = np.cos(2 * np.pi * _VALUES / STEPS[:, None]) * _USED


def _phase(differences: NDArray[np.float32]) -> tuple[int, float]:
    """Where, modulo 8, neighbours differ most beyond what is usual around: a block boundary."""
    profile = np.array([differences[phase::8].mean() for phase in range(8)])
    usual = (np.roll(profile, 1) + np.roll(profile, -1)) / 2
    excess = profile / (usual + 0.1)
    best = int(excess.argmax())
    return (best + 1) % 8, float(excess[best])


def jpeg_traces(images: Images) -> Features:
    """Estimates of the block grid, the quantization steps and the chroma subsampling of the last or an earlier JPEG.

    Args:
        images: uint8 [N, S, S, 3].

    Strengths of combs and of luma's details are left out: they say more about texture than about coding.

    Returns:
        float64 [N, K + 3] for K :data:`COEFFICIENTS`: log2 of the most likely step per coefficient; strength of the
        grid across and down; energy of chroma details at 1 px relative to 2 px, which subsampling lowers.
    """
    return np.stack([_traces(image) for image in images])


def _traces(image: Images) -> Features:
    luma = _luma(image)
    column, across = _phase(np.abs(np.diff(luma, axis=1)).mean(axis=0))
    row, down = _phase(np.abs(np.diff(luma, axis=0)).mean(axis=1))
    rows, columns = (luma.shape[0] - row) // 8, (luma.shape[1] - column) // 8
    blocks = luma[row : row + 8 * rows, column : column + 8 * columns].reshape(rows, 8, columns, 8)
    spectrum = np.einsum("ki,aibj,lj->klab", _DCT, blocks - 128, _DCT, optimize=True).reshape(8, 8, -1)
    values = []
    for coefficient in COEFFICIENTS:
        found = np.minimum(np.abs(spectrum[coefficient]) * 4, _COMBS.shape[1] - 1).astype(np.int64)
        counts = np.bincount(found, minlength=_COMBS.shape[1])
        scores = (_COMBS @ counts) / np.sqrt(_USED @ counts + 1)
        best = int(scores.argmax())
        values.append(np.log2(STEPS[best]))
    chroma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32)
    fine = np.square(np.diff(chroma, axis=1)).mean(axis=(0, 1)) + 1e-2
    coarse = np.square(chroma[:, 2:] - chroma[:, :-2]).mean(axis=(0, 1)) + 1e-2
    return np.array([*values, across, down, np.log(fine / coarse).sum()])


def pixel_statistics(images: Images) -> Features:
    """Twenty statistics of a crop's pixels, energies as logarithms.

    Args:
        images: uint8 [N, S, S, 3].

    Returns:
        float64 [N, 20], in the order of :data:`STATISTICS`.
    """
    return np.stack([_statistics(image) for image in images])


def _energy(x: NDArray[np.float32]) -> float:
    return float(np.log(np.square(x).mean() + 0.05))


def _statistics(image: Images) -> Features:
    luma = _luma(image)
    channels = [np.ascontiguousarray(image[..., c]) for c in range(3)]
    largest, smallest = (fold(fold(*channels[:2]), channels[2]) for fold in (cv2.max, cv2.min))
    saturation = (largest - smallest).astype(np.float32)
    horizontal = np.ascontiguousarray(np.diff(luma, axis=1)[1:])
    vertical = np.ascontiguousarray(np.diff(luma, axis=0)[:, 1:])
    diagonal = horizontal - np.diff(luma, axis=1)[:-1]
    half = cv2.blur(luma, (2, 2))
    coarse = half[2:, 2:] - half[:-2, 2:] - half[2:, :-2] + half[:-2, :-2]
    residual = luma - cv2.medianBlur(luma, 3)
    chroma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    colour = np.concatenate([np.diff(chroma[..., 1], axis=1), np.diff(chroma[..., 2], axis=1)])
    gradient = cv2.magnitude(horizontal, vertical)
    red, green = (np.diff(channels[c].astype(np.float32), axis=1).ravel() for c in (0, 1))
    octaves = np.log2(np.maximum(gradient, 1)).astype(np.int64)
    shares = np.bincount(octaves.ravel(), minlength=9) / gradient.size
    entropy = -(shares * np.log(shares + 1e-9)).sum()
    deviation = red.std() * green.std()
    correlation = ((red - red.mean()) * (green - green.mean())).mean() / (deviation + 0.1)
    return np.array([
        luma.mean() / 128, np.log(luma.std() + 1), (luma < 16).mean(), (luma > 240).mean(),
        np.log(saturation.mean() + 1), np.log(saturation.std() + 1),
        _energy(horizontal), _energy(vertical), _energy(diagonal), _energy(luma[:, 2:] - luma[:, :-2]),
        _energy(coarse), _energy(cv2.Laplacian(luma, cv2.CV_32F)), _energy(residual),
        np.log(np.square(np.square(diagonal)).mean() / (np.square(diagonal).mean() + 0.05) ** 2 + 1),
        _energy(colour), _energy(colour) - _energy(horizontal), correlation,
        (gradient < 2).mean(), (gradient > 32).mean(), entropy,
    ], np.float64)  # fmt: skip


def thumbnails(images: Images, side: int = 16) -> Features:
    """The crops at ``side`` pixels: float64 [N, 3 side²], in [0, 1]."""
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).ravel() for image in images]
    return np.stack(small).astype(np.float64) / 255


def size_and_format(short_sides: NDArray[np.float64], is_png: NDArray[np.bool_]) -> Features:
    """Log of the short side, its bins of a quarter of an octave from 128 px on, and the original format.

    Args:
        short_sides: [N], of the whole image in pixels, at the scale that the network sees.
        is_png: [N].

    Returns:
        float64 [N, 2 + bins].
    """
    logs = np.log2(short_sides / 128)
    bins = np.clip(np.floor(4 * logs).astype(int), -2, 16) + 2
    return np.column_stack([logs, is_png, np.eye(19)[bins]])
