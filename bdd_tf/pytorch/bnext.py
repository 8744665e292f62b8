"""BNext and the detector that contains it in PyTorch, at temperature 0 (binary), with the published tensor names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.models.bnext_sizes import BNEXT, CLIP
from bdd_tf.models.imagenet import MEAN, STD


class _Sign(torch.autograd.Function):
    """torch.sign with the published straight-through gradient: 1 for inputs in [-CLIP, CLIP], else 0."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        # hardtanh has this gradient and computes it in one pass over memory.
        return torch.ops.aten.hardtanh_backward(gradient, x, -CLIP, CLIP)


sign = _Sign.apply


class Move(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))


class Sign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.zeros(1))


class BinaryConv(nn.Module):
    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, kernel, kernel) * 0.5)
        self.register_buffer("temperature", torch.zeros(1))
        self.stride, self.padding = stride, kernel // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, sign(self.weight), stride=self.stride, padding=self.padding)


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 8, 1),
            nn.ReLU(),
            nn.Conv2d(width // 8, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.se(x))


class Unit(nn.Module):
    """A binary convolution with gate and residual. The input of the gate is mixed on full-size maps, as published."""

    def __init__(self, width: int, kernel: int, stride: int = 1, attention: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.5))
        self.move = Move(width)
        self.binary_activation = Sign()
        self.binary_conv = BinaryConv(width, kernel, stride)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.activation1, self.activation2 = nn.PReLU(width), nn.PReLU(width)
        self.se = Gate(width)
        self.stride, self.attention = stride, attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.activation1(x) if self.attention else x
        y = self.activation2(self.norm1(self.binary_conv(sign(x + self.move.bias))))
        if self.stride == 2:
            residual, x = F.avg_pool2d(residual, 2), F.avg_pool2d(x, 2)
        y = self.se(self.scale * x + (1 - self.scale) * y) * y
        return self.norm2(y * residual if self.attention else y) + residual


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int, attention: bool) -> None:
        super().__init__()
        self.Attention = Unit(into, 3, stride, attention)
        if into == out:
            self.FFN = Unit(into, 1)
        else:
            self.FFN_1, self.FFN_2 = Unit(into, 1), Unit(into, 1)
        self.doubles = into != out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.Attention(x)
        return torch.cat((self.FFN_1(x), self.FFN_2(x)), 1) if self.doubles else self.FFN(x)


class Stem(nn.Module):
    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = max(kernel - stride + 1, 0) // 2  # of both sides, as TensorFlow's SAME pads them in all
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)  # never applied, but every published checkpoint contains it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn1(self.conv1(x))


class BNext(nn.Module):
    def __init__(self, size: str, stem_stride: int = 2, classes: int = 1000) -> None:
        super().__init__()
        widths = BNEXT[size].widths
        self.feature = nn.ModuleList([Stem(widths[0], BNEXT[size].stem_kernel, stem_stride)])
        self.feature.extend(Block(b.into, b.out, b.stride, b.attention) for b in BNEXT[size].blocks)
        self.prelu = nn.PReLU(widths[-1])
        self.fc = nn.Linear(widths[-1], classes) if classes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.feature:
            x = layer(x)
        return self.fc(self.prelu(x).mean((2, 3)))


class Detector(nn.Module):
    """The reference detector: RGB and k channels, float [N, 3 + k, H, W], to the logit of REAL, [N, 1]."""

    def __init__(self, size: str, extra_channels: int, stem_stride: int = 2) -> None:
        super().__init__()
        self.adapter = nn.Conv2d(3 + extra_channels, 3, 3, 1, 1) if extra_channels else nn.Identity()
        self.base_model = BNext(size, stem_stride, classes=0)
        self.fc = nn.Linear(BNEXT[size].widths[-1], 1)
        for name, values in (("mean", MEAN), ("std", STD)):  # buffers, not weights
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.base_model((self.adapter(x) - self.mean) / self.std))


def initialise_adapter(weight: torch.Tensor) -> None:
    """Set an adapter's kernel [3, 3 + k, 3, 3] to the identity on RGB and small random weights for other channels."""
    with torch.no_grad():
        weight.normal_(0, 0.05)
        weight[:, :3] = 0
        weight[range(3), range(3), 1, 1] = 1


#: Default of the largest gain of a random network's units.
GAIN = 0.5


def randomise(model: nn.Module, seed: int = 0, gain: float = GAIN) -> nn.Module:
    """Set all weights to random values that differ from their initial ones, so that a test notices a forgotten weight.

    Args:
        model: The network; changed in place.
        seed: Seed of the random numbers.
        gain: Largest scale of the batch normalisation after a unit's gate; scales are uniform in [gain / 5, gain].

    Returns:
        The network.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("scale"):
                p.uniform_(0, 1)
            elif "activation" in name or "prelu" in name:
                p.uniform_(0.1, 0.4)
            elif name.endswith("binary_conv.weight"):
                p[p == 0] = 0.5  # 0 has no sign, and a few of millions of normal numbers are exactly 0
            elif name.endswith("move.bias"):
                p.normal_(0, 0.2)
            elif name.endswith("norm2.weight"):
                # The residual carries most of the signal, as in a trained network. With larger gains, a single sign
                # that rounding flips would change all later layers.
                p.uniform_(gain / 5, gain)
            elif "norm" in name or "bn1" in name:
                p.uniform_(0.5, 1.5) if name.endswith("weight") else p.normal_(0, 0.2)
    return model


def benchmark_run(contender: dict) -> Callable[[], object]:
    """Prepare the published network in PyTorch, in float32 and without channels, for `bdd benchmark`.

    Args:
        contender: ``backbone``, ``resolution`` and ``threads``.

    Returns:
        A function that runs the network once.
    """
    from bdd_tf.edge.benchmark.worker import sample_input

    torch.set_num_threads(contender["threads"])
    side = contender["resolution"]
    net = BNext(contender["backbone"], 2 if side >= 96 else 1, classes=1).eval()
    x = torch.from_numpy(sample_input((1, 3, side, side), np.float32))

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return net(x)

    return run
