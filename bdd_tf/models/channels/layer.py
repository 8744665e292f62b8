"""The Keras layer around a channel's function."""

from __future__ import annotations

from typing import Any

from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import check_variant
from bdd_tf.models.channels.grey import grey


class ChannelLayer(tf.keras.layers.Layer):
    """A channel of RGB images, without weights. Subclasses define :meth:`channel`.

    Args:
        variant: ``"paper"`` or ``"stable"``.

    Shape:
        [N, H, W, 3] uint8 or float32 in [0, 255] -> [N, H, W, 1] float32

    Raises:
        UsageError: For an unknown variant.
    """

    def __init__(self, variant: str = "paper", **kwargs: Any):
        super().__init__(**kwargs)
        self.variant = check_variant(variant)

    @staticmethod
    def channel(grey_levels: tf.Tensor, variant: str) -> tf.Tensor:
        """Compute the channel of grey levels, [N, H, W, 1] -> [N, H, W, 1]."""
        raise NotImplementedError

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Compute the channel of RGB images."""
        return self.channel(grey(images), self.variant)

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "variant": self.variant}
