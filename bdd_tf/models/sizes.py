"""BNext's sizes and constants, for code that builds it without TensorFlow as well (:mod:`converters.torch_bnext`)."""

from __future__ import annotations

from dataclasses import dataclass

#: Straight-through gradients pass where |x| <= 1.5, latent weights are kept within +-1.5.
CLIP = 1.5


@dataclass(frozen=True)
class BNextSize:
    """Width of the stem, then of each block's output."""

    widths: tuple[int, ...]


BNEXT = {
    "bnext-n": BNextSize((16, 32, *[64] * 2, *[128] * 2, *[256] * 6, *[512] * 2)),
    "bnext-t": BNextSize((32, 64, *[128] * 2, *[256] * 2, *[512] * 6, *[1024] * 2)),
    "bnext-s": BNextSize((48, 96, *[192] * 2, *[384] * 2, *[768] * 6, *[1536] * 2)),
    "bnext-m": BNextSize((48, 96, *[192] * 4, *[384] * 4, *[768] * 8, *[1536] * 4)),
    "bnext-l": BNextSize((64, 128, *[256] * 4, *[512] * 4, *[1024] * 16, *[2048] * 4)),
}
