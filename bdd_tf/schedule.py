"""The learning rate over a training, whoever trains (TensorFlow, or PyTorch on a GPU)."""

from __future__ import annotations

import math

from bdd_tf.config import Experiment


def learning_rate(config: Experiment, update: int, updates_per_epoch: int) -> float:
    """Learning rate of an update (0-based): linear warm-up, then the schedule down to its last rate."""
    if update < config.warmup:
        return config.learning_rate * (update + 1) / config.warmup
    total = (config.schedule_epochs or config.epochs) * updates_per_epoch
    progress = min((update - config.warmup) / max(total - config.warmup, 1), 1.0)
    last = config.final_learning_rate
    if config.schedule == "cosine":
        factor = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "linear":
        factor = 1 + (last - 1) * progress
    else:
        factor = 1.0
    return config.learning_rate * factor
