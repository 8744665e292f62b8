"""Statistics of the training images, for the check of `bdd_tf.edge.images.out_of_distribution`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bdd_tf.datasets.of_experiment import AnyDataSet
from bdd_tf.datasets.photo_set import PhotoDataSet
from bdd_tf.edge.images.decode import load_image
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics, ranges

#: Images whose contrast and detail are measured, evenly spaced over the split: 20 are outside each bound.
MOST = 20_000


def trained_on(data: AnyDataSet, most: int = MOST) -> TrainingStatistics:
    """Measure sizes, contrast and detail of the training split.

    Args:
        data: A data set at the network's resolution.
        most: Maximum number of images that are read for contrast and detail; sizes are those of all images.
    """
    if isinstance(data, PhotoDataSet):
        crops = trained_on_crops(data.name, len(data.batches.fold.train), data.training_crops(most))
        return crops._replace(sides=data.native_sides())
    entries = [entry for entry in data.entries if entry.record.split == "train"]
    sides = [min(entry.width, entry.height) for entry in entries]
    chosen = entries[:: -(-len(entries) // most)]
    images = np.stack([load_image(entry.record.file, data.rule) for entry in chosen])
    return TrainingStatistics(data.name, len(entries), (min(sides), max(sides)), **ranges(images))


def trained_on_crops(dataset: str, images: int, crops: NDArray[np.uint8]) -> TrainingStatistics:
    """Measure contrast and detail of native crops, for a file with the rule ``views``.

    Args:
        dataset: Name of the data set.
        images: Number of images in the training split.
        crops: uint8 [N, S, S, 3], N at least 1: crops of the training split as the network gets them, after
            augmentation; some thousands suffice.

    Returns:
        Statistics whose ``sides`` are those of a crop: the size of an image says nothing to such a network.
    """
    side = crops.shape[1]
    return TrainingStatistics(dataset, images, (side, side), **ranges(crops))
