"""Why a detector says what it says: a map of what speaks for FAKE and for REAL, and a number for each channel.

Explainers are registered by name, each loaded only when it is asked for: `Occlusion` needs nothing but the .tflite
file, Grad-CAM needs the run's Keras weights, and TensorFlow, and lives outside the edge. Both speak of the
logit ``z`` with ``fake_probability = 1 / (1 + exp(-z))``, since the probability itself hardly moves where it is
near 0 or 1. Positive means FAKE, negative REAL.

A binary network's score is not smooth: one sign that turns can move the logit by several tenths. Trust regions
and orders of magnitude, not single cells.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.crops import Box
from bdd_tf.edge.detector import BATCH, Detector
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.tflite_cut import extract, logit_of, stack_of
from bdd_tf.errors import BddError, one_of

POSITIONS = 14
"""Places of the patch along each side: 196 inferences an image."""

REFERENCE_IMAGES = 256
"""Images whose mean stands in for a channel, at most."""

_CERTAIN = 1e-7


@dataclass(frozen=True)
class Explanation:
    """What speaks for FAKE and for REAL in one image.

    Attributes:
        method: Name of the explainer.
        meaning: What a value of ``values`` is, in a few words.
        logit: Of the image.
        values: float32 [S, S], in units of the logit, where S is the network's side; positive speaks for FAKE.
        box: The most telling region, in pixels of what the network saw.
        box_value: Its value.
        channels: By name (``rgb`` first): the image's logit less the logit without what this channel says of the
            image. Empty where ``why_no_channels`` is given.
        why_no_channels: One sentence, or None.
        reference: What stood in for a channel.
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
        """As JSON values, the map left out; changes of the logit rounded to 1e-4."""
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
    """Explains one image after the other."""

    def __call__(self, image: NDArray[np.uint8]) -> Explanation:
        """Explain what the network saw.

        Args:
            image: uint8 [S, S, 3] with the network's side S.

        Raises:
            BddError: If the model fails.
        """


_EXPLAINERS = {
    "occlusion": "bdd_tf.edge.explanation:Occlusion",
    # Not part of the edge: it imports TensorFlow.
    "grad-cam": "bdd_tf.grad_cam:GradCam",
}


def explainer_names() -> tuple[str, ...]:
    """The registered names."""
    return tuple(_EXPLAINERS)


def create_explainer(
    name: str, detector: Detector, *, run: Path | None = None, reference: NDArray[np.uint8] | None = None
) -> Explainer:
    """Load an explainer and give it a model.

    Args:
        name: One of `explainer_names`.
        detector: Whose scores are to be explained.
        run: Its run folder, which Grad-CAM needs.
        reference: uint8 [R, S, S, 3]: images whose mean stands in for a channel; None: see `ablate`.

    Raises:
        UsageError: If there is no explainer of that name, or it lacks something.
        BddError: If it is not installed or cannot use the model.
    """
    if name not in _EXPLAINERS:
        raise one_of("way to explain", name, explainer_names())
    module, _, attribute = _EXPLAINERS[name].partition(":")
    try:
        factory: Callable[..., Explainer] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise BddError(
            f"explaining by {name} is not part of this installation; pip install 'bdd_tf[train]' has it all."
        ) from None
    return factory(detector, run=run, reference=reference)


