"""Occlusion: evidence maps from the .tflite file alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.explain.channels import ChannelAblation, channel_names, finite, planes_of
from bdd_tf.edge.explain.explanation import Explanation
from bdd_tf.edge.images.box import Box
from bdd_tf.edge.tflite.cut import channel_stack_of, extract, logit_of
from bdd_tf.edge.view_scores import BATCH

POSITIONS = 14
"""Number of patch positions along each side; an image takes 196 inferences."""

_CERTAIN = 1e-7


class Occlusion:
    """Occludes one patch of the image after the other and measures the change of the logit.

    Method: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2. A patch of the
    image's mean colour is placed at `POSITIONS` positions along each side. Its side is three steps: 6 px in steps of
    2 px for 32 px images, 42 px in steps of 14 px for 224 px. The value of a pixel is the mean of (logit of the image
    minus logit of the occluded image) over all patches that cover it. The file computes the FFT and all other channels
    from the occluded image, so the value includes the effect of the patch's edges on the spectrum.

    To ablate channels, the file is cut at the input of the adapter (`bdd_tf.edge.tflite.cut`): the first part computes
    the channels, the second part scores modified channels.

    Args:
        detector: Detector whose file, engine and threads are used.
        run: Ignored; part of the interface of explainers.
        reference: As for `bdd_tf.edge.explain.explainers.create_explainer`.

    Raises:
        BddError: If the engine cannot run a part of the file.
    """

    name = "occlusion"

    def __init__(
        self, detector: Detector, *, run: Path | None = None, reference: NDArray[np.uint8] | None = None
    ) -> None:
        model, graph = detector.model, detector.model.subgraphs[0]
        entry, logit = graph.inputs[0], logit_of(model)
        end = graph.outputs[0] if logit is None else logit
        self._ends_in_logit = logit is not None

        def part(start: int, stop: int) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
            engine = create_engine(extract(model, start, stop), detector.engine_name, detector.num_threads)
            return engine.run

        self._score = part(entry, end)
        names = channel_names(detector.metadata.get("channels"))
        self._channels: ChannelAblation | None = None
        self._why_no_channels = None
        if len(names) < 2:
            self._why_no_channels = "the model has no channels besides RGB"
            return
        found = channel_stack_of(model, len(names))
        if found is None:
            self._why_no_channels = "the file has no tensor that concatenates its channels"
            return
        stack, depths = found
        front, tail = part(entry, stack), part(stack, end)
        shape = graph.tensors[stack].shape[1:]

        def stacks(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.stack([front(image[None]).reshape(shape) for image in images])

        self._channels = ChannelAblation(
            planes_of(names, depths), stacks, lambda x: self._logits(tail, x), reference
        )

    def __call__(self, image: NDArray[np.uint8]) -> Explanation:
        """Explain one network input; see `bdd_tf.edge.explain.explanation.Explainer`."""
        boxes = patches(len(image))
        colour = np.rint(image.mean((0, 1))).astype(np.uint8)
        logit = float(self.logits(image[None])[0])
        changes = np.empty(len(boxes))
        # In batches: two hundred large images would exceed the memory of a small device.
        for first in range(0, len(boxes), BATCH):
            part = boxes[first : first + BATCH]
            occluded = np.repeat(image[None], len(part), 0)
            for one, box in zip(occluded, part, strict=True):
                one[box.top : box.top + box.height, box.left : box.left + box.width] = colour
            changes[first : first + BATCH] = logit - self.logits(occluded)
        total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
        for change, box in zip(changes, boxes, strict=True):
            area = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
            total[area] += change
            count[area] += 1
        strongest = int(np.argmax(np.abs(changes)))
        return Explanation(
            self.name,
            "change of the logit when occluded",
            logit,
            (total / count).astype(np.float32),
            boxes[strongest],
            float(changes[strongest]),
            {} if self._channels is None else self._channels(image),
            self._why_no_channels,
            "" if self._channels is None else self._channels.reference,
        )

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Compute the logits, float64 [N], of network inputs uint8 [N, S, S, 3]."""
        return self._logits(self._score, images)

    def _logits(
        self, run: Callable[[NDArray[Any]], NDArray[np.float32]], inputs: NDArray[Any]
    ) -> NDArray[np.float64]:
        parts = [run(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
        values = np.concatenate(parts).astype(np.float64)
        if not self._ends_in_logit:
            p = np.clip(values, _CERTAIN, 1 - _CERTAIN)
            values = np.log(p / (1 - p))
        return finite(values)


def patches(side: int) -> list[Box]:
    """Return the squares that are occluded one by one, row by row; together they cover the image.

    Args:
        side: Side of the image, in pixels.

    Example:
        >>> len(patches(32)), patches(32)[0], patches(32)[-1]
        (196, Box(left=0, top=0, width=6, height=6), Box(left=26, top=26, width=6, height=6))
    """
    width = min(side, 3 * max(1, math.ceil(side / (POSITIONS + 2))))
    starts = sorted({round(start) for start in np.linspace(0, side - width, POSITIONS)})
    return [Box(left, top, width, width) for top in starts for left in starts]
