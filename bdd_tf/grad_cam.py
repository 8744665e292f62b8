"""Grad-CAM of a run's Keras network, as an explainer of `bdd_tf.edge`. It imports TensorFlow: seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bdd_tf.config import Experiment
from bdd_tf.edge.crops import Box
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explanation import ChannelAblation, Explanation, channel_names, finite
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import Rotate180
from bdd_tf.models.detector import fold_temperature
from bdd_tf.runs import Run, validated
from bdd_tf.training import load_trained

SMALLEST_MAP = 4
"""Cells a side that a layer's map must have: of a 2 x 2 map no place can be told."""


class GradCam:
    """Gradient-weighted class activation maps (Selvaraju et al. 2017, section 3) of the last stage with a map.

    A cell's value is ``sum_k w_k A_k`` with the activations ``A`` of the layer and ``w_k`` the gradient of the logit,
    summed over all cells. So where nothing but a mean and the classifier follow, the mean over the map is the
    logit without its bias. Negative values, which speak for REAL, are kept: with one logit for two classes the
    paper's ReLU would hide half of what is said. Binary layers hand gradients on as in training.

    Args:
        detector: Whose scores are explained; its file is that of the run.
        run: The run's folder, with trained weights.
        reference: As for `bdd_tf.edge.explanation.create_explainer`.

    Raises:
        UsageError: If there is no run.
        BddError: If it has no trained weights, or takes another size than the file.
    """

    name = "grad-cam"

    def __init__(
        self, detector: Detector, *, run: Path | None = None, reference: np.ndarray | None = None
    ) -> None:
        if run is None:
            raise UsageError("Grad-CAM needs a run's Keras weights: give --run NAME, not --model.")
        folder = Run(run)
        config = Experiment.load(folder.config)
        if config.resolution != detector.resize.size:
            raise BddError(
                f"run {folder.name} is set to {config.resolution} px, its file to {detector.resize.size}; "
                f"convert it again: bdd convert --run {folder.name}"
            )
        model = load_trained(folder, config)
        # So that its logit is that of the scores which the file gives.
        fold_temperature(model, validated(folder).temperature)
        self._maps = CamNetwork(model)
        names = channel_names(config.channels)
        self._why = "the model has no channels beside RGB" if len(names) < 2 else None
        self._channels = (
            None if self._why else ChannelAblation(names, self._maps.stacks, self._maps.logits, reference)
        )

    def __call__(self, image: np.ndarray) -> Explanation:
        """See `bdd_tf.edge.explanation.Explainer.__call__`."""
        cells, logit = self._maps.cam(image)
        side, (rows, columns) = len(image), cells.shape
        row, column = np.unravel_index(int(np.argmax(np.abs(cells))), cells.shape)
        top, left = row * side // rows, column * side // columns
        bottom, right = (row + 1) * side // rows, (column + 1) * side // columns
        smooth = Image.fromarray(cells).resize((side, side), Image.Resampling.BILINEAR)
        return Explanation(
            self.name,
            f"share of the logit; Grad-CAM of {rows}x{columns} cells",
            logit,
            np.asarray(smooth),
            Box(int(left), int(top), int(right - left), int(bottom - top)),
            float(cells[row, column]),
            {} if self._channels is None else self._channels(image),
            self._why,
            "" if self._channels is None else self._channels.reference,
        )


class CamNetwork:
    """A detector opened at its channels and at the layer whose map is shown.

    Args:
        model: As `bdd_tf.models.detector.build_detector` makes it.

    Attributes:
        layer: Name of the layer whose map is shown.
    """

    def __init__(self, model: tf.keras.Model) -> None:
        logit = model.get_layer("logit").output
        stack = model.get_layer("channels").output
        layer = bottleneck(model)
        self.layer = layer.name
        # BNext turns the image by 180 degrees (bdd_tf.models.bnext); its maps are turned back.
        self._turned = any(isinstance(x, Rotate180) for x in model.layers)
        self._body = tf.keras.Model(model.input, layer.output)
        self._head = tf.keras.Model(layer.output, logit)
        front, tail = tf.keras.Model(model.input, stack), tf.keras.Model(stack, logit)
        self._front = tf.function(lambda x: front(x, training=False))
        self._tail = tf.function(lambda x: tail(x, training=False))
        self._gradients = tf.function(self._with_gradients)

    def cam(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Map float32 [h, w] and logit of an image uint8 [S, S, 3]."""
        cells, logit = (x.numpy() for x in self._gradients(tf.constant(image[None])))
        finite(np.append(cells, logit).astype(np.float64))
        return (cells[::-1, ::-1].copy() if self._turned else cells), float(logit)

    def stacks(self, images: np.ndarray) -> np.ndarray:
        """RGB and channels, float32 [N, S, S, C], of images uint8 [N, S, S, 3]."""
        return self._front(tf.constant(images)).numpy()

    def logits(self, stacks: np.ndarray) -> np.ndarray:
        """Logits float64 [N] of such stacks."""
        return finite(self._tail(tf.constant(stacks)).numpy()[:, 0].astype(np.float64))

    def _with_gradients(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        activations = self._body(image, training=False)
        with tf.GradientTape() as tape:
            tape.watch(activations)
            logit = self._head(activations, training=False)
        weights = tf.reduce_sum(tape.gradient(logit, activations), axis=[1, 2], keepdims=True)
        return tf.reduce_sum(weights * activations, axis=-1)[0], logit[0, 0]


def bottleneck(model: tf.keras.Model) -> tf.keras.layers.Layer:
    """The last layer that everything passes and whose map has at least `SMALLEST_MAP` cells a side.

    A layer inside a residual block or beside a gate sees a part of what is said. Everything passes a layer exactly
    where the ways through it are as many as the ways through the network.

    Args:
        model: A network with one input and one output.

    Raises:
        BddError: If there is none.
    """
    tensors = [
        node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]
    ]
    parents = {id(n): [id(p) for p in n.parent_nodes] for n in tensors}
    children: dict[int, list[int]] = {id(n): [] for n in tensors}
    for node, above in parents.items():
        for parent in above:
            children[parent].append(node)
    down, up = {}, {}
    for node in tensors:  # inputs first
        down[id(node)] = sum(down[p] for p in parents[id(node)]) or 1
    for node in reversed(tensors):
        up[id(node)] = sum(up[c] for c in children[id(node)]) or 1
    ways = down[id(tensors[-1])]
    found = None
    for node in tensors:
        shape = node.layer.output_shape
        passed = down[id(node)] * up[id(node)] == ways
        if passed and isinstance(shape, tuple) and len(shape) == 4 and min(shape[1:3]) >= SMALLEST_MAP:
            found = node.layer
    if found is None:
        raise BddError(f"{model.name} has no layer with a map of at least {SMALLEST_MAP} x {SMALLEST_MAP}.")
    return found
