"""BNext's blocks as one TensorFlow operation with its gradient, computed by :mod:`bdd_tf.training.native.library`.

The Keras model of :mod:`bdd_tf.models.bnext` still holds the weights and is saved, evaluated and converted. This module
only replaces the computation of its blocks during training, and is several times faster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.models.bnext import MOMENTUM
from bdd_tf.models.bnext_sizes import BNEXT
from bdd_tf.training.native import library
from bdd_tf.training.native.library import Array


class _Step:
    """One unit of the network: its kernels, its layers, and the arrays of its input and output.

    Args:
        unit: The native unit.
        weights: Keras weights in the order of :data:`bdd_tf.training.native.library.PARAMETERS`.
        norms: The two batch normalisation layers.
        source: Input activations and their gradient.
        result: Output activations and their gradient.
    """

    def __init__(
        self,
        unit: library.Unit,
        weights: list,
        norms: list,
        source: tuple[Array, Array],
        result: tuple[Array, Array],
    ):
        self.unit, self.weights, self.norms = unit, weights, norms
        self.source, self.result = source, result
        #: Whether this unit writes the gradient of its input; the other units that read the same input add to it.
        self.writes_gradient = True
        self.statistics = np.zeros((4, unit.channels), np.float32)


class _Front:
    """The layers between the forensic channels and the first unit: their kernels, weights, and result.

    Args:
        model: A detector with a BNext backbone.
        batch: Images per batch.
    """

    def __init__(self, model: tf.keras.Model, batch: int):
        conv, norm = model.get_layer("feature.0.conv"), model.get_layer("feature.0.norm")
        adapter = next((layer for layer in model.layers if layer.name == "adapter"), None)
        normalise = model.get_layer("normalise")
        _, height, width, channels = model.get_layer("channels").output.shape
        planes = normalise.output.shape[-1]
        # The layer is affine: two points determine it.
        shift, unit = (normalise(tf.fill([1, 1, 1, planes], x)).numpy().ravel() for x in (0.0, 1.0))
        self.stem = library.Stem(
            (batch, height, width, channels),
            conv.filters,
            conv.kernel_size[0],
            conv.strides[0],
            adapter is not None,
            unit - shift,
            shift,
        )
        self.norms = [norm]
        self.weights = [conv.kernel, norm.gamma, norm.beta]
        if adapter is not None:
            self.weights += [adapter.kernel, adapter.bias]
        self.statistics = np.zeros((2, conv.filters), np.float32)
        #: Output activations and their gradient.
        self.result = _maps(*self.stem.out_shape)


class FusedBlocks:
    """A BNext from the forensic channels to its last PReLU, for batches of a fixed size.

    Args:
        model: A detector with a BNext backbone.
        batch: Images per batch.
        exact: Compute gradients with float products; else with int8 products and stochastic rounding (``src/unit.h``).

    Raises:
        BddError: If the kernels cannot be compiled.
    """

    def __init__(self, model: tf.keras.Model, batch: int, *, exact: bool = True):
        self.exact, self.batch = exact, batch
        self.steps: list[_Step] = []
        _, height, width, _ = model.get_layer("feature.0.norm").output.shape
        self.front = _Front(model, batch)
        source = self.front.result
        for block in BNEXT[model.name.replace("_", "-")].blocks:
            name, shape = f"feature.{block.number}", (batch, height, width, block.into)
            height, width = height // block.stride, width // block.stride
            hidden = _maps(batch, height, width, block.into)
            unit = library.Unit(*shape, 3, block.stride, block.attention)
            self._append(model, f"{name}.attention", unit, source, hidden)
            out = _maps(batch, height, width, block.out)
            for k, suffix in enumerate(("ffn_1", "ffn_2") if block.doubles else ("ffn",)):
                unit = library.Unit(batch, height, width, block.into, 1, 1, False)
                part = slice(k * block.into, (k + 1) * block.into)
                self._append(model, f"{name}.{suffix}", unit, hidden, (out[0][..., part], out[1][..., part]))
            # The backward pass visits the units in reverse order: of two in parallel the second one comes first.
            if block.doubles:
                self.steps[-2].writes_gradient = False
            source = out
        self._out, self._dout = source
        self._parts: tuple[_Front | _Step, ...] = (self.front, *self.steps)
        self.weights = [w for part in self._parts for w in part.weights]

    def _append(
        self,
        model: tf.keras.Model,
        name: str,
        unit: library.Unit,
        source: tuple[Array, Array],
        result: tuple[Array, Array],
    ) -> None:
        weights = [
            getattr(model.get_layer(f"{name}.{layer}"), weight)
            for layer, weight in library.PARAMETERS[: unit.parameters]
        ]
        norms = [model.get_layer(f"{name}.{norm}") for norm in ("norm1", "norm2")]
        self.steps.append(_Step(unit, weights, norms, source, result))

    def _forward(self, training: bool, x: Array, *weights: Array) -> tuple[Array, Array]:
        at = len(self.front.weights)
        self.front.stem.forward(x, weights[:at], self.front.result[0], self.front.statistics, training)
        for step in self.steps:
            parameters = weights[at : at + step.unit.parameters]
            at += step.unit.parameters
            step.unit.forward(step.source[0], parameters, step.result[0], step.statistics, training)
        return self._out, np.concatenate([part.statistics.ravel() for part in self._parts])

    def _inference(self, x: Array, statistics: Array, *weights: Array) -> Array:
        at = 0
        for part in self._parts:
            part.statistics[...] = statistics[at : at + part.statistics.size].reshape(part.statistics.shape)
            at += part.statistics.size
        return self._forward(False, x, *weights)[0]

    def _backward(self, dout: Array, seed: np.ndarray, x: Array, *weights: Array) -> list[Array]:
        gradients = [np.empty_like(w) for w in weights]
        self._dout[...] = dout
        at = len(weights)
        for number, step in reversed(list(enumerate(self.steps))):
            at -= step.unit.parameters
            part = slice(at, at + step.unit.parameters)
            step.unit.backward(
                step.source[0],
                weights[part],
                step.result[1],
                step.source[1],
                gradients[part],
                add=not step.writes_gradient,
                rounding_seed=None if self.exact else (int(seed) * len(self.steps) + number) << 20,
            )
        self.front.stem.backward(x, weights[:at], self.front.result[1], gradients[:at])
        return gradients

    def train(self, x: tf.Tensor, seed: tf.Tensor | int = 0) -> tf.Tensor:
        """Compute the network in training: normalise by the batch and update the layers' moving averages.

        Take the gradient before the next call: the activations that it needs are overwritten by that call.

        Args:
            x: float32 [batch, H, W, K], the forensic channels. There is no gradient with respect to them.
            seed: Seed of the gradients' stochastic rounding; give a different one in each step.

        Returns:
            float32 [batch, h, w, C], the input of the last PReLU.
        """
        statistics = []
        seed = tf.cast(seed, tf.int64)

        @tf.custom_gradient
        def network(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], list]]:
            out, moments = tf.numpy_function(
                lambda *a: self._forward(True, *a), [x, *weights], (tf.float32, tf.float32)
            )
            statistics.append(moments)

            def gradient(dout: tf.Tensor) -> list[tf.Tensor]:
                types = [tf.float32] * len(weights)
                found = tf.numpy_function(self._backward, [dout, seed, x, *weights], types)
                return [tf.ensure_shape(g, v.shape) for g, v in zip(found, weights, strict=True)]

            return tf.ensure_shape(out, self._out.shape), gradient

        out = network(*[tf.convert_to_tensor(w) for w in self.weights])
        self._move_averages(statistics[0])
        return out

    def _averages(self) -> list:
        norms = [norm for part in self._parts for norm in part.norms]
        return [average for norm in norms for average in (norm.moving_mean, norm.moving_variance)]

    def _move_averages(self, moments: tf.Tensor) -> None:
        averages = self._averages()
        for average, now in zip(
            averages, tf.split(moments, [int(a.shape[0]) for a in averages]), strict=True
        ):
            average.assign(average * MOMENTUM + now * (1 - MOMENTUM))

    def infer(self, x: tf.Tensor) -> tf.Tensor:
        """Compute the network with the layers' moving averages; shapes as in :meth:`train`."""
        moments = tf.concat([tf.convert_to_tensor(a) for a in self._averages()], axis=0)
        weights = [tf.convert_to_tensor(w) for w in self.weights]
        return tf.ensure_shape(
            tf.numpy_function(self._inference, [x, moments, *weights], tf.float32), self._out.shape
        )


def _maps(*shape: int) -> tuple[Array, Array]:
    """Activations and their gradient."""
    return np.zeros(shape, np.float32), np.zeros(shape, np.float32)


def supports(model: tf.keras.Model) -> bool:
    """Return whether the kernels can train a detector: its backbone is a BNext and no block is frozen."""
    return model.name.replace("_", "-") in BNEXT and all(
        layer.trainable for layer in model.layers if layer.name.startswith("feature.")
    )


def logits(
    model: tf.keras.Model, blocks: FusedBlocks, images: tf.Tensor, training: bool, seed: tf.Tensor | int = 0
) -> tf.Tensor:
    """Compute a detector's logit, with ``blocks`` in place of its Keras layers.

    Args:
        model: The detector.
        blocks: Made from it.
        images: uint8 [batch, S, S, 3].
        training: Whether batch normalisation uses the batch's statistics.
        seed: See :meth:`FusedBlocks.train`.

    Returns:
        float32 [batch, 1].
    """
    x = model.get_layer("channels")(images)
    x = blocks.train(x, seed) if training else blocks.infer(x)
    x = model.get_layer("feature.prelu")(x, training=training)
    return model.get_layer("logit")(model.get_layer("feature.mean")(x))
