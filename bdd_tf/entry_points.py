"""Extensions that installed packages announce as entry points. Standard library only."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence

from bdd_tf.errors import BddError, UsageError, one_of

#: Groups of entry points: one per kind of extension.
BACKBONES, CHANNELS, AUGMENTATIONS = "bdd_tf.backbones", "bdd_tf.channels", "bdd_tf.augmentations"

_loaded: set[str] = set()


def check_known(kind: str, name: str, group: str, known: Callable[[], Sequence[str]]) -> None:
    """Check a name; one that is unknown may still be announced by an installed package, which is then loaded.

    Args:
        kind: Kind of thing that is named, for the message.
        name: The name.
        group: The kind's group of entry points.
        known: Returns the names known so far.

    Raises:
        UsageError: If no package announces it either; lists the possible names.
        BddError: As :func:`discover`.
    """
    if name not in known() and not (discover(group) and name in known()):
        unknown = one_of(kind, name, tuple(known()))
        raise UsageError(f"{unknown} --plugin FILE.py loads others (docs/extending.md).")


def discover(group: str) -> bool:
    """Load the entry points of a group, once per process; each is a module, or a function that registers what it adds.

    Names are looked up here only after the built-in ones, so that a package which is merely installed costs no time.

    Args:
        group: One of the groups above.

    Returns:
        Whether an entry point was loaded by this call.

    Raises:
        BddError: If one cannot be loaded; names it and its package.
    """
    if group in _loaded:
        return False
    _loaded.add(group)
    found = importlib.metadata.entry_points(group=group)
    for point in found:
        try:
            value = point.load()
            if callable(value):
                value()
        except Exception as error:
            package = point.dist.name if point.dist else "an installed package"
            raise BddError(
                f"the extension {point.name} of {package} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}."
            ) from error
    return bool(found)
