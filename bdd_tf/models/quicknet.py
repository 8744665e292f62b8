"""QuickNet (arXiv 2011.09398) from larq-zoo, without its classifier, as backbones of the detector."""

from __future__ import annotations

from bdd_tf.errors import one_of
from bdd_tf.legacy_keras import tf

QUICKNET = {"quicknet-small": "QuickNetSmall", "quicknet": "QuickNet", "quicknet-large": "QuickNetLarge"}


def quicknet(x: tf.Tensor, size: str) -> tf.Tensor:
    """Build QuickNet without its classifier.

    Args:
        x: [N, H, W, 3] float32, normalised RGB; H and W multiples of 32.
        size: A key of :data:`QUICKNET`.

    Returns:
        [N, 512] float32 features: ReLU, then the mean over the map, as before larq-zoo's classifier.

    Raises:
        UsageError: For an unknown size.
    """
    if size not in QUICKNET:
        raise one_of("backbone", size, tuple(QUICKNET))
    from larq_zoo import sota

    factory = getattr(sota, QUICKNET[size])
    network = factory(input_shape=tuple(x.shape[1:]), weights=None, include_top=False)
    # These two layers get names of our own: larq-zoo numbers its layers by the models built before in the process.
    x = network(x)
    x = tf.keras.layers.Activation("relu", name="feature.relu")(x)
    return tf.keras.layers.GlobalAveragePooling2D(name="feature.mean")(x)
