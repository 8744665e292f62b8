"""Verify a converted file: the operators that it must hold, and its agreement with the Keras model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from bdd_tf.console import say
from bdd_tf.edge.engines import create_engine
from bdd_tf.edge.tflite.file import TfliteModel, parse_tflite
from bdd_tf.errors import BddError
from bdd_tf.legacy_keras import tf
from bdd_tf.metrics.classification import auc
from bdd_tf.models.operation_counts import flat_layers, is_binary

#: Limits of the median difference of two models' probabilities and of the share of images that they classify
#: differently. Exact equality is impossible: the last bit of a float can flip a sign near zero. A wrong padding or a
#: lost layer exceeds the limits by orders of magnitude.
MEDIAN_LIMIT = 1e-3
DECISION_LIMIT = 0.03

#: The same limits for int8 networks and for files with int8 gates. A gate that changes by 1/250 flips a few signs, and a
#: flipped sign changes a probability: the verdict of single images changes (0.7 % of 3,000 CIFAKE images), the accuracy
#: does not.
ROUNDED_MEDIAN_LIMIT = 2e-2
ROUNDED_DECISION_LIMIT = 0.2

#: Median limit of a binary network's int8 export. It rounds the activations before and after every sign, which flips
#: more of them (measured: 0.024 with identical decisions).
INT8_EXPORT_MEDIAN_LIMIT = 5e-2

#: Largest loss of AUC, on labelled validation images, of a file with int8 gates or activations.
AUC_LIMIT = 2e-3
#: Fewest labelled images on which an AUC is compared; below, chance alone moves it by more than the limit.
AUC_IMAGES = 400

#: A float convolution of at least this size is checked for binary weights.
_SMALLEST_CHECKED_KERNEL = 64


@dataclass(frozen=True)
class Agreement:
    """Agreement of a file with the Keras model, or with another file, on real images.

    Attributes:
        images: Number of images compared.
        median: Median absolute difference of the probabilities.
        largest: Largest absolute difference.
        decisions: Share of images with the same decision at the threshold.
        auc_loss: AUC of the Keras model minus that of the file on labelled images; None if there are too few.
    """

    images: int
    median: float
    largest: float
    decisions: float
    auc_loss: float | None = None


def binary_layers(model: tf.keras.Model) -> int:
    """Return the number of layers whose weights and inputs are both binary."""
    return sum(is_binary(layer) for layer in flat_layers(model))


def operator_counts(parsed: TfliteModel) -> dict[str, int]:
    """Count a file's operators by name, most frequent first."""
    return dict(Counter(op.name for graph in parsed.subgraphs for op in graph.operators).most_common())


def check_operators(model: tf.keras.Model, parsed: TfliteModel) -> None:
    """Check that every binary convolution of the model became an LceBconv2d.

    Raises:
        BddError: If the counts differ, or a float convolution holds binary weights.
    """
    expected = binary_layers(model)
    found = operator_counts(parsed).get("LceBconv2d", 0)
    if found != expected:
        raise BddError(
            f"the network has {expected} binary convolutions, but the converted file has {found} LceBconv2d operators; "
            "the file was not written."
        )
    for graph in parsed.subgraphs:
        for op in graph.operators:
            if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                continue
            weights = graph.tensors[op.inputs[1]]
            values = np.frombuffer(weights.data, np.float32) if weights.dtype == "float32" else np.empty(0)
            if values.size > _SMALLEST_CHECKED_KERNEL:
                filters = np.abs(values.reshape(weights.shape[0], -1))
                # A scale of batch normalisation that is initialised with 0 makes all weights 0: these are no signs.
                if filters.shape[1] > 8 and filters.any() and np.all(filters == filters[:, :1]):
                    raise BddError(
                        f"tensor {weights.name} holds the weights of a binary convolution in a float {op.name}; "
                        "the file was not written."
                    )


def compare(model: tf.keras.Model, content: bytes, images: np.ndarray, threshold: float) -> Agreement:
    """Run the Keras model and its file on the same images.

    Args:
        model: The detector.
        content: The .tflite file.
        images: uint8 [N, S, S, 3].
        threshold: Decision threshold in [0, 1].

    Returns:
        The agreement of the two.
    """
    return agreement_of(_keras_scores(model, images), file_scores(content, images), threshold)


def _keras_scores(model: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    parts = [model(images[i : i + 16], training=False).numpy()[:, 0] for i in range(0, len(images), 16)]
    return np.concatenate(parts)


def auc_loss(
    model: tf.keras.Model, content: bytes, labelled: tuple[np.ndarray, np.ndarray] | None
) -> float | None:
    """Measure how much AUC a file with rounded weights loses.

    Args:
        model: The detector.
        content: The .tflite file.
        labelled: uint8 [N, S, S, 3] and labels [N]; None if there are none.

    Returns:
        AUC of the model minus AUC of the file; None for fewer than :data:`AUC_IMAGES` images or a single class.
    """
    if labelled is None or len(labelled[1]) < AUC_IMAGES or len(set(labelled[1].tolist())) < 2:
        return None
    images, labels = labelled
    say(f"comparing the AUC of file and Keras on {len(images)} validation images")
    before, after = auc(labels, _keras_scores(model, images)), auc(labels, file_scores(content, images))
    return None if before is None or after is None else before - after


def check_auc(loss: float | None, advice: str) -> float | None:
    """Return a loss of AUC that is within the limit.

    Args:
        loss: From :func:`auc_loss`.
        advice: Sentence appended to the error message, with a leading space.

    Raises:
        BddError: If it exceeds :data:`AUC_LIMIT`.
    """
    if loss is not None and loss > AUC_LIMIT:
        raise BddError(
            f"the file loses {loss:.4f} of AUC on validation images (limit {AUC_LIMIT:g}); the file was not "
            f"written.{advice}"
        )
    return loss


def file_scores(content: bytes, images: np.ndarray) -> np.ndarray:
    """Return a file's fake probabilities, float32 [N], for images uint8 [N, S, S, 3]."""
    return np.asarray(create_engine(parse_tflite(content), num_threads=2).run(images)).reshape(-1)


def agreement_of(first: np.ndarray, second: np.ndarray, threshold: float) -> Agreement:
    """Compare two models' fake probabilities, both [N], on the same images."""
    difference = np.abs(first - second)
    same = float(np.mean((first >= threshold) == (second >= threshold)))
    return Agreement(len(first), float(np.median(difference)), float(difference.max()), same)


def check_agreement(
    found: Agreement, median_limit: float, decision_limit: float, advice: str = "", reference: str = "Keras"
) -> Agreement:
    """Return an agreement that is within the limits.

    Args:
        found: The agreement.
        median_limit: Largest accepted median difference.
        decision_limit: Largest accepted share of images with another decision.
        advice: Sentence appended to the error message, with a leading space.
        reference: What the file was compared with, for the error message.

    Raises:
        BddError: If a limit is exceeded.
    """
    if found.median > median_limit or found.decisions < 1 - decision_limit:
        raise BddError(
            f"the file disagrees with {reference} on {found.images} images: median difference {found.median:.2g} "
            f"(limit {median_limit:g}), same decision on {found.decisions:.1%}; the file was not written.{advice}"
        )
    return found
