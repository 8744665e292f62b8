"""BNext's blocks as one TensorFlow operation with its gradient, computed by :mod:`bdd_tf.models.kernels`.

The Keras model of :mod:`bdd_tf.models.bnext` stays what holds the weights and what is saved, evaluated and converted;
this computes its blocks while training, several times faster.
"""

from __future__ import annotations

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.models import kernels
from bdd_tf.models.bnext import MOMENTUM
from bdd_tf.models.sizes import BNEXT


class _Step:
    """A unit of the net: its kernels, its layers, and where its input and output lie."""

    def __init__(self, unit: kernels.Unit, weights: list, norms: list):
        self.unit, self.weights, self.norms = unit, weights, norms
        self.source: np.ndarray | None = None  # None: the operation's own input
        self.out: np.ndarray
        self.dsource: np.ndarray | None = None
        self.dout: np.ndarray
        self.first_reader = True  # backwards: the one that writes the input's gradient, others add
        self.statistics = np.zeros((4, unit.channels), np.float32)


class FusedBlocks:
    """The blocks of a BNext between stem and last PReLU, on batches of a fixed size.

    Args:
        model: A detector with a BNext backbone.
        batch: Images per batch.
        exact: Float products in the gradients; else integers with random rounding (``kernels/src/unit.h``).

    Raises:
        BddError: If the kernels cannot be compiled.
    """

    def __init__(self, model: tf.keras.Model, batch: int, *, exact: bool = True):
        self.exact, self.batch = exact, batch
        widths = BNEXT[model.name.replace("_", "-")].widths
        _, height, width, channels = model.get_layer("feature.0.norm").output.shape
        self.steps: list[_Step] = []
        source = dsource = None
        for i in range(1, len(widths)):
            stride = 2 if i > 1 and widths[i] != widths[i - 1] else 1
            step = self._step(
                model, f"feature.{i}.attention", (batch, height, width, channels), 3, stride, i % 2 == 0
            )
            step.source, step.dsource = source, dsource
            height, width = height // stride, width // stride
            step.out, step.dout = self._maps(batch, height, width, channels)
            source, dsource = step.out, step.dout
            names = ("ffn",) if widths[i] == widths[i - 1] else ("ffn_1", "ffn_2")
            whole, dwhole = self._maps(batch, height, width, widths[i])
            for k, name in enumerate(names):
                step = self._step(model, f"feature.{i}.{name}", (batch, height, width, channels), 1, 1, False)
                step.source, step.dsource = source, dsource
                part = slice(k * channels, (k + 1) * channels)
                step.out, step.dout = whole[..., part], dwhole[..., part]
                # Backwards runs from the last to the first.
                step.first_reader = k == len(names) - 1
            channels = widths[i]
            source, dsource = whole, dwhole
        self._out, self._dout = source, dsource
        self.weights = [w for step in self.steps for w in step.weights]

    def _step(
        self, model: tf.keras.Model, name: str, shape: tuple, kernel: int, stride: int, attention: bool
    ) -> _Step:
        unit = kernels.Unit(*shape, kernel, stride, attention)
        weights = [
            getattr(model.get_layer(f"{name}.{layer}"), weight)
            for layer, weight in kernels.PARAMETERS[: unit.parameters]
        ]
        step = _Step(unit, weights, [model.get_layer(f"{name}.{norm}") for norm in ("norm1", "norm2")])
        self.steps.append(step)
        return step

    @staticmethod
    def _maps(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def _forward(self, training: bool, x: np.ndarray, *weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = 0
        for step in self.steps:
            parameters = weights[at : at + step.unit.parameters]
            at += step.unit.parameters
            source = x if step.source is None else step.source
            step.unit.forward(source, parameters, step.out, step.statistics, training)
        return self._out, np.concatenate([step.statistics.ravel() for step in self.steps])

    def _inference(self, x: np.ndarray, statistics: np.ndarray, *weights: np.ndarray) -> np.ndarray:
        at = 0
        for step in self.steps:
            step.statistics[...] = statistics[at : at + step.statistics.size].reshape(step.statistics.shape)
            at += step.statistics.size
        return self._forward(False, x, *weights)[0]

    def _backward(
        self, dout: np.ndarray, seed: np.ndarray, x: np.ndarray, *weights: np.ndarray
    ) -> list[np.ndarray]:
        dx = np.empty_like(x)
        gradients = [np.empty_like(w) for w in weights]
        self._dout[...] = dout
        at = len(weights)
        for number, step in reversed(list(enumerate(self.steps))):
            at -= step.unit.parameters
            part = slice(at, at + step.unit.parameters)
            source, dsource = (x, dx) if step.source is None else (step.source, step.dsource)
            step.unit.backward(
                source,
                weights[part],
                step.dout,
                dsource,
                gradients[part],
                add=not step.first_reader,
                seed=(int(seed) * len(self.steps) + number) << 20,
                exact=self.exact,
            )
        return [dx, *gradients]

    def train(self, x: tf.Tensor, seed: tf.Tensor | int = 0) -> tf.Tensor:
        """The blocks while training: normalisation by the batch, whose statistics move the layers' averages.

        Its gradient must be taken before it is called again: what it needs is kept in place.

        Args:
            x: float32 [batch, H, W, C], the stem's normalised output.
            seed: Of the gradients' random rounding: another one for each step.

        Returns:
            float32 [batch, H / 16, W / 16, C].
        """
        statistics = []
        seed = tf.cast(seed, tf.int64)

        @tf.custom_gradient
        def blocks(x: tf.Tensor, *weights: tf.Tensor):  # noqa: ANN202 (TensorFlow's protocol)
            out, moments = tf.numpy_function(
                lambda *a: self._forward(True, *a), [x, *weights], (tf.float32, tf.float32)
            )
            statistics.append(moments)

            def gradient(dout: tf.Tensor) -> list[tf.Tensor]:
                types = [tf.float32] * (1 + len(weights))
                found = tf.numpy_function(self._backward, [dout, seed, x, *weights], types)
                return [tf.ensure_shape(g, v.shape) for g, v in zip(found, (x, *weights), strict=True)]

            return tf.ensure_shape(out, self._out.shape), gradient

        out = blocks(x, *[tf.convert_to_tensor(w) for w in self.weights])
        self._move_averages(statistics[0])
        return out

    def _averages(self) -> list:
        return [a for s in self.steps for n in s.norms for a in (n.moving_mean, n.moving_variance)]

    def _move_averages(self, moments: tf.Tensor) -> None:
        averages = self._averages()
        for average, now in zip(
            averages, tf.split(moments, [int(a.shape[0]) for a in averages]), strict=True
        ):
            average.assign(average * MOMENTUM + now * (1 - MOMENTUM))

    def infer(self, x: tf.Tensor) -> tf.Tensor:
        """The blocks with the layers' moving averages; shapes as in :meth:`train`."""
        moments = tf.concat([tf.convert_to_tensor(a) for a in self._averages()], axis=0)
        weights = [tf.convert_to_tensor(w) for w in self.weights]
        return tf.ensure_shape(
            tf.numpy_function(self._inference, [x, moments, *weights], tf.float32), self._out.shape
        )


def supports(model: tf.keras.Model) -> bool:
    """Whether a detector's backbone is a BNext whose weights all train."""
    return model.name.replace("_", "-") in BNEXT and all(
        layer.trainable for layer in model.layers if layer.name.startswith("feature.")
    )


def logits(
    model: tf.keras.Model, blocks: FusedBlocks, images: tf.Tensor, training: bool, seed: tf.Tensor | int = 0
) -> tf.Tensor:
    """The logit of a detector, its blocks computed by ``blocks``.

    Args:
        model: The detector.
        blocks: Made of it.
        images: uint8 [batch, S, S, 3].
        training: Whether batch normalisation goes by the batch.
        seed: See :meth:`FusedBlocks.train`.

    Returns:
        float32 [batch, 1].
    """
    x = images
    names = ("channels", "adapter", "normalise", "feature.rotate", "feature.0.conv", "feature.0.norm")
    present = {layer.name for layer in model.layers}
    for name in names:
        if name in present:
            layer = model.get_layer(name)
            x = layer(x, training=training) if name == "feature.0.norm" else layer(x)
    x = blocks.train(x, seed) if training else blocks.infer(x)
    x = model.get_layer("feature.prelu")(x, training=training)
    return model.get_layer("logit")(model.get_layer("feature.mean")(x))
