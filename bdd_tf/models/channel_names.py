"""Names of the input channels and of their variants. No TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bdd_tf import entry_points
from bdd_tf.errors import UsageError, one_of

#: Channel names in the order of concatenation; the first four are in the order of the published code.
CHANNELS = ("rgb", "sobel", "fft", "lbp", "haar", "median")
#: Names with more than one channel each.
_DEPTHS = {"rgb": 3, "haar": 6}
VARIANTS = ("paper", "stable")
#: How the channels reach the backbone: squeezed into three by a convolution, as in the paper, or all of them.
STEMS = ("adapter", "direct")
#: The published code's names for the Sobel magnitude.
_ALIASES = {"mag": "sobel", "magnitude": "sobel"}


@dataclass(frozen=True)
class Channel:
    """A channel from outside the package (:func:`bdd_tf.extensions.register_channel`).

    Attributes:
        name: Its name.
        function: RGB float32 [N, H, W, 3] in [0, 255] -> float32 [N, H, W, depth].
        depth: Number of planes.
        mean: Subtracted by a direct stem.
        scale: Factor of the difference.
    """

    name: str
    function: Callable[[Any], Any]
    depth: int
    mean: float
    scale: float


#: Registered channels by name.
REGISTERED: dict[str, Channel] = {}


def known() -> tuple[str, ...]:
    """Return all names in the order of concatenation: :data:`CHANNELS`, then the registered ones by name."""
    return (*CHANNELS, *sorted(REGISTERED))


def parse_channels(text: str | Sequence[str]) -> tuple[str, ...]:
    """Parse channel names.

    Args:
        text: Comma-separated names or a sequence of names, in any order and case; ``rgb`` is required.

    Returns:
        The names in the order of :func:`known`; the first is ``"rgb"``.

    Raises:
        UsageError: For an unknown or repeated name, or if ``rgb`` is missing.

    Example:
        >>> parse_channels("lbp, RGB, fft")
        ('rgb', 'fft', 'lbp')
    """
    names = [name.strip().lower() for name in (text.split(",") if isinstance(text, str) else text)]
    names = [_ALIASES.get(name, name) for name in names if name]
    for name in names:
        entry_points.check_known("channel", name, entry_points.CHANNELS, known)
    if len(set(names)) != len(names):
        raise UsageError(
            f"channels {','.join(names)!r} name one twice; give each of {', '.join(known())} once."
        )
    if "rgb" not in names:
        raise UsageError(
            f"channels {','.join(names)!r} lack 'rgb', to which the others are added: rgb,fft,lbp."
        )
    return tuple(name for name in known() if name in names)


def depth(names: Sequence[str]) -> int:
    """Return the number of planes that names stand for: 3 for rgb, 6 for haar, 1 for every other built-in one."""
    return sum(REGISTERED[name].depth if name in REGISTERED else _DEPTHS.get(name, 1) for name in names)


def check_variant(variant: str) -> str:
    """Return the variant.

    Raises:
        UsageError: If it is not one of :data:`VARIANTS`.
    """
    if variant not in VARIANTS:
        raise one_of("channel variant", variant, VARIANTS)
    return variant


def check_stem(stem: str, backbone: str, variant: str) -> str:
    """Return the stem.

    Raises:
        UsageError: If it is not one of :data:`STEMS`, or is ``direct`` with a backbone or variant that has none.
    """
    if stem not in STEMS:
        raise one_of("stem", stem, STEMS)
    if stem == "direct" and not (backbone.startswith("bnext") and variant == "stable"):
        raise UsageError(f"a direct stem needs a BNext and stable channels; got {backbone} and {variant}.")
    return stem
