"""The numbers that several workers add up after each batch, as one vector.

Sums of gradients are obvious. A moving average of batch normalisation moves once per worker: W workers at index w = 0, 1, ...
with the batch statistics s_w leave it where one process would that sees their batches one after another,

    m^W a + sum over w of m^(W - 1 - w) (1 - m) s_w,

for an average a with momentum m. The loss of every worker has a place of its own, so that the log adds them in the order of
one process, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bdd_tf.legacy_keras import tf
from bdd_tf.training.workers import Workers


class Exchange:
    """Adds up gradients, moving averages, loss and correct answers of a round: one batch per worker.

    Args:
        model: The detector. Weights that change in another way than by gradients or as moving averages of batch
            normalisation stay each worker's own; the chief's are saved.
        workers: All workers.
    """

    def __init__(self, model: tf.keras.Model, workers: Workers):
        self._workers = workers
        layers = [
            layer
            for layer in model.submodules
            if isinstance(layer, tf.keras.layers.BatchNormalization) and layer.trainable
        ]
        #: Moving averages, each with its momentum.
        self._averages = [
            (average, float(layer.momentum))
            for layer in layers
            for average in (layer.moving_mean, layer.moving_variance)
        ]

    def before(self) -> list[tf.Tensor]:
        """Return the moving averages in front of the batch, for :meth:`round`."""
        return [tf.identity(average.read_value()) for average, _ in self._averages]

    def round(
        self, before: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor], loss: tf.Tensor, correct: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
        """Add up a round, and set the moving averages.

        Args:
            before: Result of :meth:`before`.
            gradients: This worker's gradients; empty in a round without an update.
            loss: float32 scalar, of this worker's batch.
            correct: int64 scalar, correctly classified images of this batch; below 2^24 in all batches together.

        Returns:
            Sums of the gradients, the loss of every worker's batch (float32 scalars in the workers' order), and the sum of
            the correct ones.
        """
        index, count = self._workers.index, self._workers.count
        moved = [
            momentum ** (count - 1 - index) * (average.read_value() - momentum * old)
            for (average, momentum), old in zip(self._averages, before, strict=True)
        ]
        parts = [*gradients, *moved, tf.one_hot(index, count) * loss, tf.cast(correct, tf.float32)]
        shapes = [part.shape for part in parts]
        total = self._workers.total(tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0))
        flat = tf.split(total, [int(np.prod(shape)) for shape in shapes])
        *sums, losses, correct = (tf.reshape(part, shape) for part, shape in zip(flat, shapes, strict=True))
        for (average, momentum), old, part in zip(
            self._averages, before, sums[len(gradients) :], strict=True
        ):
            average.assign(momentum**count * old + part)
        return sums[: len(gradients)], tf.unstack(losses), tf.cast(correct, tf.int64)
