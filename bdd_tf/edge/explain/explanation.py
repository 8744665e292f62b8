"""Explanations of a score; `bdd_tf.edge.explain.explainers` names the methods that compute them.

An explanation consists of an evidence map over the image and one number for each channel. `Occlusion` needs only the
.tflite file. Grad-CAM needs the run's Keras weights and TensorFlow, and is therefore a plugin outside the edge package.

All values are changes of the logit ``z``, with ``fake_probability = 1 / (1 + exp(-z))``: near 0 and 1 the probability
itself hardly changes. Positive values are evidence for FAKE, negative ones for REAL.

The score of a binary network is not a smooth function of its input: one flipped sign can change the logit by several
tenths. Interpret regions and orders of magnitude rather than single cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.box import Box


@dataclass(frozen=True)
class Explanation:
    """Evidence for FAKE and REAL in one image.

    Attributes:
        method: Name of the explainer.
        meaning: Meaning of ``values``, in a few words.
        logit: Logit of the image.
        values: float32 [S, S], changes of the logit, where S is the network's input size; positive for FAKE.
        box: Region with the strongest evidence, in pixels of the network input.
        box_value: Value of that region.
        channels: Evidence of each channel, ``rgb`` first: the logit of the image minus the logit with this channel
            ablated. Empty if ``why_no_channels`` is set.
        why_no_channels: Reason why channels are not explained, or None.
        reference: Replacement of an ablated channel, in words.
    """

    method: str
    meaning: str
    logit: float
    values: NDArray[np.float32]
    box: Box
    box_value: float
    channels: dict[str, float]
    why_no_channels: str | None
    reference: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values without the map; changes of the logit are rounded to 4 decimals."""
        return {
            "method": self.method,
            "logit": round(self.logit, 4),
            "box_logit_change": round(self.box_value, 4),
            "channels": {
                name: {
                    "logit_change": round(change, 4),
                    "fake_probability_without": sigmoid(self.logit - change),
                }
                for name, change in self.channels.items()
            },
            "channels_left_out": self.why_no_channels,
            "channel_reference": self.reference if self.channels else None,
        }


class Explainer(Protocol):
    """Explains images one by one."""

    def __call__(self, image: NDArray[np.uint8]) -> Explanation:
        """Explain one network input.

        Args:
            image: uint8 [S, S, 3], RGB, with the network's input size S.

        Raises:
            BddError: If the model fails.
        """


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
