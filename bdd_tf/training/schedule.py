"""The learning rate of each update, for TensorFlow and PyTorch."""

from __future__ import annotations

import math

from bdd_tf.config import Experiment

#: Largest share of all updates in which the learning rate rises.
WARMUP_SHARE = 0.2


def warmup_updates(config: Experiment, updates_per_epoch: int) -> int:
    """Return the updates with rising learning rate: ``config.warmup``, at most `WARMUP_SHARE` of all updates.

    A short training would otherwise end before the peak rate is reached, and would hardly learn.
    """
    return min(config.warmup, int(WARMUP_SHARE * config.epochs * updates_per_epoch))


def warmup_note(config: Experiment, updates_per_epoch: int) -> str | None:
    """Return one sentence if the warm-up is shorter than the experiment says; None otherwise."""
    updates = warmup_updates(config, updates_per_epoch)
    if updates == config.warmup:
        return None
    return (
        f"the training has {config.epochs * updates_per_epoch} updates, so the learning rate rises in {updates} of them "
        f"instead of {config.warmup} (--warmup)."
    )


def learning_rate(config: Experiment, update: int, updates_per_epoch: int) -> float:
    """Compute the learning rate of an update: linear warm-up (:func:`warmup_updates`), then the schedule down to its last rate.

    Args:
        config: The experiment.
        update: Number of the update in the whole training, from 0.
        updates_per_epoch: Updates per epoch.
    """
    warmup = warmup_updates(config, updates_per_epoch)
    if update < warmup:
        return config.learning_rate * (update + 1) / warmup
    total = (config.schedule_epochs or config.epochs) * updates_per_epoch
    progress = min((update - warmup) / max(total - warmup, 1), 1.0)
    last = config.final_learning_rate
    if config.schedule == "cosine":
        factor = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "linear":
        factor = 1 + (last - 1) * progress
    else:
        factor = 1.0
    return config.learning_rate * factor
