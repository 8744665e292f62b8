"""The progress of a training run, as variables of a checkpoint."""

from __future__ import annotations

from bdd_tf.legacy_keras import tf


class TrainingState(tf.Module):
    """Counters that a checkpoint stores next to the weights and the optimizer.

    Attributes:
        epoch: Finished epochs.
        step: Finished batches of the current epoch.
        loss_sum: Sum of the current epoch's losses over its images.
        correct: Correctly classified images of the current epoch.
        images: Images seen in all epochs.
        seconds: Training time of the current epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.correct = tf.Variable(0, dtype=tf.int64)
        self.images = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)

    def next_epoch(self) -> None:
        """Count an epoch and reset its sums."""
        self.epoch.assign_add(1)
        for variable in (self.step, self.loss_sum, self.correct, self.seconds):
            variable.assign(tf.zeros_like(variable))
