"""Forensic channels beside RGB: FFT log-magnitude, uniform LBP and Sobel magnitude.

Each channel is a function on a batch of images and a Keras layer around it. They use only TensorFlow
operations that LCE and TFLite convert, take any even size, and run inside a model and inside ``tf.data``
alike. Default formulas are those of Lanzino et al. (arXiv 2406.04932, section 3.2) as published in code,
whose scale divides every channel by 255; ``variant="stable"`` rescales to [0, 1] where that scale is poor.

>>> from bdd_tf.legacy_keras import tf
>>> images = tf.zeros([1, 32, 32, 3], tf.uint8)
>>> local_binary_pattern(grey(images)).shape
TensorShape([1, 32, 32, 1])
"""

from __future__ import annotations

import numpy as np

from bdd_tf.errors import UsageError, one_of
from bdd_tf.legacy_keras import tf

#: Channel names in the order in which they are concatenated (the order of the published code).
CHANNELS = ("rgb", "sobel", "fft", "lbp")
VARIANTS = ("paper", "stable")

# OpenCV's fixed-point weights (15 bits) of BGR2GRAY. The published code hands RGB to it, so that the weight
# of blue falls on red and the other way round; kept, since the published weights were trained that way.
_GREY_WEIGHTS = np.array([3735.0, 19235.0, 9798.0], np.float32)
_GREY_ROUND = 16384.0
_GREY_SCALE = 32768.0

_LBP_RADIUS = 6
# Bilinear weights of the sample points at row offset -+6*sin(120 deg) = -+5.19615 (scikit-image rounds to
# five decimals), as integers over 20000: every comparison is then exact in float32.
_LBP_FAR, _LBP_NEAR = 3923.0, 16077.0

_SOBEL_SMOOTH = np.array([1, 6, 15, 20, 15, 6, 1], np.float32)
_SOBEL_DERIVE = np.array([-1, -4, -5, 0, 5, 4, 1], np.float32)
_SOBEL_MAX = 64 * 10 * 255 * np.sqrt(2.0)


