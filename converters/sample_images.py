"""Photographs to verify a converted file with, and to re-estimate batch norm statistics of random weights."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np

from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.resize import ResizeRule
from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.operation_counts import flat_layers

_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def photographs(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Random crops of scikit-image's photographs: natural images that need no data set.

    Args:
        count: Number of crops.
        size: Side in pixels that each crop is resized to.
        seed: Seed of the crops' positions and sizes.

    Returns:
        uint8 [count, size, size, 3].

    Raises:
        BddError: If scikit-image is not installed.
    """
    package = util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise BddError("the sample photographs need scikit-image: pip install scikit-image")
    folder = Path(package.submodule_search_locations[0]) / "data"
    images = [read_image(folder / name) for name in _PHOTOGRAPHS]
    rng, rule = np.random.default_rng(seed), ResizeRule.native(size)
    crops = []
    for i in range(count):
        image = images[i % len(images)]
        side = int(rng.integers(min(96, *image.shape[:2]), min(image.shape[:2]) + 1))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        crops.append(rule.apply(np.ascontiguousarray(image[y : y + side, x : x + side])))
    return np.stack(crops)


def update_bn(model: tf.keras.Model, images: np.ndarray) -> None:
    """Re-estimate the statistics of every batch normalisation from one batch, in a single forward pass.

    Args:
        model: A detector, typically with random weights. Changed in place.
        images: uint8 [N, S, S, 3], used as one batch.
    """
    norms = [x for x in flat_layers(model) if isinstance(x, tf.keras.layers.BatchNormalization)]
    momenta = [n.momentum for n in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
