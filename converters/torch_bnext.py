"""BNext and the detector around it in PyTorch, at temperature 0, with the published names of tensors."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.models.sizes import BNEXT, CLIP

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Sign(torch.autograd.Function):
    """torch.sign with the published straight-through gradient, so that the net can be trained as it is run."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, -CLIP, CLIP)  # one pass


sign = _Sign.apply


class Move(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))


class Sign(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("temperature", torch.zeros(1))


class BinaryConv(nn.Module):
    def __init__(self, width, kernel, stride):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, kernel, kernel) * 0.5)
        self.register_buffer("temperature", torch.zeros(1))
        self.stride, self.padding = stride, kernel // 2

    def forward(self, x):
        return F.conv2d(x, sign(self.weight), stride=self.stride, padding=self.padding)


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 8, 1),
            nn.ReLU(),
            nn.Conv2d(width // 8, width, 1),
        )

    def forward(self, x):
        return torch.sigmoid(self.se(x))


class Unit(nn.Module):
    """A binary convolution with gate and residual; the mix is made on whole maps, as published."""

    def __init__(self, width, kernel, stride=1, attention=False):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.5))
        self.move = Move(width)
        self.binary_activation = Sign()
        self.binary_conv = BinaryConv(width, kernel, stride)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.activation1, self.activation2 = nn.PReLU(width), nn.PReLU(width)
        self.se = Gate(width)
        self.stride, self.attention = stride, attention

    def forward(self, x):
        residual = self.activation1(x) if self.attention else x
        y = self.activation2(self.norm1(self.binary_conv(sign(x + self.move.bias))))
        if self.stride == 2:
            residual, x = F.avg_pool2d(residual, 2), F.avg_pool2d(x, 2)
        y = self.se(self.scale * x + (1 - self.scale) * y) * y
        return self.norm2(y * residual if self.attention else y) + residual


class Block(nn.Module):
    def __init__(self, into, out, stride, attention):
        super().__init__()
        self.Attention = Unit(into, 3, stride, attention)
        if into == out:
            self.FFN = Unit(into, 1)
        else:
            self.FFN_1, self.FFN_2 = Unit(into, 1), Unit(into, 1)
        self.doubles = into != out

    def forward(self, x):
        x = self.Attention(x)
        return torch.cat((self.FFN_1(x), self.FFN_2(x)), 1) if self.doubles else self.FFN(x)


class Stem(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)  # never used, and in every published checkpoint

    def forward(self, x):
        return self.bn1(self.conv1(x))


class BNext(nn.Module):
    def __init__(self, size, stem_stride=2, classes=1000):
        super().__init__()
        widths = BNEXT[size].widths
        self.feature = nn.ModuleList([Stem(widths[0], stem_stride)])
        for i in range(1, len(widths)):
            stride = 2 if i > 1 and widths[i] != widths[i - 1] else 1
            self.feature.append(Block(widths[i - 1], widths[i], stride, i % 2 == 0))
        self.prelu = nn.PReLU(widths[-1])
        self.fc = nn.Linear(widths[-1], classes) if classes else nn.Identity()

    def forward(self, x):
        for layer in self.feature:
            x = layer(x)
        return self.fc(self.prelu(x).mean((2, 3)))


class Detector(nn.Module):
    """Takes RGB and channels in [0, 1], [N, 3 + k, H, W]; gives the logit of REAL."""

    def __init__(self, size, extra_channels, stem_stride=2):
        super().__init__()
        self.adapter = nn.Conv2d(3 + extra_channels, 3, 3, 1, 1) if extra_channels else nn.Identity()
        self.base_model = BNext(size, stem_stride, classes=0)
        self.fc = nn.Linear(BNEXT[size].widths[-1], 1)
        for name, values in (("mean", MEAN), ("std", STD)):  # they move with the weights, and are none
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x):
        return self.fc(self.base_model((self.adapter(x) - self.mean) / self.std))


#: Largest gain of a random net's units, if not told.
GAIN = 0.5


def randomise(model, seed=0, gain=GAIN):
    """Weights of every kind away from their start, so that none of them can be forgotten unnoticed.

    Args:
        model: Whose weights are drawn, in place.
        seed: Of the generator.
        gain: The largest factor of what a unit adds to its residual, of a fifth of it to the whole.

    Returns:
        The model.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("scale"):
                p.uniform_(0, 1)
            elif "activation" in name or "prelu" in name:
                p.uniform_(0.1, 0.4)
            elif name.endswith("binary_conv.weight"):
                p[p == 0] = 0.5  # of millions of normal numbers a few are exactly 0: no sign
            elif name.endswith("move.bias"):
                p.normal_(0, 0.2)
            elif name.endswith("norm2.weight"):
                # The residual carries most of the signal, as in a trained net; with larger ones a single sign
                # that rounding flips changes everything behind it.
                p.uniform_(gain / 5, gain)
            elif "norm" in name or "bn1" in name:
                p.uniform_(0.5, 1.5) if name.endswith("weight") else p.normal_(0, 0.2)
    return model


def calibrate(model, x):
    """Batch statistics of x as the model's running statistics, momentum 1."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(x)
    return model.eval()


def benchmark_run(contender):
    """The published network in PyTorch, float32 with signs, for `bdd benchmark`; channels are left out.

    Args:
        contender: ``backbone``, ``resolution`` and ``threads``.

    Returns:
        What runs it once.
    """
    from bdd_tf.edge.bench_worker import sample_input

    torch.set_num_threads(contender["threads"])
    side = contender["resolution"]
    net = BNext(contender["backbone"], 2 if side >= 96 else 1, classes=1).eval()
    x = torch.from_numpy(sample_input((1, 3, side, side), np.float32))

    def run():
        with torch.inference_mode():
            return net(x)

    return run
