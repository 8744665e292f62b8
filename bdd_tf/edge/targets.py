"""Engines and explainers are registered as ``"module:attribute"``, so that none is imported before it is requested."""

from __future__ import annotations

import importlib
from typing import Any

from bdd_tf.errors import BddError


def load_target(target: str, what: str) -> Any:
    """Import the attribute that a target names.

    Args:
        target: ``"module:attribute"``.
        what: What the target provides, the beginning of the message.

    Raises:
        BddError: If the module is not installed.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        # A module that it needs in turn and does not find is a damaged installation.
        if error.name != module:
            raise
        raise BddError(f"{what} is not part of this installation: pip install 'bdd_tf[train]'.") from None
