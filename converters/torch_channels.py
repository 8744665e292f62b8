"""The forensic channels in PyTorch, for training there: the values of :mod:`bdd_tf.channels`, which documents them.

Equal to the Keras layers up to float32 rounding (tests/pytorch/test_torch_training.py).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def grey(images: torch.Tensor) -> torch.Tensor:
    """OpenCV's BGR2GRAY applied to RGB: float32 [N, 3, H, W] integers -> [N, 1, H, W] integers in [0, 255]."""
    red, green, blue = images.unbind(1)
    total = 3735.0 * red + 19235.0 * green + 9798.0 * blue
    return torch.floor((total + 16384.0) / 32768.0)[:, None]


def fft_log_magnitude(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """FFT channel of grey levels [N, 1, H, W]."""
    height, width = levels.shape[-2:]
    mean = levels.mean((2, 3), keepdim=True).round()
    spectrum = torch.fft.fft2(levels - mean)
    # The mean belongs to the zero frequency; taken out first, the others are more exact.
    spectrum[..., 0, 0] += mean[..., 0, 0] * (height * width)
    bins = torch.fft.fftshift(spectrum.abs(), dim=(2, 3))
    if variant == "paper":
        return torch.log(bins + 1e-9) * (20.0 / 255.0)
    return torch.log(bins + 1.0) / math.log1p(255.0 * height * width)


def local_binary_pattern(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """LBP channel, 3 points at radius 6, of grey levels [N, 1, H, W]."""
    height, width = levels.shape[-2:]
    padded = F.pad(levels, (3, 6, 6, 6))

    def shifted(down: int, right: int) -> torch.Tensor:
        return padded[..., 6 + down : 6 + down + height, 3 + right : 3 + right + width] - levels

    count = (shifted(0, 6) >= 0).float()
    for side in (-1, 1):
        count = count + (3923.0 * shifted(side * 6, -3) + 16077.0 * shifted(side * 5, -3) >= 0).float()
    return count / (255.0 if variant == "paper" else 3.0)


def sobel_magnitude(levels: torch.Tensor, variant: str) -> torch.Tensor:
    """Magnitude channel, the 7 x 7 Sobel gradient's length, of grey levels [N, 1, H, W]."""
    smooth = levels.new_zeros(7)
    derive = levels.new_zeros(7)
    # Filled by slices: a tensor made from a list could not be copied while a CUDA graph is captured.
    for i, (s, d) in enumerate(zip((1, 6, 15, 20, 15, 6, 1), (-1, -4, -5, 0, 5, 4, 1), strict=True)):
        smooth[i : i + 1].fill_(s)
        derive[i : i + 1].fill_(d)
    padded = F.pad(levels, (3, 3, 3, 3), mode="reflect")

    def separable(vertical: torch.Tensor, horizontal: torch.Tensor) -> torch.Tensor:
        rows = sum(padded[:, :, k : k + levels.shape[2]] * vertical[k] for k in range(7))
        return sum(rows[..., k : k + levels.shape[3]] * horizontal[k] for k in range(7))

    # Sums of integers, exact in float32; a convolution might run in TF32. The root in double precision: of torch 2.13.0's
    # in float32 on the CPU the first in a process, on two threads, is 3e-4 off in 6 of 30 processes (6,144 numbers);
    # in double precision never, of 20.
    squares = separable(smooth, derive) ** 2 + separable(derive, smooth) ** 2
    magnitude = torch.sqrt(squares.double()).to(squares.dtype)
    if variant == "paper":
        return magnitude / 255.0
    return torch.log(magnitude + 1.0) / math.log1p(64 * 10 * 255 * math.sqrt(2.0))


_FUNCTIONS = {"sobel": sobel_magnitude, "fft": fft_log_magnitude, "lbp": local_binary_pattern}


def add_channels(images: torch.Tensor, channels: tuple[str, ...], variant: str) -> torch.Tensor:
    """RGB in [0, 1] with the named channels behind it.

    Args:
        images: uint8 [N, H, W, 3].
        channels: ``"rgb"`` and others, in the order of :data:`bdd_tf.channels.CHANNELS`.
        variant: ``"paper"`` or ``"stable"``.

    Returns:
        float32 [N, len(channels) + 2, H, W].
    """
    x = images.permute(0, 3, 1, 2).float()
    parts = [x / 255.0]
    if len(channels) > 1:
        levels = grey(x)
        parts += [_FUNCTIONS[name](levels, variant) for name in channels if name != "rgb"]
    return torch.cat(parts, 1)