def parse_channels(text: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Channel names from ``"rgb,fft,lbp"`` or a list, in the order of concatenation.

    Args:
        text: Comma-separated names or a sequence of names; ``rgb`` is always part of the result's front.

    Returns:
        A tuple that starts with ``"rgb"``.

    Raises:
        UsageError: For an unknown or repeated name, or when ``rgb`` is missing.
    """
    names = [n.strip().lower() for n in (text.split(",") if isinstance(text, str) else text)]
    aliases = {"mag": "sobel", "magnitude": "sobel"}
    names = [aliases.get(n, n) for n in names if n]
    for name in names:
        if name not in CHANNELS:
            raise one_of("channel", name, CHANNELS)
    if len(set(names)) != len(names):
        raise UsageError(
            f"channels {','.join(names)!r} name one twice; give each of {', '.join(CHANNELS)} once."
        )
    if "rgb" not in names:
        raise UsageError(
            f"channels {','.join(names)!r} lack 'rgb'; the others are added beside it: rgb,fft,lbp."
        )
    return tuple(n for n in CHANNELS if n in names)


def check_variant(variant: str) -> str:
    """The variant itself, or :class:`bdd_tf.errors.UsageError` for one that is not in :data:`VARIANTS`."""
    if variant not in VARIANTS:
        raise one_of("channel variant", variant, VARIANTS)
    return variant


def grey(images: tf.Tensor) -> tf.Tensor:
    """Grey levels as the published code makes them: OpenCV's BGR2GRAY applied to RGB data.

    Args:
        images: [N, H, W, 3] RGB, uint8 or float32 holding integers in [0, 255].

    Returns:
        [N, H, W, 1] float32 integers in [0, 255], equal to OpenCV's uint8 result.
    """
    x = tf.cast(images, tf.float32)
    weights = tf.constant(_GREY_WEIGHTS.reshape(1, 1, 3, 1))
    # All sums are integers below 2**24, the scale is a power of two: exact in float32.
    total = tf.nn.conv2d(x, weights, strides=1, padding="VALID")
    return tf.floor((total + _GREY_ROUND) / _GREY_SCALE)


#: Sides from which the DFT is made of smaller products: fewer constants and multiplications, for more operators.
_FOLDED_SIDE = 128


def _product(x: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    """[N, A, 1, K] times [K, M]: a 1x1 convolution, since that keeps a converted file's batch resizable."""
    return tf.nn.conv2d(x, tf.constant(matrix[None, None].astype(np.float32)), strides=1, padding="VALID")


def _waves(size: int, places: int, frequencies: range) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines at the first places of a period, each [places, len(frequencies)]."""
    angle = 2 * np.pi * (np.outer(np.arange(places), frequencies) % size) / size
    return np.cos(angle), np.sin(angle)


def _real_dft(x: tf.Tensor, folded: bool) -> tuple[tf.Tensor, slice]:
    """Sums of [N, A, 1, size] with cosines and with sines of the frequencies 0 to size/2: [N, A, 1, ...].

    Also returns where the sines stand.
    """
    _, other, _, size = x.shape
    half, quarter = size // 2, size // 4
    if not folded:
        return _product(x, np.concatenate(_waves(size, size, range(half + 1)), axis=1)), slice(half + 1, None)
    # Cosines see x[j] + x[size - j] alone, sines x[j] - x[size - j]. So do, of what is left, even frequencies of
    # cosines and odd ones of sines see y[j] + y[half - j] alone, the others y[j] - y[half - j]. Sums of levels are
    # exact, so this rounds no more than whole products do.
    back = tf.reverse(tf.concat([x[..., half:], x[..., :1]], axis=3), axis=[3])
    x = x[..., : half + 1]
    # One odd frequency more than there are: both kinds have the same number.
    waves = [_waves(size, quarter + 1, range(odd, half + 2, 2)) for odd in (0, 1)]
    share = np.ones([quarter + 1, 1])
    share[[0, quarter]] = 0.5  # these places met themselves
    parts = [[], []]
    for wave, y in enumerate((x + back, x - back)):
        back = tf.reverse(y[..., quarter:], axis=[3])
        front = y[..., : quarter + 1]
        for odd in (0, 1):
            seen = front - back if odd != wave else front + back
            parts[odd].append(_product(seen, share * waves[odd][wave]))
    pairs = [tf.reshape(tf.concat(part, axis=3), [-1, other, 2 * (quarter + 1), 1]) for part in parts]
    in_turns = tf.reshape(tf.concat(pairs, axis=3), [-1, other, 1, 4 * (quarter + 1)])
    return in_turns, slice(half + 2, 2 * half + 3)


def spectrum_quadrants(grey_levels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Magnitudes of the two-dimensional DFT at the frequencies from which symmetry gives all others.

    ``RFFT2D`` converts but runs on powers of two only, so the DFT is products with constant matrices, written as
    1x1 convolutions over transposed axes. From 128 pixels on its symmetry is used twice, which leaves a quarter of
    the multiplications and of the constants. With cosines and sines kept apart, four sums give the bins (u, v) and
    (-u, v) both.

    Args:
        grey_levels: [N, H, W, 1] float32 integers, H and W even and known.

    Returns:
        Two of [N, H/2 + 1, W/2 + 1, 1] float32: ``|F(u, v)|`` and ``|F(-u, v)|`` for u, v from 0. The image's
        rounded mean is subtracted first and put back at the zero frequency, which keeps the rounding error of
        every bin under 1e-5 of the sum of its own magnitude and ``sqrt(sum((grey - mean)**2))``, the root mean
        square of the spectrum.

    Raises:
        UsageError: If H or W is unknown or odd.
    """
    _, height, width, _ = grey_levels.shape
    if not height or not width or height % 2 or width % 2:
        raise UsageError(f"the FFT channel needs an even, known image size; got {height} x {width}.")
    rows, columns = height // 2 + 1, width // 2 + 1
    # An integer mean leaves integers behind: the subtraction is exact and moves the zero frequency only.
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
    # The mean belongs to the zero frequency alone: a map of zeros but for one place, made of two vectors.
    first_row, first_column = np.zeros((1, rows, 1, 1), np.float32), np.zeros((1, 1, 1, columns), np.float32)
    first_row[0, 0], first_column[..., 0] = height, width
    cc = cc + mean * tf.constant(first_row) * tf.constant(first_column)

    def magnitude(real: tf.Tensor, imaginary: tf.Tensor) -> tf.Tensor:
        squares = real * real + imaginary * imaginary
        return tf.reshape(tf.sqrt(squares), [-1, rows, columns, 1])

    return magnitude(cc - ss, sc + cs), magnitude(cc + ss, cs - sc)


def _whole_spectrum(quadrant: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """The spectrum of a real image with the zero frequency in the centre, from `spectrum_quadrants`'s bins."""
    # |F(-u, -v)| = |F(u, v)|; frequencies run from -size/2 to size/2 - 1.
    upper = tf.concat([tf.reverse(quadrant[:, 1:, 1:], axis=[2]), mirrored[:, 1:, :-1]], axis=2)
    lower = tf.concat([tf.reverse(mirrored[:, :-1, 1:], axis=[2]), quadrant[:, :-1, :-1]], axis=2)
    return tf.concat([tf.reverse(upper, axis=[1]), lower], axis=1)


def spectrum_magnitude(grey_levels: tf.Tensor) -> tf.Tensor:
    """Magnitude of the two-dimensional DFT with the zero frequency in the centre.

    Args:
        grey_levels: [N, H, W, 1] float32 integers, H and W even and known.

    Returns:
        [N, H, W, 1] float32, ``|fftshift(fft2(grey))|``, as exact as :func:`spectrum_quadrants`.

    Raises:
        UsageError: If H or W is unknown or odd.
    """
    return _whole_spectrum(*spectrum_quadrants(grey_levels))


def fft_log_magnitude(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """FFT channel.

    Args:
        grey_levels: [N, H, W, 1] float32 integers in [0, 255], H and W even.
        variant: ``"paper"``: ``20 ln(|F| + 1e-9) / 255``, about [-1.63, 1.3]. ``"stable"``:
            ``ln(1 + |F|) / ln(1 + 255 H W)`` in [0, 1], without the cliff at empty bins.

    Returns:
        [N, H, W, 1] float32.
    """
    check_variant(variant)
    _, height, width, _ = grey_levels.shape
    offset, scale = (1e-9, 20.0 / 255.0) if variant == "paper" else (1.0, 0.0)
    # Before the bins are spread over the map: half as many logarithms.
    quadrants = spectrum_quadrants(grey_levels)
    scale = scale or float(1.0 / np.log1p(255.0 * height * width))
    return _whole_spectrum(*(tf.math.log(bins + offset) * scale for bins in quadrants))


def local_binary_pattern(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """LBP channel: uniform local binary pattern with 3 points at radius 6.

    With three points every pattern is uniform, so the pattern is the number of sample points that are at
    least as bright as the centre (bilinear samples, 0 outside the image), as in scikit-image's
    ``local_binary_pattern(grey, P=3, R=6, method="uniform")``.

    Args:
        grey_levels: [N, H, W, 1] float32 integers in [0, 255].
        variant: ``"paper"``: count / 255 (four values within 0.012). ``"stable"``: count / 3.

    Returns:
        [N, H, W, 1] float32.
    """
    check_variant(variant)
    _, height, width, _ = grey_levels.shape
    radius, back = _LBP_RADIUS, _LBP_RADIUS // 2
    padded = tf.pad(grey_levels, [[0, 0], [radius, radius], [back, radius], [0, 0]])

    def shifted(down: int, right: int) -> tf.Tensor:
        top, left = radius + down, back + right
        return padded[:, top : top + height, left : left + width, :] - grey_levels

    def at_least(difference: tf.Tensor) -> tf.Tensor:
        # The difference is an exact integer: 1 where it is >= 0, else 0.
        return tf.clip_by_value(difference + 1.0, 0.0, 1.0)

    count = at_least(shifted(0, radius))
    for side in (-1, 1):
        sample = _LBP_FAR * shifted(side * radius, -back) + _LBP_NEAR * shifted(side * (radius - 1), -back)
        count += at_least(sample)
    return count * (1.0 / 255.0 if variant == "paper" else 1.0 / 3.0)


def sobel_magnitude(grey_levels: tf.Tensor, variant: str = "paper") -> tf.Tensor:
    """Magnitude channel: length of the 7 x 7 Sobel gradient, as OpenCV's ``Sobel(..., ksize=7)`` gives it.

    Args:
        grey_levels: [N, H, W, 1] float32 integers in [0, 255], H and W at least 4.
        variant: ``"paper"``: magnitude / 255, unnormalised, up to 905. ``"stable"``:
            ``ln(1 + magnitude) / ln(1 + maximum)`` in [0, 1].

    Returns:
        [N, H, W, 1] float32.
    """
    check_variant(variant)
    padded = tf.pad(grey_levels, [[0, 0], [3, 3], [3, 3], [0, 0]], mode="REFLECT")

    def separable(vertical: np.ndarray, horizontal: np.ndarray) -> tf.Tensor:
        x = tf.nn.conv2d(padded, tf.constant(vertical.reshape(7, 1, 1, 1)), strides=1, padding="VALID")
        return tf.nn.conv2d(x, tf.constant(horizontal.reshape(1, 7, 1, 1)), strides=1, padding="VALID")

    dx = separable(_SOBEL_SMOOTH, _SOBEL_DERIVE)
    dy = separable(_SOBEL_DERIVE, _SOBEL_SMOOTH)
    magnitude = tf.sqrt(dx * dx + dy * dy)
    if variant == "paper":
        return magnitude * (1.0 / 255.0)
    return tf.math.log(magnitude + 1.0) * float(1.0 / np.log1p(_SOBEL_MAX))


_FUNCTIONS = {"sobel": sobel_magnitude, "fft": fft_log_magnitude, "lbp": local_binary_pattern}


def add_channels(
    images: tf.Tensor, channels: tuple[str, ...] = ("rgb", "fft", "lbp"), variant: str = "paper"
) -> tf.Tensor:
    """RGB in [0, 1] with the named channels behind it.

    Args:
        images: [N, H, W, 3] RGB, uint8 or float32 holding integers in [0, 255].
        channels: Names from :data:`CHANNELS`, ``"rgb"`` among them.
        variant: ``"paper"`` or ``"stable"``, for every channel.

    Returns:
        [N, H, W, C] float32 with C = ``len(channels)`` + 2.
    """
    channels = parse_channels(channels)
    x = tf.cast(images, tf.float32)
    parts = [x * (1.0 / 255.0)]
    if len(channels) > 1:
        levels = grey(x)
        parts += [_FUNCTIONS[name](levels, variant) for name in channels if name != "rgb"]
    return tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]


class _ChannelLayer(tf.keras.layers.Layer):
    """A channel as a layer: [N, H, W, 3] RGB in [0, 255] -> [N, H, W, 1] float32, nothing to train."""

    function = None

    def __init__(self, variant: str = "paper", **kwargs):
        super().__init__(**kwargs)
        self.variant = check_variant(variant)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Compute the channel."""
        return type(self).function(grey(images), self.variant)

    def get_config(self) -> dict:
        """Configuration, for serialisation."""
        return {**super().get_config(), "variant": self.variant}


@tf.keras.utils.register_keras_serializable("bdd_tf")
class FFTLogMagnitude(_ChannelLayer):
    """:func:`fft_log_magnitude` as a layer on RGB images."""

    function = staticmethod(fft_log_magnitude)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class LocalBinaryPattern(_ChannelLayer):
    """:func:`local_binary_pattern` as a layer on RGB images."""

    function = staticmethod(local_binary_pattern)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class SobelMagnitude(_ChannelLayer):
    """:func:`sobel_magnitude` as a layer on RGB images."""

    function = staticmethod(sobel_magnitude)


@tf.keras.utils.register_keras_serializable("bdd_tf")
class ForensicChannels(tf.keras.layers.Layer):
    """:func:`add_channels` as a layer: [N, H, W, 3] in [0, 255] -> [N, H, W, C] float32."""

    def __init__(self, channels: tuple[str, ...] = ("rgb", "fft", "lbp"), variant: str = "paper", **kwargs):
        super().__init__(**kwargs)
        self.channels = parse_channels(channels)
        self.variant = check_variant(variant)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Concatenate RGB and the channels, which share one grey conversion."""
        return add_channels(images, self.channels, self.variant)

    def get_config(self) -> dict:
        """Configuration, for serialisation."""
        return {**super().get_config(), "channels": list(self.channels), "variant": self.variant}