class Occlusion:
    """Covers one place after the other and watches the logit (Zeiler and Fergus 2014, section 4.2).

    A patch of the image's mean colour slides over the image in `POSITIONS` steps a side and is three steps wide: 6 px
    every 2 px at 32, 42 px every 14 px at 224. A pixel's value is the mean, over the patches that covered it, of
    the logit of the whole image less that of the covered one. FFT and other channels are computed anew from each
    covered image, as part of the file; so a patch also speaks of what its edges do to the spectrum.

    Channels are ablated inside the file: it is cut in front of the adapter (`bdd_tf.edge.tflite_cut`), the first part
    tells what the channels hold, the second one scores what it is given in their place.

    Args:
        detector: Whose file, engine and threads are used.
        run: Not used.
        reference: As for `create_explainer`.

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
        self._why = None
        if len(names) < 2:
            self._why = "the model has no channels beside RGB"
            return
        stack = stack_of(model, len(names) + 2)
        if stack is None:
            self._why = "no place was found in the file where its channels lie side by side"
            return
        front, tail = part(entry, stack), part(stack, end)
        shape = graph.tensors[stack].shape[1:]

        def stacks(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.stack([front(image[None]).reshape(shape) for image in images])

        self._channels = ChannelAblation(names, stacks, lambda x: self._logits(tail, x), reference)

    def __call__(self, image: NDArray[np.uint8]) -> Explanation:
        """See `Explainer.__call__`."""
        boxes = patches(len(image))
        colour = np.rint(image.mean((0, 1))).astype(np.uint8)
        logit = float(self.logits(image[None])[0])
        changes = np.empty(len(boxes))
        # A few at a time: two hundred large images would fill a small device's memory.
        for first in range(0, len(boxes), BATCH):
            part = boxes[first : first + BATCH]
            covered = np.repeat(image[None], len(part), 0)
            for one, box in zip(covered, part, strict=True):
                one[box.top : box.top + box.height, box.left : box.left + box.width] = colour
            changes[first : first + BATCH] = logit - self.logits(covered)
        total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
        for change, box in zip(changes, boxes, strict=True):
            place = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
            total[place] += change
            count[place] += 1
        most = int(np.argmax(np.abs(changes)))
        return Explanation(
            self.name,
            "change of the logit by what is covered",
            logit,
            (total / count).astype(np.float32),
            boxes[most],
            float(changes[most]),
            {} if self._channels is None else self._channels(image),
            self._why,
            "" if self._channels is None else self._channels.reference,
        )

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logits [N] of images uint8 [N, S, S, 3], as the file computes them."""
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
    """The squares that are covered one after the other, row by row; together they cover the whole image.

    Args:
        side: Of the image, in pixels.

    Example:
        >>> len(patches(32)), patches(32)[0], patches(32)[-1]
        (196, Box(left=0, top=0, width=6, height=6), Box(left=26, top=26, width=6, height=6))
    """
    width = min(side, 3 * max(1, math.ceil(side / (POSITIONS + 2))))
    starts = sorted({round(start) for start in np.linspace(0, side - width, POSITIONS)})
    return [Box(left, top, width, width) for top in starts for left in starts]


def channel_names(channels: object) -> tuple[str, ...]:
    """The channels that a file's metadata names, ``rgb`` first; empty if it says nothing understandable."""
    if not isinstance(channels, (list, tuple)) or not all(isinstance(name, str) for name in channels):
        return ()
    return ("rgb", *(name for name in channels if name != "rgb"))


def ablate(
    stack: NDArray[np.float32],
    names: Sequence[str],
    logits: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    reference: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """How the logit changes by what each channel says of the image.

    A channel is replaced by its mean over reference images, place by place, or, without any, by its own mean over the
    image. The first is the better question, what this image's channel has that others' have not: a spectrum without
    any shape is nothing a network has seen, and pushes the score by itself.

    Args:
        stack: [S, S, C], RGB and then one plane per further channel.
        names: ``rgb`` and the others, C - 2 in all.
        logits: Scores stacks [N, S, S, C].
        reference: [S, S, C]; None for the image's own mean.

    Returns:
        By name: the logit with less the logit without it; positive where it speaks for FAKE.
    """
    inputs = np.repeat(stack[None], len(names) + 1, 0)
    for row, _ in enumerate(names, 1):
        planes = slice(0, 3) if row == 1 else slice(row + 1, row + 2)
        inputs[row, ..., planes] = (
            stack[..., planes].mean((0, 1)) if reference is None else reference[..., planes]
        )
    with_all, *without = logits(inputs)
    return {name: float(with_all - value) for name, value in zip(names, without, strict=True)}


class ChannelAblation:
    """Ablates an image's channels (see `ablate`); the mean over the reference images is taken once.

    Args:
        names: ``rgb`` and the others.
        stacks: Gives RGB and channels, float32 [N, S, S, C], of images uint8 [N, S, S, 3].
        logits: Scores such stacks: float64 [N].
        reference: uint8 [R, S, S, 3], or None.

    Attributes:
        reference: What stands in for a channel, in words.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        stacks: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        logits: Callable[[NDArray[np.float32]], NDArray[np.float64]],
        reference: NDArray[np.uint8] | None,
    ) -> None:
        self._names, self._stacks, self._logits = names, stacks, logits
        self._mean = None if reference is None else stacks(reference).mean(0)
        self.reference = "own mean" if reference is None else f"mean of {len(reference)} images"

    def __call__(self, image: NDArray[np.uint8]) -> dict[str, float]:
        """`ablate` for one image uint8 [S, S, 3]."""
        return ablate(self._stacks(image[None])[0], self._names, self._logits, self._mean)


def sigmoid(logit: float) -> float:
    """The probability of a logit, without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def finite(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits themselves.

    Raises:
        BddError: If one is not a number, or infinite.
    """
    if not np.isfinite(logits).all():
        raise BddError("the model's logit is not finite; convert it again.")
    return logits
