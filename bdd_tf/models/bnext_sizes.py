"""Sizes and layout of BNext, for code that builds it with and without TensorFlow (:mod:`bdd_tf.pytorch.bnext`).

``bnext-e`` is this project's own: the published units in an arrangement chosen by measured milliseconds instead of
operation counts (docs/backbones.md). A map of the first stages costs most of the time, because elementwise work grows with
its pixels; so the stem divides the image once more, and the stages behind it are few and wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Straight-through gradients pass where |x| <= 1.5; latent weights are clipped to +-1.5.
CLIP = 1.5


@dataclass(frozen=True)
class BNextBlock:
    """One block: a 3x3 unit, then one 1x1 unit, or two in parallel that double the width.

    Attributes:
        number: Position in the network, from 1; 0 is the stem.
        into: Channels of the input and of each unit.
        out: Channels of the output, ``into`` or twice as many.
        stride: Stride of the 3x3 unit.
        attention: Whether the residual of the 3x3 unit multiplies (element-wise attention).
    """

    number: int
    into: int
    out: int
    stride: int
    attention: bool

    @property
    def doubles(self) -> bool:
        """Whether two 1x1 units double the width."""
        return self.out != self.into


@dataclass(frozen=True)
class BNextSize:
    """A size of BNext.

    Attributes:
        widths: Channels of the stem, then of each block's output.
        stem_strides: Possible strides of the stem: the usual one first, the one for small images last.
        stem_kernel: Side of the stem's kernel, at least the largest of these strides if no pixel is to be left out.
    """

    widths: tuple[int, ...]
    stem_strides: tuple[int, ...] = (2, 1)
    stem_kernel: int = 3

    @property
    def blocks(self) -> tuple[BNextBlock, ...]:
        """The blocks in order.

        As published: a block that doubles the width halves the map, except for the first block; every second block has
        the attention form.
        """
        return tuple(
            BNextBlock(i, into, out, 2 if i > 1 and out != into else 1, i % 2 == 0)
            for i, (into, out) in enumerate(zip(self.widths, self.widths[1:], strict=False), start=1)
        )

    @property
    def stride(self) -> int:
        """Product of the blocks' strides; the stem's is not included."""
        return math.prod(block.stride for block in self.blocks)


BNEXT = {
    "bnext-n": BNextSize((16, 32, *[64] * 2, *[128] * 2, *[256] * 6, *[512] * 2)),
    "bnext-t": BNextSize((32, 64, *[128] * 2, *[256] * 2, *[512] * 6, *[1024] * 2)),
    "bnext-s": BNextSize((48, 96, *[192] * 2, *[384] * 2, *[768] * 6, *[1536] * 2)),
    "bnext-m": BNextSize((48, 96, *[192] * 4, *[384] * 4, *[768] * 8, *[1536] * 4)),
    "bnext-l": BNextSize((64, 128, *[256] * 4, *[512] * 4, *[1024] * 16, *[2048] * 4)),
    "bnext-e": BNextSize((32, 64, 128, 128, 256, 256, 256), stem_strides=(4, 2), stem_kernel=4),
}
