"""Re-estimation of batch norm statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def update_bn(net: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Re-estimate the running statistics of every batch normalisation as their mean over batches.

    The weights stay as they are. The network is left in training mode.

    Args:
        net: The network; changed in place.
        batches: Its inputs.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    net.train()
    with torch.no_grad():
        for batch in batches:
            net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
