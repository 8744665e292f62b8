"""Magnitude of the two-dimensional DFT of real images, as products with constant matrices.

``RFFT2D`` converts but TFLite runs it on powers of two only. Here the DFT is two products with matrices of cosines and
sines, written as 1x1 convolutions over transposed axes, which keeps the batch of a converted file resizable.
"""

from __future__ import annotations

import numpy as np

from bdd_tf.errors import UsageError
from bdd_tf.legacy_keras import tf

#: Sides from which the DFT uses its symmetry: fewer constants and multiplications, for more operators.
_FOLDED_SIDE = 128


def spectrum_quadrants(grey_levels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the magnitudes at the frequencies from which symmetry gives all others.

    From 128 pixels on, the symmetry of cosines and sines is used twice, which leaves a quarter of the multiplications and
    of the constants. Cosine and sine parts stay separate: four sums of them give the bins (u, v) and (-u, v).

    Args:
        grey_levels: float32 integers, H and W even and known.

    Returns:
        float32 ``|F(u, v)|`` and ``|F(-u, v)|`` for u, v from 0. The image's rounded mean is subtracted first and added
        to the zero frequency afterwards. This bounds the rounding error of every bin by 1e-5 of the sum of its own
        magnitude and ``sqrt(sum((grey - mean)**2))``, the root mean square of the spectrum.

    Shape:
        [N, H, W, 1] -> two of [N, H/2 + 1, W/2 + 1, 1]

    Raises:
        UsageError: If H or W is unknown or odd.
    """
    _, height, width, _ = grey_levels.shape
    if not height or not width or height % 2 or width % 2:
        raise UsageError(f"the FFT channel needs an even, known image size; got {height} x {width}.")
    rows, columns = height // 2 + 1, width // 2 + 1
    # An integer mean leaves integers: the subtraction is exact and changes the zero frequency only.
    mean = tf.round(tf.reduce_mean(grey_levels, axis=[1, 2], keepdims=True))
    folded = min(height, width) >= _FOLDED_SIDE and height % 4 == width % 4 == 0
    x = tf.transpose(grey_levels - mean, [0, 2, 3, 1])
    x, down = _real_dft(x, folded)
    x, across = _real_dft(tf.transpose(x, [0, 3, 2, 1]), folded)
    # Rows: cosines, then sines of the vertical part; channels: those of the horizontal part.
    # (c - is)(C - iS) = (cC - sS) - i (sC + cS); with -u for u, s changes its sign.
    cosines, sines = x[:, :rows], x[:, down]
    cc, cs = cosines[..., :columns], cosines[..., across]
    sc, ss = sines[..., :columns], sines[..., across]
    # The mean belongs to the zero frequency: a map that is zero everywhere else, as the product of two vectors.
    first_row, first_column = np.zeros((1, rows, 1, 1), np.float32), np.zeros((1, 1, 1, columns), np.float32)
    first_row[0, 0], first_column[..., 0] = height, width
    cc = cc + mean * tf.constant(first_row) * tf.constant(first_column)

    def magnitude(real: tf.Tensor, imaginary: tf.Tensor) -> tf.Tensor:
        squares = real * real + imaginary * imaginary
        return tf.reshape(tf.sqrt(squares), [-1, rows, columns, 1])

    return magnitude(cc - ss, sc + cs), magnitude(cc + ss, cs - sc)


def whole_spectrum(quadrant: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Complete the spectrum of a real image by symmetry, with the zero frequency in the centre.

    Args:
        quadrant: Values at (u, v), as :func:`spectrum_quadrants` orders them.
        mirrored: Values at (-u, v).

    Returns:
        Values at the frequencies from -size/2 to size/2 - 1, as NumPy's ``fftshift(fft2(x))`` orders them.

    Shape:
        Two of [N, H/2 + 1, W/2 + 1, 1] -> [N, H, W, 1]
    """
    # |F(-u, -v)| = |F(u, v)|
    upper = tf.concat([tf.reverse(quadrant[:, 1:, 1:], axis=[2]), mirrored[:, 1:, :-1]], axis=2)
    lower = tf.concat([tf.reverse(mirrored[:, :-1, 1:], axis=[2]), quadrant[:, :-1, :-1]], axis=2)
    return tf.concat([tf.reverse(upper, axis=[1]), lower], axis=1)


def _product(x: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    """[N, A, 1, K] times [K, M], as a 1x1 convolution."""
    return tf.nn.conv2d(x, tf.constant(matrix[None, None].astype(np.float32)), strides=1, padding="VALID")


def _waves(size: int, samples: int, frequencies: range) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines at the first samples of a period of `size`, each [samples, len(frequencies)]."""
    angle = 2 * np.pi * (np.outer(np.arange(samples), frequencies) % size) / size
    return np.cos(angle), np.sin(angle)


def _real_dft(x: tf.Tensor, folded: bool) -> tuple[tf.Tensor, slice]:
    """Products of [N, A, 1, size] with the cosines and sines of the frequencies 0 to size/2.

    Returns:
        The products, [N, A, 1, ...]: first the cosines; and the slice of the last axis that holds the sines.
    """
    _, other, _, size = x.shape
    half, quarter = size // 2, size // 4
    if not folded:
        return _product(x, np.concatenate(_waves(size, size, range(half + 1)), axis=1)), slice(half + 1, None)
    # The cosine products depend on x[j] + x[size - j] only, the sine products on x[j] - x[size - j]. Call these y. The
    # even frequencies of the cosines and the odd ones of the sines depend on y[j] + y[half - j] only, the others on
    # y[j] - y[half - j]. Sums of grey levels are exact, so the result is rounded no more often than without folding.
    back = tf.reverse(tf.concat([x[..., half:], x[..., :1]], axis=3), axis=[3])
    x = x[..., : half + 1]
    # One odd frequency more than needed, so that even and odd frequencies are equally many.
    waves = [_waves(size, quarter + 1, range(odd, half + 2, 2)) for odd in (0, 1)]
    share = np.ones([quarter + 1, 1])
    share[[0, quarter]] = 0.5  # these samples were added to themselves
    parts: list[list[tf.Tensor]] = [[], []]
    for wave, y in enumerate((x + back, x - back)):
        back = tf.reverse(y[..., quarter:], axis=[3])
        front = y[..., : quarter + 1]
        for odd in (0, 1):
            operand = front - back if odd != wave else front + back
            parts[odd].append(_product(operand, share * waves[odd][wave]))
    pairs = [tf.reshape(tf.concat(part, axis=3), [-1, other, 2 * (quarter + 1), 1]) for part in parts]
    interleaved = tf.reshape(tf.concat(pairs, axis=3), [-1, other, 1, 4 * (quarter + 1)])
    return interleaved, slice(half + 2, 2 * half + 3)
