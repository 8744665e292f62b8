"""RGB and the named channels, concatenated: the input of the detector's adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.channel_names import REGISTERED, check_variant, parse_channels
from bdd_tf.models.channels.fft import fft_log_magnitude
from bdd_tf.models.channels.grey import grey
from bdd_tf.models.channels.haar import haar_details
from bdd_tf.models.channels.lbp import local_binary_pattern
from bdd_tf.models.channels.median import median_residual
from bdd_tf.models.channels.sobel import sobel_magnitude

#: Channel name -> function of grey levels [N, H, W, 1] and variant.
FUNCTIONS: dict[str, Callable[[tf.Tensor, str], tf.Tensor]] = {
    "sobel": sobel_magnitude,
    "fft": fft_log_magnitude,
    "lbp": local_binary_pattern,
    "median": median_residual,
}
#: Channel name -> function of RGB [N, H, W, 3] and variant.
RGB_FUNCTIONS: dict[str, Callable[[tf.Tensor, str], tf.Tensor]] = {"haar": haar_details}


def add_channels(
    images: tf.Tensor, channels: Sequence[str] = ("rgb", "fft", "lbp"), variant: str = "stable"
) -> tf.Tensor:
    """Scale RGB to [0, 1] and append the named channels.

    Args:
        images: uint8, or float32 that holds integers in [0, 255], RGB.
        channels: Names from :data:`bdd_tf.models.channel_names.CHANNELS`, ``"rgb"`` among them.
        variant: ``"paper"`` or ``"stable"``, for every channel.

    Returns:
        float32.

    Shape:
        [N, H, W, 3] -> [N, H, W, C] with C = :func:`bdd_tf.models.channel_names.depth`

    Raises:
        UsageError: For an unknown channel or variant.

    Example:
        >>> add_channels(tf.zeros([1, 32, 32, 3], tf.uint8), ("rgb", "fft", "lbp")).shape
        TensorShape([1, 32, 32, 5])
    """
    names = parse_channels(channels)
    x = tf.cast(images, tf.float32)
    parts = [x * (1.0 / 255.0)]
    levels = grey(x) if FUNCTIONS.keys() & set(names) else None
    for name in names[1:]:
        if name in REGISTERED:
            parts.append(_registered(name, x))
        else:
            rgb = RGB_FUNCTIONS.get(name)
            parts.append(FUNCTIONS[name](levels, variant) if rgb is None else rgb(x, variant))
    return tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]


def _registered(name: str, x: tf.Tensor) -> tf.Tensor:
    """A channel from outside the package; its result must have the promised shape."""
    plane = tf.cast(REGISTERED[name].function(x), tf.float32)
    expected = (*x.shape[1:3], REGISTERED[name].depth)
    if len(plane.shape) != 4 or tuple(plane.shape[1:]) != expected:
        raise BddError(
            f"channel {name} returned shape {tuple(plane.shape)} for images {tuple(x.shape)}; it was registered with depth "
            f"{expected[2]}, so [N, {expected[0]}, {expected[1]}, {expected[2]}] is needed."
        )
    return plane


@tf.keras.utils.register_keras_serializable("bdd_tf")
class ForensicChannels(tf.keras.layers.Layer):
    """:func:`add_channels` as a layer. All channels share one grey conversion.

    Args:
        channels: As for :func:`bdd_tf.models.channel_names.parse_channels`.
        variant: ``"paper"`` or ``"stable"``.

    Shape:
        [N, H, W, 3] uint8 or float32 in [0, 255] -> [N, H, W, C] float32

    Raises:
        UsageError: For an unknown channel or variant.
    """

    def __init__(
        self, channels: str | Sequence[str] = ("rgb", "fft", "lbp"), variant: str = "stable", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.channels = parse_channels(channels)
        self.variant = check_variant(variant)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Concatenate RGB and the channels."""
        return add_channels(images, self.channels, self.variant)

    def save_own_variables(self, store: Any) -> None:
        """Write channels and variant into a weights file: no weight depends on them, but every score does."""
        super().save_own_variables(store)
        store["computes"] = np.frombuffer(self._computes().encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Check that a weights file was trained with these channels; files of earlier versions do not say.

        Raises:
            ValueError: If it was trained with others.
        """
        if "computes" not in store:
            return
        trained = bytes(np.asarray(store["computes"], np.uint8)).decode("ascii", "replace")
        if trained != self._computes():
            raise ValueError(
                f"these weights were trained on {trained}, and this model computes {self._computes()}; "
                "bdd_tf.load(run) builds the model that fits."
            )

    def _computes(self) -> str:
        return f"channels {','.join(self.channels)}, variant {self.variant}"

    def get_config(self) -> dict:
        """Return the configuration, for serialisation."""
        return {**super().get_config(), "channels": list(self.channels), "variant": self.variant}
