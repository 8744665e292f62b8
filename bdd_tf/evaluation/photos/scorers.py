"""Scorers: functions from crops to logits, of a run's Keras weights or of a .tflite file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.views import ViewRule
from bdd_tf.errors import BddError, UsageError

Images = NDArray[np.uint8]
Logits = NDArray[np.float64]
#: Crops per call of a network: one graph, and one arena, for all batches.
BATCH = 64
#: Probabilities are clipped to this distance from 0 and 1 before they become logits.
_CLOSEST = 1e-7


@dataclass(frozen=True)
class Scorer:
    """A detector of crops.

    Attributes:
        score: uint8 [B, S, S, 3] RGB -> logits [B], float; higher is more likely FAKE.
        size: S in pixels.
        views: The native crops of a whole image and how their scores are combined.
        name: For tables and titles.
        engine: ``keras``, an engine's name, or ``function``.
        threshold: The logit that its owner ships, or None.
        unsure: The logits of the band that its owner ships, or None.
        weights: SHA-256 of the weights or of the file; empty if unknown.
    """

    score: Callable[[Images], Any]
    size: int
    views: ViewRule
    name: str
    engine: str = "function"
    threshold: float | None = None
    weights: str = ""
    unsure: tuple[float, float] | None = None

    def __call__(self, images: Images) -> Logits:
        """Score crops.

        Args:
            images: uint8 [B, S, S, 3], B at least 0.

        Returns:
            float64 [B].

        Raises:
            BddError: If the detector returned another number of scores, or one that is not finite.
        """
        if not len(images):
            return np.empty(0)
        found = np.asarray(self.score(images), np.float64).reshape(-1)
        if len(found) != len(images) or not np.isfinite(found).all():
            raise BddError(
                f"{self.name} returned {len(found)} scores for {len(images)} crops, or one that is not finite."
            )
        return found


def padded(score: Callable[[Images], Any], batch: int = BATCH) -> Callable[[Images], Logits]:
    """Score in batches of one size: the last one is filled with black crops whose scores are dropped."""

    def scored(images: Images) -> Logits:
        found = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            full = part
            if len(part) < batch:
                full = np.zeros((batch, *images.shape[1:]), np.uint8)
                full[: len(part)] = part
            found.append(np.asarray(score(full), np.float64).reshape(-1)[: len(part)])
        return np.concatenate(found) if found else np.empty(0)

    return scored


def logit(probability: Any) -> Logits:
    """Logits of probabilities in [0, 1], clipped so that they are finite: float64, the same shape."""
    clipped = np.clip(np.asarray(probability, np.float64), _CLOSEST, 1 - _CLOSEST)
    return np.log(clipped) - np.log1p(-clipped)


def run_scorer(run: Any) -> Scorer:
    """The Keras network of a run.

    Args:
        run: :class:`bdd_tf.runs.Run` with trained weights on the data set ``photos``.

    Returns:
        Its scorer. The logits are those of the network, before the temperature.

    Raises:
        BddError: For a run without weights.
    """
    # TensorFlow, which a .tflite file does without.
    from bdd_tf.config import Experiment
    from bdd_tf.legacy_keras import tf
    from bdd_tf.models.detector import logits
    from bdd_tf.runs import trained_weights, validated
    from bdd_tf.training.weights import load_trained

    config = Experiment.load(run.config)
    network = logits(load_trained(run, config))
    compiled = tf.function(lambda images: network(images, training=False))
    chosen = validated(run)
    known = run.metrics("validation").is_file()
    return Scorer(
        padded(lambda images: compiled(tf.constant(images)).numpy()),
        config.resolution,
        config.views or ViewRule(config.resolution),
        run.name,
        "keras",
        float(chosen.temperature * logit(chosen.threshold)) if known else None,
        _digest(trained_weights(run)),
    )


def file_scorer(path: Path, num_threads: int = 1) -> Scorer:
    """The crops' scores of a .tflite file.

    Args:
        path: Written by ``bdd convert``.
        num_threads: Of its runtime.

    Returns:
        Its scorer. The logits are those of the file's calibrated probabilities.

    Raises:
        UsageError: If the file does not exist.
        BddError: If it cannot be read or run.
    """
    from bdd_tf.edge.detector import Detector

    if not path.is_file():
        raise UsageError(f"{path} does not exist; `bdd convert` writes it from a run.")
    detector = Detector(path, num_threads=num_threads)
    size = detector.resize.size
    given = detector.metadata.get("views")
    return Scorer(
        padded(lambda images: logit(detector.predict_batch(images))),
        size,
        ViewRule.from_dict(given) if given else ViewRule(size),
        path.name,
        detector.engine_name,
        float(logit(detector.threshold)),
        _digest(path),
        None
        if detector.unsure is None
        else (float(logit(detector.unsure[0])), float(logit(detector.unsure[1]))),
    )


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
