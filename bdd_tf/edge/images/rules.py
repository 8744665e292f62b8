"""The rule of a file's metadata that turns an image into network inputs: one resized image, or native crops."""

from __future__ import annotations

from typing import Any

from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.tflite.metadata import KNOWN_FORMATS, METADATA_FORMAT, VIEWS_FORMAT
from bdd_tf.errors import BddError, UsageError

Rule = ResizeRule | ViewRule
"""Both have ``size``, the side of a network input in pixels."""


def rule_entries(rule: Rule) -> dict[str, Any]:
    """The metadata keys of a rule: ``format``, and ``resize`` or ``views``.

    Example:
        >>> rule_entries(ViewRule(96))
        {'format': 2, 'views': {'size': 96, 'count': 12, 'scale': [1.0]}}
    """
    if isinstance(rule, ViewRule):
        return {"format": VIEWS_FORMAT, "views": rule.to_dict()}
    return {"format": METADATA_FORMAT, "resize": rule.to_dict()}


def rule_of(metadata: dict[str, Any]) -> Rule:
    """Inverse of `rule_entries`: read and check the rule of a file.

    Args:
        metadata: The file's metadata, unchecked.

    Raises:
        BddError: If the format is unknown, or the rule is missing, ambiguous or damaged.
    """
    # Checked first, because a later format may change all other keys.
    layout = metadata.get("format")
    if isinstance(layout, bool) or not isinstance(layout, int) or layout not in KNOWN_FORMATS:
        raise BddError(
            f"its metadata has format {str(layout)[:80]}, and this version of bdd_tf reads "
            f"{' and '.join(map(str, KNOWN_FORMATS))}; upgrade bdd_tf, or convert the network again."
        )
    if "views" in metadata and (layout < VIEWS_FORMAT or "resize" in metadata):
        other = "the key resize as well" if "resize" in metadata else f"format {layout}"
        raise BddError(f"its metadata is damaged: it has the key views and {other}.")
    if metadata.get("unsure") is not None and layout < VIEWS_FORMAT:
        raise BddError(f"its metadata is damaged: it has the key unsure and format {layout}.")
    try:
        if "views" in metadata:
            return ViewRule.from_dict(metadata["views"])
        return ResizeRule.from_dict(metadata.get("resize"))
    except UsageError as error:
        raise BddError(f"its metadata is damaged: {error}") from None
