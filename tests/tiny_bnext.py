"""BNext-U, a third of BNext-N: for tests of all that surrounds a network, which cost as much as the network has layers."""

from functools import partial

from bdd_tf.models import registry
from bdd_tf.models.bnext_sizes import BNEXT, BNextSize

NAME = "bnext-u"
#: Every form of unit (attention with a stride, two side by side, a plain one at the end), and gates of 1,024 weights or more.
SIZE = BNextSize((16, 32, 64, 128, 128))
#: Binary convolutions: three in a block that doubles the width, else two.
UNITS = sum(3 if block.doubles else 2 for block in SIZE.blocks)


def register() -> None:
    """Make the size known by its name, in this process."""
    BNEXT[NAME] = SIZE
    registry.BACKBONES[NAME] = registry.Backbone(NAME, (2, 1), SIZE.stride, partial(registry._bnext, NAME))
