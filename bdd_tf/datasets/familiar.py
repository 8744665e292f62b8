"""What a model's training images were like, for `bdd_tf.edge.familiarity`, which tells an image that is not."""

from __future__ import annotations

import numpy as np

from bdd_tf.datasets.pipeline import DataSet
from bdd_tf.edge.familiarity import TrainedOn, ranges
from bdd_tf.edge.images import load_image

#: Images whose contrast and detail are measured, spread evenly over the split: 20 lie outside of each bound.
MOST = 20_000


def trained_on(data: DataSet, most: int = MOST) -> TrainedOn:
    """Sizes, contrast and detail of the training split.

    Args:
        data: A data set at the network's resolution.
        most: Images that are read for contrast and detail; sizes are known of all.
    """
    entries = [entry for entry in data.entries if entry.record.split == "train"]
    sides = [min(entry.width, entry.height) for entry in entries]
    chosen = entries[:: -(-len(entries) // most)]
    images = np.stack([load_image(entry.record.file, data.rule) for entry in chosen])
    return TrainedOn(data.name, len(entries), (min(sides), max(sides)), **ranges(images))
