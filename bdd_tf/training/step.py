"""One batch of training: loss, gradients and update of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import logits
from bdd_tf.training.exchange import Exchange
from bdd_tf.training.native import blocks
from bdd_tf.training.optimizer import AdamW
from bdd_tf.training.state import TrainingState
from bdd_tf.training.workers import ALONE, Workers


class TrainingStep:
    """Network, loss and optimizer of a run.

    Args:
        config: The experiment.
        model: Its detector, with initial weights.
        positive_weight: Factor of the loss of FAKE images.
        workers: The workers that train together. Each one calls ``update`` with its own batch, at the same time.

    Attributes:
        update: ``update(images, labels, apply)``: add a batch's gradient; with ``apply``, update the weights. Several workers
            compute the sum over their batches, so that their weights stay equal: those of one process that accumulates
            as many gradients more.
        score: ``score(images)``: logits [B, 1] with the moving averages; at most ``config.batch`` images.
        rate: Learning rate of the next update.
        state: Progress of the run; ``update`` counts loss, correct and seen images.
        optimizer: The optimizer, for the checkpoint.
        sums: Summed gradients, for the checkpoint; empty without accumulation.
        average: Moving average of all weights, in the order of ``model.weights``; empty without one.
    """

    def __init__(
        self, config: Experiment, model: tf.keras.Model, positive_weight: float, workers: Workers = ALONE
    ):
        self.config, self.model, self.positive_weight = config, model, positive_weight
        self.workers = workers
        self._exchange = Exchange(model, workers) if workers.count > 1 else None
        self._logits = logits(model)
        self._blocks = fused_blocks(model, config)
        self.state = TrainingState()
        self.rate = tf.Variable(config.learning_rate, dtype=tf.float32)
        self.optimizer = AdamW(
            learning_rate=lambda: self.rate, weight_decay=config.weight_decay, decay_filter=_decays
        )
        variables = model.trainable_variables
        self.sums = [tf.Variable(tf.zeros_like(v)) for v in variables] if config.accumulate > 1 else []
        self.average = [tf.Variable(w) for w in model.weights] if config.ema else []
        # The optimizer's slots must exist before a checkpoint is restored into them.
        self.optimizer._create_all_weights(variables)
        self.update = tf.function(self._update, autograph=False)
        self.score = tf.function(self._score, autograph=False)

    def loss(self, labels: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        """Compute the mean of the weighted cross-entropy with label smoothing.

        Args:
            labels: float32 [B, 1], 0 or 1.
            logit: float32 [B, 1].

        Returns:
            A float32 scalar.
        """
        smooth = self.config.label_smoothing
        targets = labels * (1 - smooth) + 0.5 * smooth
        weight = tf.constant(self.positive_weight, tf.float32)
        return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(targets, logit, weight))

    def _update(self, images: tf.Tensor, labels: tf.Tensor, apply: bool) -> None:
        variables, state = self.model.trainable_variables, self.state
        count = tf.shape(labels, out_type=tf.int64)[0]
        before = self._exchange.before() if self._exchange else []
        if self._blocks:
            # The seed of one process for this batch.
            seed = state.images + count * self.workers.index + self.config.seed
            logit = blocks.logits(self.model, self._blocks, images, True, seed)
        else:
            logit = self._logits(images, training=True)
        loss = self.loss(labels, logit)
        # Gradients are summed in pairs. AddN over three or more starts with whichever buffer is free to be overwritten;
        # that depends on the timing of threads even under op determinism, and a run could not be repeated.
        gradients = tf.gradients(loss, variables, aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE)
        correct = tf.reduce_sum(tf.cast((logit > 0) == (labels > 0.5), tf.int64))
        if self.sums:
            gradients = [s.assign_add(g) for s, g in zip(self.sums, gradients, strict=True)]
        losses = [loss]
        if self._exchange:
            gradients, losses, correct = self._exchange.round(
                before, gradients if apply else [], loss, correct
            )
        if self.config.accumulate * self.workers.count > 1:
            gradients = [g / (self.config.accumulate * self.workers.count) for g in gradients]
        if apply:
            if self.config.clip_norm:
                gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            for s in self.sums:
                s.assign(tf.zeros_like(s))
            self._add_to_average()
        for each in losses:
            state.loss_sum.assign_add(tf.cast(each, tf.float64) * tf.cast(count, tf.float64))
        state.correct.assign_add(correct)
        state.images.assign_add(count * self.workers.count)

    def _add_to_average(self) -> None:
        """Move the average towards the weights; faster in the first updates, which it should forget."""
        if self.average:
            done = tf.cast(self.optimizer.iterations, tf.float32)
            keep = tf.minimum(self.config.ema, (1.0 + done) / (10.0 + done))
            for mean, weight in zip(self.average, self.model.weights, strict=True):
                mean.assign_sub((1.0 - keep) * (mean - weight))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the averaged weights within a ``with`` block; without an average nothing changes."""
        kept = [weight.numpy() for weight in self.model.weights] if self.average else []
        for weight, mean in zip(self.model.weights if kept else (), self.average, strict=True):
            weight.assign(mean)
        try:
            yield
        finally:
            for weight, value in zip(self.model.weights if kept else (), kept, strict=True):
                weight.assign(value)

    def _score(self, images: tf.Tensor) -> tf.Tensor:
        if not self._blocks:
            return self._logits(images, training=False)
        count = tf.shape(images)[0]  # The last batch may be smaller than the fixed size of the kernels.
        images = tf.pad(images, [[0, self.config.batch - count], [0, 0], [0, 0], [0, 0]])
        images = tf.ensure_shape(images, (self.config.batch, *self.model.input.shape[1:]))
        return blocks.logits(self.model, self._blocks, images, False)[:count]


def fused_blocks(model: tf.keras.Model, config: Experiment) -> blocks.FusedBlocks | None:
    """Return the native training kernels of a detector's blocks.

    Returns:
        The kernels; None if Keras trains the blocks. Prints a notice if that was not requested.
    """
    if config.gradients == "keras" or not blocks.supports(model):
        return None
    try:
        return blocks.FusedBlocks(model, config.batch, exact=config.gradients == "float32")
    except BddError as error:
        say(f"training without the C++ kernels, several times slower: {error}")
        return None


def _decays(name: str) -> bool:
    """Whether a variable decays: float kernels only (see :class:`bdd_tf.training.optimizer.AdamW`)."""
    leaf = name.split("/")[-1].split(":")[0]
    return (
        leaf in ("kernel", "depthwise_kernel") and ".conv/" not in name
    ) or "feature.0.conv/kernel" in name
