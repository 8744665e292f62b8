"""The forensic channels in PyTorch, equal to `bdd_tf.models.channels` up to float32 rounding."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from bdd_tf.edge.images.channel_constants import (
    DETAIL_RANGE,
    GREY_BITS,
    GREY_WEIGHTS,
    LBP_FAR,
    LBP_NEAR,
    LUMA,
    SOBEL_DERIVE,
    SOBEL_SMOOTH,
)
from bdd_tf.errors import one_of


def grey(images: torch.Tensor) -> torch.Tensor:
    """Convert RGB to grey levels with OpenCV's fixed-point weights, in the channel order of the reference code.

    Args:
        images: float32 [N, 3, H, W] with integers in [0, 255].

    Returns:
        float32 [N, 1, H, W] with integers in [0, 255].
    """
    red, green, blue = images.unbind(1)
    total = GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue
    return torch.floor((total + (1 << GREY_BITS - 1)) / (1 << GREY_BITS))[:, None]


def fft_log_magnitude(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """Compute the FFT channel, float32 [N, 1, H, W], of grey levels of the same shape."""
    height, width = levels.shape[-2:]
    mean = levels.mean((2, 3), keepdim=True).round()
    spectrum = torch.fft.fft2(levels - mean)
    # Subtracting the mean first makes the other frequencies more accurate; it is added back at frequency zero.
    spectrum[..., 0, 0] += mean[..., 0, 0] * (height * width)
    bins = torch.fft.fftshift(spectrum.abs(), dim=(2, 3))
    if variant == "paper":
        return torch.log(bins + 1e-9) * (20.0 / 255.0)
    return torch.log(bins + 1.0) / math.log1p(255.0 * height * width)


def local_binary_pattern(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """Compute the LBP channel (3 points at radius 6), float32 [N, 1, H, W], of grey levels of the same shape."""
    height, width = levels.shape[-2:]
    padded = F.pad(levels, (3, 6, 6, 6))

    def shifted(down: int, right: int) -> torch.Tensor:
        return padded[..., 6 + down : 6 + down + height, 3 + right : 3 + right + width] - levels

    count = (shifted(0, 6) >= 0).float()
    for side in (-1, 1):
        count = count + (LBP_FAR * shifted(side * 6, -3) + LBP_NEAR * shifted(side * 5, -3) >= 0).float()
    return count / (255.0 if variant == "paper" else 3.0)


def sobel_magnitude(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """Compute the Sobel channel (magnitude of the 7x7 Sobel gradient), float32 [N, 1, H, W], of grey levels."""
    smooth = levels.new_zeros(7)
    derive = levels.new_zeros(7)
    # A tensor made from a list would be copied from the host, which is impossible while a CUDA graph is captured.
    for i, (s, d) in enumerate(zip(SOBEL_SMOOTH, SOBEL_DERIVE, strict=True)):
        smooth[i : i + 1].fill_(s)
        derive[i : i + 1].fill_(d)
    padded = F.pad(levels, (3, 3, 3, 3), mode="reflect")

    def separable(vertical: torch.Tensor, horizontal: torch.Tensor) -> torch.Tensor:
        rows = sum(padded[:, :, k : k + levels.shape[2]] * vertical[k] for k in range(7))
        return sum(rows[..., k : k + levels.shape[3]] * horizontal[k] for k in range(7))

    # Sums of integers are exact in float32; a convolution could run in TF32. The root is computed in double precision:
    # on the CPU with two threads, the first float32 root of a process was wrong by 3e-4 in 6 of 30 processes with torch
    # 2.13.0 (6,144 numbers), and in double precision in none of 20.
    squares = separable(smooth, derive) ** 2 + separable(derive, smooth) ** 2
    magnitude = torch.sqrt(squares.double()).to(squares.dtype)
    if variant == "paper":
        return magnitude / 255.0
    return torch.log(magnitude + 1.0) / math.log1p(64 * 10 * 255 * math.sqrt(2.0))


def median_residual(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """Compute the median channel, float32 [N, 1, H, W], of grey levels: the difference from the 3x3 median."""
    height, width = levels.shape[-2:]
    padded = F.pad(levels, (1, 1, 1, 1), mode="reflect")
    window = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    median = torch.stack(window).median(0).values
    return _detail_range((levels - median) / DETAIL_RANGE, variant)


def haar_details(images: torch.Tensor, variant: str) -> torch.Tensor:
    """Compute the Haar channels, float32 [N, 6, H, W], of float32 RGB images [N, 3, H, W] in [0, 255]."""
    height, width = images.shape[-2:]
    red, green, blue = images.unbind(1)
    luma = F.pad((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None], (1, 2, 1, 2), mode="reflect")
    sums = luma[..., :-1, :-1] + luma[..., :-1, 1:] + luma[..., 1:, :-1] + luma[..., 1:, 1:]

    def details(plane: torch.Tensor, start: int, step: int) -> list[torch.Tensor]:
        """LH, HL and HH of the 2x2 blocks that begin at ``start`` and whose elements are ``step`` apart."""
        rows = (slice(start, start + height), slice(start + step, start + step + height))
        columns = (slice(start, start + width), slice(start + step, start + step + width))
        a, b, c, d = (plane[..., y, x] for y in rows for x in columns)
        return [a - b + c - d, a + b - c - d, a - b - c + d]

    fine = [detail / 2 for detail in details(luma, 1, 1)]
    coarse = [detail / 8 for detail in details(sums, 0, 2)]
    return _detail_range(torch.cat(fine + coarse, 1) / DETAIL_RANGE, variant)


def _detail_range(values: torch.Tensor, variant: str) -> torch.Tensor:
    """Clip to [-1, 1]; the stable variant is shifted and scaled to [0, 1]."""
    clipped = values.clamp(-1.0, 1.0)
    return clipped if variant == "paper" else clipped * 0.5 + 0.5


#: Channel name -> function of grey levels [N, 1, H, W] and variant. The Haar channels are made of colours instead.
FUNCTIONS = {
    "sobel": sobel_magnitude,
    "fft": fft_log_magnitude,
    "lbp": local_binary_pattern,
    "median": median_residual,
}


def add_channels(images: torch.Tensor, channels: tuple[str, ...], variant: str) -> torch.Tensor:
    """Concatenate RGB in [0, 1] and forensic channels.

    Args:
        images: uint8 [N, H, W, 3].
        channels: ``"rgb"`` and further names, in the order of :data:`bdd_tf.models.channel_names.CHANNELS`.
        variant: ``"paper"`` or ``"stable"``.

    Returns:
        float32 [N, depth of the channels, H, W].

    Raises:
        UsageError: For a channel that PyTorch does not have: one from a plug-in.
    """
    possible = ("rgb", "haar", *FUNCTIONS)
    for name in channels:
        if name not in possible:
            raise one_of("channel in PyTorch", name, possible)
    x = images.permute(0, 3, 1, 2).float()
    parts = [x / 255.0]
    if len(channels) > 1:
        levels = grey(x)
        parts += [
            haar_details(x, variant) if name == "haar" else FUNCTIONS[name](levels, variant)
            for name in channels
            if name != "rgb"
        ]
    return torch.cat(parts, 1)
