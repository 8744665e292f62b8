"""Grad-CAM of a run's Keras network as an explainer of `bdd_tf.edge`. Loading it takes seconds (TensorFlow)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bdd_tf.config import Experiment
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.explain.channels import ChannelAblation, channel_names, finite, planes_of
from bdd_tf.edge.explain.explanation import Explanation
from bdd_tf.edge.images.box import Box
from bdd_tf.errors import BddError, UsageError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import Rotate180
from bdd_tf.models.channel_names import depth
from bdd_tf.models.detector import fold_temperature
from bdd_tf.runs import Run, validated
from bdd_tf.training.weights import load_trained

#: Smallest side of a usable feature map. A 2x2 map does not localize anything.
SMALLEST_MAP = 4


class GradCam:
    """Gradient-weighted class activation maps (Selvaraju et al. 2017, section 3) of the last stage with a usable map.

    The value of a cell is ``sum_k w_k A_k``, where ``A`` are the layer's activations and ``w_k`` is the gradient of the
    logit with respect to them, summed over all cells. If only a mean and the classifier follow, the mean of the map is
    the logit without its bias. Negative values, which support REAL, are kept: with one logit for two classes, the ReLU
    of the paper would discard half of the evidence. Binary layers use the straight-through gradient of training.

    Args:
        detector: The detector whose scores are explained. Its file must belong to the run.
        run: The run's folder, with trained weights.
        reference: As for `bdd_tf.edge.explain.explainers.create_explainer`.

    Raises:
        UsageError: If no run is given.
        BddError: If the run has no trained weights, or its resolution differs from the file's.
    """

    name = "grad-cam"

    def __init__(
        self, detector: Detector, *, run: Path | None = None, reference: np.ndarray | None = None
    ) -> None:
        if run is None:
            raise UsageError("Grad-CAM needs the Keras weights of a run: give --run NAME instead of --model.")
        folder = Run(run)
        config = Experiment.load(folder.config)
        if config.resolution != detector.resize.size:
            raise BddError(
                f"the resolution of run {folder.name} is {config.resolution} px, that of its file "
                f"{detector.resize.size}: run `bdd convert --run {folder.name}` again"
            )
        model = load_trained(folder, config)
        # The scores of the file are calibrated; this gives the network the same logit.
        fold_temperature(model, validated(folder).temperature)
        self._maps = CamNetwork(model)
        names = channel_names(config.channels)
        self._why = "the model has no channels in addition to RGB" if len(names) < 2 else None
        self._channels = (
            None
            if self._why
            else ChannelAblation(
                planes_of(names, [depth([name]) for name in names]),
                self._maps.stacks,
                self._maps.logits,
                reference,
            )
        )

    def __call__(self, image: np.ndarray) -> Explanation:
        """See `bdd_tf.edge.explain.explanation.Explainer.__call__`."""
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
    """A detector split at its channels and at the layer that provides the map.

    Args:
        model: A detector made by `bdd_tf.models.detector.build_detector`.

    Attributes:
        layer: Name of the layer that provides the map.
    """

    def __init__(self, model: tf.keras.Model) -> None:
        logit = model.get_layer("logit").output
        stack = model.get_layer("channels").output
        layer = bottleneck(model)
        self.layer = layer.name
        # BNext rotates the image by 180 degrees (bdd_tf.models.bnext), so its maps are rotated back.
        self._rotated = any(isinstance(x, Rotate180) for x in model.layers)
        self._body = tf.keras.Model(model.input, layer.output)
        self._head = tf.keras.Model(layer.output, logit)
        front, tail = tf.keras.Model(model.input, stack), tf.keras.Model(stack, logit)
        self._front = tf.function(lambda x: front(x, training=False), autograph=False)
        self._tail = tf.function(lambda x: tail(x, training=False), autograph=False)
        self._gradients = tf.function(self._with_gradients, autograph=False)

    def cam(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the map, float32 [h, w], and the logit of an image, uint8 [S, S, 3]."""
        cells, logit = (x.numpy() for x in self._gradients(tf.constant(image[None])))
        finite(np.append(cells, logit).astype(np.float64))
        return (cells[::-1, ::-1].copy() if self._rotated else cells), float(logit)

    def stacks(self, images: np.ndarray) -> np.ndarray:
        """Return RGB and channels, float32 [N, S, S, C], of images uint8 [N, S, S, 3]."""
        return self._front(tf.constant(images)).numpy()

    def logits(self, stacks: np.ndarray) -> np.ndarray:
        """Return the logits, float64 [N], of stacks as :meth:`stacks` returns them."""
        return finite(self._tail(tf.constant(stacks)).numpy()[:, 0].astype(np.float64))

    def _with_gradients(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        activations = self._body(image, training=False)
        with tf.GradientTape() as tape:
            tape.watch(activations)
            logit = self._head(activations, training=False)
        weights = tf.reduce_sum(tape.gradient(logit, activations), axis=[1, 2], keepdims=True)
        return tf.reduce_sum(weights * activations, axis=-1)[0], logit[0, 0]


def bottleneck(model: tf.keras.Model) -> tf.keras.layers.Layer:
    """Find the last layer on every path from input to output whose map has sides of at least `SMALLEST_MAP`.

    A layer inside a residual block or parallel to a gate carries only a part of the information. A layer lies on every
    path if the number of paths through it equals the number of paths through the network.

    Args:
        model: A network with one input and one output.

    Raises:
        BddError: If there is no such layer.
    """
    tensors = [
        node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]
    ]
    parents = {id(n): [id(p) for p in n.parent_nodes] for n in tensors}
    children: dict[int, list[int]] = {id(n): [] for n in tensors}
    for node, above in parents.items():
        for parent in above:
            children[parent].append(node)
    down: dict[int, int] = {}  # paths from the input to a node
    up: dict[int, int] = {}  # paths from a node to the output
    for node in tensors:  # inputs first
        down[id(node)] = sum(down[p] for p in parents[id(node)]) or 1
    for node in reversed(tensors):
        up[id(node)] = sum(up[c] for c in children[id(node)]) or 1
    paths = down[id(tensors[-1])]
    found = None
    for node in tensors:
        shape = node.layer.output_shape
        on_every_path = down[id(node)] * up[id(node)] == paths
        if on_every_path and isinstance(shape, tuple) and len(shape) == 4 and min(shape[1:3]) >= SMALLEST_MAP:
            found = node.layer
    if found is None:
        raise BddError(f"{model.name} has no layer with a map of at least {SMALLEST_MAP} x {SMALLEST_MAP}.")
    return found
