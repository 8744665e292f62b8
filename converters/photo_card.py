"""Render the card of a model for photographs, from its file and its stored results."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from bdd_tf.config import Experiment
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics
from bdd_tf.edge.images.rules import rule_of
from bdd_tf.edge.images.views import ViewRule
from bdd_tf.edge.labels import band_of
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import BddError
from bdd_tf.runs import Run
from converters.model_card import NOTE, settings_text, training_commands

#: Table of the photo protocol for the .tflite file, as `bdd evaluate` prints it.
PROTOCOL_TABLE = "protocol.txt"
#: What the card says of the training data and the network.
ABOUT = "about.json"

_TEMPLATE = Path(__file__).with_name("photo_model_card.md")


def photo_card(name: str, content: bytes, kept: Path) -> str:
    """Render a card.

    Args:
        name: Name of the model.
        content: The .tflite file.
        kept: Folder of the model's stored results, as :mod:`converters.release_photos` writes it.

    Returns:
        Markdown.

    Raises:
        BddError: If a file is missing or damaged, or the model has no native views or statistics.
    """
    metadata, config = read_metadata(content), Experiment.load(kept / "config.yaml")
    known, rule = TrainingStatistics.from_metadata(metadata), rule_of(metadata)
    if known is None or not isinstance(rule, ViewRule):
        raise BddError(f"the file of {name} has no native views or no statistics of its training images.")
    try:
        about = json.loads((kept / ABOUT).read_text())
        table = (kept / PROTOCOL_TABLE).read_text().rstrip()
    except (OSError, ValueError) as error:
        raise BddError(f"the results of {name} in {kept} are incomplete: {error}") from error
    note = (kept / NOTE).read_text().strip() + "\n\n" if (kept / NOTE).is_file() else ""
    return Template(_TEMPLATE.read_text()).substitute(
        name=name,
        bytes=f"{len(content):,}",
        images=f"{known.images:,}",
        cameras=about["cameras"],
        generators=about["generators"],
        families=about["families"],
        count=rule.count,
        size=rule.size,
        contrast=f"{known.contrast[0]:.0f} to {known.contrast[1]:.0f}",
        detail=f"{known.detail[0]:.1f} to {known.detail[1]:.1f}",
        held_out=", ".join(about["hold_out"]) or "nothing",
        threshold=f"{metadata['threshold']:.4f}",
        unsure=_unsure(metadata),
        table=table,
        network=_network(about, metadata),
        train=training_commands(name, Run(kept), config),
        recipe=settings_text(config),
        note=note,
    )


def _unsure(metadata: dict) -> str:
    """The sentence on the band; empty for a file without one."""
    band = band_of(metadata)
    if band is None:
        return ""
    return (
        f" The model decides FAKE from {band[1]:.4f} upwards and REAL from {band[0]:.4f} downwards, and calls other images "
        "UNSURE: at most 1 % of the REAL images that chose the upper end score as high, and at most 10 % of the FAKE ones as low."
    )


def _network(about: dict, metadata: dict) -> str:
    return (
        f"Backbone `{metadata['backbone']}` with the channels {', '.join(metadata['channels'])} at "
        f"{metadata['resolution']} px: {about['parameters'] / 1e6:.2f} M parameters; per crop "
        f"{about['binary_macs'] / 1e6:.1f} M binary and {about['float_macs'] / 1e6:.2f} M float multiply-adds."
    )
