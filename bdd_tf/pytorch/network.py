"""Build the network that PyTorch trains, with the initial weights of the Keras model."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from bdd_tf.config import Experiment
from bdd_tf.errors import UsageError
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.models.registry import stem_stride
from bdd_tf.pytorch.augment import AUGMENTATIONS
from bdd_tf.pytorch.bnext import BinaryConv, Detector, Unit, initialise_adapter, sign
from bdd_tf.pytorch.channels import FUNCTIONS


class TrainedUnit(Unit):
    """A unit that computes the means of the gate before mixing them, as the Keras model does.

    The function is that of :class:`Unit`, which follows the published order, with fewer passes over memory.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float [N, C, H, W] to float [N, C, H / stride, W / stride]."""
        residual = self.activation1(x) if self.attention else x
        y = self.activation2(self.norm1(self.binary_conv(sign(x + self.move.bias))))
        if self.stride == 2:
            residual, x = F.avg_pool2d(residual, 2), F.avg_pool2d(x, 2)
        mean_x, mean_y = (t.mean((2, 3), keepdim=True) for t in (x, y))
        y = self.se(self.scale * mean_x + (1 - self.scale) * mean_y) * y
        return self.norm2(y * residual if self.attention else y) + residual


def initialise(net: Detector) -> None:
    """Prepare a detector for training: :class:`TrainedUnit` everywhere, and the initial weights of the Keras model.

    The adapter starts as the identity on RGB plus a little of each further channel. Latent binary weights are drawn from
    Glorot's normal distribution.

    Args:
        net: Changed in place.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Unit):
                module.__class__ = TrainedUnit
            elif isinstance(module, BinaryConv):
                width, _, kernel, _ = module.weight.shape
                module.weight.normal_(0, 1 / math.sqrt(width * kernel * kernel))
        if isinstance(net.adapter, nn.Conv2d):
            initialise_adapter(net.adapter.weight)
            net.adapter.bias.zero_()


class LogitWrapper(nn.Module):
    """A network whose output is the logit of FAKE, [N]. A BNext detector's own output is the logit of REAL.

    Args:
        net: A :class:`~bdd_tf.pytorch.bnext.Detector` or a :class:`~bdd_tf.pytorch.graph_net.GraphNet`.

    Attributes:
        is_float: Whether the network has no binary layers.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.is_float = not isinstance(net, Detector)
        self.logit_sign = 1.0 if self.is_float else -1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map channels [N, C, H, W] to logits [N]."""
        return self.net(x)[:, 0] * self.logit_sign


def network(config: Experiment, graph: dict | None = None) -> LogitWrapper:
    """Build an experiment's detector with initial weights drawn from its seed.

    Args:
        config: The experiment.
        graph: Graph of a backbone other than BNext (:func:`bdd_tf.pytorch.keras_graph.describe_graph`).

    Raises:
        UsageError: If PyTorch cannot train the experiment.
    """
    refused = [name for name in ("init", "freeze") if getattr(config, name)]
    if config.accumulate != 1:
        refused.append("accumulate")
    if config.stem != "adapter":
        refused.append(f"stem: {config.stem}")
    if config.backbone in BNEXT:
        refused += [f"channel {name}" for name in config.channels if name not in ("rgb", *FUNCTIONS)]
    if refused:
        raise UsageError(
            f"PyTorch training does not support {', '.join(refused)}: remove it from the settings, or use `bdd train`."
        )
    unknown = sorted(set(config.augment) - set(AUGMENTATIONS))
    if unknown:
        raise UsageError(
            f"PyTorch training does not support the augmentation {', '.join(unknown)}; possible: "
            f"{', '.join(AUGMENTATIONS)}."
        )
    torch.manual_seed(config.seed)
    if config.backbone in BNEXT:
        stride = stem_stride(config.backbone, config.resolution, config.stem_stride)
        net: nn.Module = Detector(config.backbone, len(config.channels) - 1, stride)
        initialise(net)
    elif graph is None:
        raise UsageError(
            f"backbone {config.backbone} needs --graph, which `python -m bdd_tf.pytorch.pack` writes."
        )
    else:
        from bdd_tf.pytorch.graph_net import GraphNet

        net = GraphNet(graph)
    return LogitWrapper(net.to(memory_format=torch.channels_last))
