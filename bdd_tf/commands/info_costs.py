"""Counts that `bdd info` prints of every kind of file."""

from __future__ import annotations

from bdd_tf.reports import published


def costs_of(binary: int | None, real: int | None, backbone: object) -> dict[str, float | None]:
    """Return binary and float MACs, operations by the paper's definition, and the published figures of a backbone."""
    return {
        "binary_macs": binary,
        "float_macs": real,
        "operations": binary / 64 + real if binary is not None and real is not None else None,
        "paper_operations": published.OPERATIONS.get(str(backbone)),
        "paper_parameters": published.PARAMETERS.get(str(backbone)),
    }


def weight_kind(rank: int, binary: bool) -> str:
    """Name the kind of a weight by its number of axes and whether only its sign is used."""
    if binary:
        return "latent binary weights"
    return "float kernels" if rank in (2, 4) else "per-channel vectors"
