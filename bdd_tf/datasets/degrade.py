"""The degradation chain of training: what happens to images between a generator or camera and a detector.

:func:`draw` draws the parameters of one image from a random generator. It knows the image's size, not its class, so
that both classes are degraded alike. :func:`apply` carries them out, in the order in which they happen to images:

1. rescale, so that the short side of the whole image ends between :attr:`Degradation.short_side`; or, rarely, shrink
   it hard; crop a region off the 8-pixel grid of the file's own JPEG blocks; flip and turn;
2. edit: retouch (:mod:`bdd_tf.datasets.retouch`), blur, brightness, contrast, saturation, grey, noise;
3. encode as JPEG or WebP, and sometimes crop and encode again;
4. crop the network's square at a random offset to the last codec's grid, as native crops of a file have it; pad by
   reflection what is smaller;
5. hide parts: cutout and a mask of patches.

All draws happen in :func:`draw`, but for the noise, whose seed is drawn there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets import codecs, retouch
from bdd_tf.datasets.codecs import Pixels
from bdd_tf.datasets.retouch import Retouch
from bdd_tf.errors import UsageError

Generator = np.random.Generator
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: Largest enlargement of a rescale.
LARGEST_FACTOR = 1.6
#: Smallest factor of a hard downscale; what falls below the crop's size is padded by reflection.
HARD_FACTOR = 0.45
#: Margin in pixels that a region has beyond the crop where the image allows: two offsets to a grid of 8.
MARGIN = 15


@dataclass(frozen=True)
class Degradation:
    """Probabilities and ranges of the chain.

    Attributes:
        size: Side of the crops that come out, in pixels.
        rescale: Probability of a rescale.
        short_side: Range of the short side of the whole image after a rescale, in pixels, log-uniform where the
            crop's own pixels allow.
        hard: Probability of a hard downscale instead.
        hard_side: Its range of the short side in pixels.
        codec: Probability of JPEG or WebP.
        quality: Range of their quality, uniform.
        webp: Share of WebP.
        second: Probability of a second round, given a first.
        blur: Probability of a Gaussian blur.
        noise: Probability of noise.
        cutout: Probability of a cutout.
        grey: Probability of grey.
        jitter: Probability of changed brightness, contrast and saturation.
        mask: Probability of a mask of 16-pixel patches.
        clean: Share of the images that :meth:`light` draws instead, without a rescale, as detectors see images that were
            saved once.
        retouch: Probability of a retouch, in these and in the others.
    """

    size: int = 128
    rescale: float = 0.5
    short_side: tuple[float, float] = (200.0, 1000.0)
    hard: float = 0.15
    hard_side: tuple[float, float] = (180.0, 320.0)
    codec: float = 0.85
    quality: tuple[int, int] = (30, 95)
    webp: float = 0.25
    second: float = 0.3
    blur: float = 0.2
    noise: float = 0.2
    cutout: float = 0.2
    grey: float = 0.2
    jitter: float = 0.8
    mask: float = 0.3
    clean: float = 0.0
    retouch: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: Names the value.
        """
        if not 16 <= self.size <= 512:
            raise UsageError(f"the size of crops is {self.size}; it must lie in [16, 512].")
        for name in (
            "rescale",
            "hard",
            "codec",
            "webp",
            "second",
            "blur",
            "noise",
            "cutout",
            "grey",
            "jitter",
            "mask",
            "clean",
            "retouch",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a probability; got {getattr(self, name)}.")
        for name in ("short_side", "hard_side", "quality"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UsageError(f"{name} is the range {low} to {high}; it must be positive and rising.")

    @classmethod
    def light(cls, size: int = 128, rescale: float = 0.5, codec: float = 0.7) -> Degradation:
        """A mild chain: rescale and one JPEG of quality 75 to 95, flips and turns."""
        return cls(size, rescale, hard=0, codec=codec, quality=(75, 95), webp=0, second=0, blur=0, noise=0, cutout=0, grey=0,
                   jitter=0, mask=0)  # fmt: skip


@dataclass(frozen=True)
class Codec:
    """One encoding: JPEG with a subsampling, or WebP where that is empty; quality 1 to 100."""

    quality: int
    subsampling: str

    def apply(self, image: Pixels) -> Pixels:
        """The image encoded and decoded."""
        if self.subsampling:
            return codecs.jpeg(image, self.quality, self.subsampling)
        return codecs.webp(image, self.quality)


@dataclass(frozen=True)
class Plan:
    """All that is done to one image.

    Attributes:
        factor: Of the rescale; 1 for none.
        filter: Its filter, one of :data:`bdd_tf.datasets.codecs.FILTERS`.
        side: Side of the region in pixels, before it is encoded.
        places: float [3, 2] in [0, 1): where the region, the second region and the crop lie in what precedes them.
        flip: Whether the region is mirrored.
        turns: Quarter turns.
        blur: Sigma in pixels; 0 for none.
        light: Factors of brightness, contrast and saturation; 1 for none.
        noise: Standard deviation in grey levels; 0 for none.
        noise_seed: Seed of the noise.
        noise_grey: Whether all three channels get the same noise.
        codecs: The encodings, in order.
        cutout: Top, left, height, width as shares of the crop, and a grey level; empty for none.
        mask: bool [n, n]: hidden patches of 16 pixels; None for none.
        retouch: Before all other edits; None for none.
    """

    factor: float
    filter: str
    side: int
    places: NDArray[np.float64]
    flip: bool
    turns: int
    blur: float
    light: tuple[float, float, float]
    noise: float
    noise_seed: int
    noise_grey: bool
    codecs: tuple[Codec, ...]
    cutout: tuple[float, ...]
    mask: NDArray[np.bool_] | None
    retouch: Retouch | None = None


def draw(rng: Generator, chain: Degradation, height: int, width: int, short_side: float) -> Plan:
    """Draw what happens to one image.

    Args:
        rng: Consumed; the same state gives the same plan.
        chain: The distribution.
        height: Of the pixels at hand (a crop or a whole image).
        width: Likewise.
        short_side: Short side of the whole image at the scale of these pixels.

    Returns:
        The plan.
    """
    pixels = min(height, width)
    factor = _factor(rng, chain, pixels, short_side)
    scaled = max(round(pixels * factor), 1)
    side = min(scaled, chain.size + int(rng.integers(MARGIN + 1)))
    used = rng.random(8) < (chain.blur, chain.jitter, chain.grey, chain.noise, chain.codec, chain.second, chain.cutout,
                            chain.mask)  # fmt: skip
    light = rng.uniform((0.75, 0.75, 0.6), (1.25, 1.25, 1.4)) if used[1] else np.ones(3)
    if used[2]:
        light[2] = 0.0
    rounds = (1 + used[5]) * used[4]
    share = rng.uniform(0.1, 0.75) if used[7] else 0.0
    patches = -(-chain.size // 16)
    return Plan(
        factor,
        codecs.FILTERS[rng.integers(len(codecs.FILTERS))],
        side,
        rng.random((3, 2)),
        bool(rng.random() < 0.5),
        int(rng.integers(4)),
        float(rng.uniform(0.3, 1.6)) if used[0] else 0.0,
        (float(light[0]), float(light[1]), float(light[2])),
        float(np.exp(rng.uniform(0, np.log(10)))) if used[3] else 0.0,
        int(rng.integers(2**31)),
        bool(rng.random() < 0.5),
        tuple(_codec(rng, chain) for _ in range(int(rounds))),
        (*rng.random(2), *rng.uniform(0.1, 0.4, 2), rng.uniform(0, 255)) if used[6] else (),
        rng.random((patches, patches)) < share if used[7] else None,
        # Drawn last, and only where wanted, so that trainings from before it get the same pixels.
        retouch.draw(rng) if chain.retouch and rng.random() < chain.retouch else None,
    )


def _factor(rng: Generator, chain: Degradation, pixels: int, short_side: float) -> float:
    """The rescale's factor: of the side and the image's own scale alone."""
    hard, rescaled, position = rng.random(3)
    if hard < chain.hard:
        low, high = HARD_FACTOR, 1.0
        wanted = chain.hard_side
    elif rescaled < chain.rescale:
        # A region must still fill the crop, with one pixel to move it by.
        low, high = min((chain.size + 1) / pixels, 1.0), LARGEST_FACTOR
        wanted = chain.short_side
    else:
        return 1.0
    bottom, top = np.clip((wanted[0] / short_side, wanted[1] / short_side), low, high)
    if bottom == top:
        # The range is out of reach: come near it, at various factors.
        bottom, top = (low, min(1.0, low * 1.25)) if bottom == low else (high * 0.8, high)
    return float(np.exp(np.log(bottom) + position * (np.log(top) - np.log(bottom))))


def _codec(rng: Generator, chain: Degradation) -> Codec:
    webp, kind = rng.random(2)
    quality = int(rng.integers(chain.quality[0], chain.quality[1] + 1))
    if webp < chain.webp:
        return Codec(quality, "")
    return Codec(quality, "4:2:0" if kind < 0.6 else "4:4:4" if kind < 0.9 else "4:2:2")


def apply(image: Pixels, plan: Plan, size: int) -> Pixels:
    """Degrade one image.

    Args:
        image: uint8 [H, W, 3], RGB.
        plan: From :func:`draw` for this image's size.
        size: Side of the crop.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    if plan.factor != 1:
        image = _rescaled(image, plan)
        height, width = image.shape[:2]
    image = cut(image, min(plan.side, height), min(plan.side, width), plan.places[0])
    if plan.flip:
        image = image[:, ::-1]
    image = np.ascontiguousarray(np.rot90(image, plan.turns))
    if plan.retouch is not None:
        image = retouch.apply(image, plan.retouch)
    if plan.blur:
        image = cv2.GaussianBlur(image, (0, 0), plan.blur)
    image = _edited(image, plan)
    for number, codec in enumerate(plan.codecs):
        if number:
            # Half of what is left over, so that the last crop can still move.
            tall, wide = (side - max(side - size, 0) // 2 for side in image.shape[:2])
            image = cut(image, tall, wide, plan.places[1])
            image = np.ascontiguousarray(image)
        image = codec.apply(image)
    image = codecs.pad(image, size)
    image = np.array(cut(image, size, size, plan.places[2]))
    return _hidden(image, plan)


def _rescaled(image: Pixels, plan: Plan) -> Pixels:
    height, width = image.shape[:2]
    side = plan.side / plan.factor + 8
    if min(height, width) > 2 * side:
        # Of a whole photograph only the region is resized.
        need = int(np.ceil(side))
        image = np.ascontiguousarray(cut(image, need, need, plan.places[0]))
        height, width = image.shape[:2]
    return codecs.resize(
        image, max(round(width * plan.factor), 1), max(round(height * plan.factor), 1), plan.filter
    )


def cut(image: Pixels, height: int, width: int, place: NDArray[np.float64]) -> Pixels:
    """A crop of given size, at a place in [0, 1)² of those that fit; a view."""
    top = int(place[0] * (image.shape[0] - height + 1))
    left = int(place[1] * (image.shape[1] - width + 1))
    return image[top : top + height, left : left + width]


def _edited(image: Pixels, plan: Plan) -> Pixels:
    """Brightness, contrast, saturation and noise, with one rounding."""
    if plan.light == (1, 1, 1) and not plan.noise:
        return image
    brightness, contrast, saturation = plan.light
    # x -> brightness * (contrast * (x - mean) + mean), and the same about each pixel's luma for saturation.
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :])
    offset = brightness * (1 - contrast) * float(np.dot(cv2.mean(image)[:3], _LUMA))
    if not plan.noise:
        return cv2.transform(image, np.hstack([matrix, np.full((3, 1), offset)]))
    channels = 1 if plan.noise_grey else 3
    noise = np.random.default_rng(plan.noise_seed).standard_normal((*image.shape[:2], channels), np.float32)
    values = cv2.transform(image.astype(np.float32), np.hstack([matrix, np.full((3, 1), offset + 0.5)]))
    values += noise * np.float32(plan.noise)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _hidden(image: Pixels, plan: Plan) -> Pixels:
    size = image.shape[0]
    if plan.cutout:
        top, left, tall, wide, grey = plan.cutout
        rows, columns = int(tall * size), int(wide * size)
        top, left = int(top * (size - rows)), int(left * (size - columns))
        image[top : top + rows, left : left + columns] = int(grey)
    if plan.mask is not None:
        hidden = np.repeat(np.repeat(plan.mask, 16, axis=0), 16, axis=1)[:size, :size]
        image[hidden] = 0
    return image


def degrade(image: Pixels, short_side: float, chain: Degradation, key: tuple[int, ...]) -> Pixels:
    """Draw and apply: the same pixels for the same image, chain and key.

    Args:
        image: uint8 [H, W, 3], RGB.
        short_side: Short side of the whole image at this scale, in pixels.
        chain: The distribution.
        key: Whole numbers that seed the draw, e.g. (seed, epoch, index).

    Returns:
        uint8 [size, size, 3].
    """
    rng = np.random.default_rng(list(key))
    height, width = image.shape[:2]
    # No draw without a share, so that trainings from before it get the same pixels.
    if chain.clean and rng.random() < chain.clean:
        chain = replace(Degradation.light(chain.size, rescale=0, codec=1), retouch=chain.retouch)
    return apply(image, draw(rng, chain, height, width, short_side), chain.size)
