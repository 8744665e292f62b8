"""Augment batches on the device."""

from __future__ import annotations

import torch
from torch.nn import functional as F

#: The augmentations of :mod:`bdd_tf.datasets.augment` that PyTorch training supports.
AUGMENTATIONS = ("flip", "vflip", "crop")


def augmented(images: torch.Tensor, index: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
    """Select a batch and augment it with the distribution of :func:`bdd_tf.datasets.augment.augment`.

    Args:
        images: uint8 [n, S, S, 3], the whole split.
        index: Indices of the batch's images, int64 [B].
        names: Names from :data:`AUGMENTATIONS`.

    Returns:
        uint8 [B, S, S, 3].
    """
    count, side = len(index), images.shape[1]
    rows = torch.arange(side, device=images.device).expand(count, side)
    columns = rows
    if "crop" in names:
        margin = max(side // 8, 1)
        shifts = (torch.rand(2, count, 1, device=images.device) * (2 * margin + 1)).long() - margin
        rows, columns = (
            torch.minimum(shifted.abs(), 2 * (side - 1) - shifted.abs())
            for shifted in (rows + shifts[0], columns + shifts[1])
        )
    if "flip" in names:
        columns = torch.where(torch.rand(count, 1, device=images.device) < 0.5, columns.flip(1), columns)
    if "vflip" in names:
        rows = torch.where(torch.rand(count, 1, device=images.device) < 0.5, rows.flip(1), rows)
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def enlarged(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize images uint8 [N, S, S, 3], packed at their native size, to a larger side with bilinear interpolation."""
    if images.shape[1] == side:
        return images
    x = images.permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    return x.add_(0.5).to(torch.uint8).permute(0, 2, 3, 1)
