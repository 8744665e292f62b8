"""Convert a detector to a .tflite file, verify it against the Keras model, and only then write it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf import __version__
from bdd_tf.config import Experiment
from bdd_tf.console import say
from bdd_tf.edge.images.rules import rule_entries
from bdd_tf.edge.labels import LABELS
from bdd_tf.edge.tflite.file import TfliteModel, parse_tflite
from bdd_tf.edge.tflite.metadata import METADATA_NAME, VIEWS_FORMAT, embed_metadata
from bdd_tf.errors import BddError, UsageError, one_of
from bdd_tf.files import write_atomically
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import fold_temperature
from bdd_tf.models.normalisation import NORMALISATIONS
from bdd_tf.models.operation_counts import Operations, count_operations
from bdd_tf.runs import RUNS_DIR, Run, Validated, existing_run, validated
from bdd_tf.training.weights import load_trained
from converters import verify
from converters.choices import DELEGATE_FREE, WEIGHTS
from converters.sample_images import photographs
from converters.tflite import builtin_ops
from converters.tflite.compress_vectors import compress_vectors
from converters.tflite.fold_batch_norm import fold
from converters.tflite.quantize_gates import quantize_gates
from converters.tflite.zero_padding import exact_zero_padding

#: Number of images on which the file is compared with the Keras model.
CHECK_IMAGES = 64
#: Number of further images on which the activation ranges of an int8 network are measured.
CALIBRATION_IMAGES = 128
#: Number of validation images on which the AUC of a rounded file is compared, if there are as many.
LABELLED_IMAGES = 1152

#: A written file as parsed, the network's operation counts, and the file's agreement with its reference.
Converted = tuple[TfliteModel, Operations, verify.Agreement]


def to_flatbuffer(model: tf.keras.Model) -> bytes:
    """Convert a detector with Larq's converter if it is binary, else with TensorFlow's.

    Batch normalisations behind gates are folded (:mod:`converters.tflite.fold_batch_norm`).

    Args:
        model: uint8 [N, S, S, 3] -> float32 [N, 1].

    Returns:
        A .tflite file with batch size 1 and without metadata.
    """
    if not verify.binary_layers(model):
        # Larq's converter would merge ResNet's padding with its VALID convolution, which changes the function.
        return builtin_ops.float_file(model)
    import larq_compute_engine as lce

    with builtin_ops.saved_model(model, exact_zero_padding) as folder:
        return fold(lce.convert_saved_model(folder))


def metadata(config: Experiment, chosen: Validated, metrics: dict | None, trained: bool) -> dict:
    """Return the metadata that a file carries, except ``precision``, which depends on the file.

    docs/architecture.md describes the format.

    Args:
        config: The network's experiment.
        chosen: Thresholds and temperature chosen on validation. The temperature must have been folded into the network
            (:func:`bdd_tf.models.detector.fold_temperature`), because the thresholds apply to calibrated scores.
        metrics: Metrics of the network; None if it was not evaluated.
        trained: False if the weights are random.

    Returns:
        Values for JSON. ``unsure`` is there only if a band was chosen, and makes the format 2. ``thresholds`` has an entry
        for each false positive rate that validation could resolve.
    """
    views = None if config.views is None else dataclasses.replace(config.views, scale=chosen.scale)
    rule = rule_entries(views or config.rule)
    layout = rule.pop("format")
    statistics = {}
    if config.stem == "adapter" and config.statistics != "imagenet":
        mean, deviation = NORMALISATIONS[config.statistics]
        statistics["normalisation"] = {"mean": list(mean), "std": list(deviation)}
    return {
        "format": layout if chosen.unsure is None else VIEWS_FORMAT,
        "backbone": config.backbone,
        "channels": list(config.channels),
        "channel_variant": config.variant,
        "resolution": config.resolution,
        **statistics,
        **rule,
        "labels": list(LABELS),
        "threshold": chosen.threshold,
        **({} if chosen.unsure is None else {"unsure": list(chosen.unsure)}),
        "temperature": chosen.temperature,
        "thresholds": {rate: t for rate, t in chosen.thresholds.items() if t is not None},
        "dataset": config.dataset if trained else None,
        "trained": trained,
        "metrics": metrics,
        "version": __version__,
    }


def convert(
    model: tf.keras.Model,
    about: dict,
    output: Path,
    images: np.ndarray,
    weights: str | None = None,
    calibration: np.ndarray | None = None,
    labelled: tuple[np.ndarray, np.ndarray] | None = None,
) -> Converted:
    """Convert a detector, verify the file, and write it.

    Args:
        model: The detector.
        about: Metadata for the file, as :func:`metadata` returns it.
        output: Path of the file to write.
        images: uint8 [N, S, S, 3], real images to compare on.
        weights: For a binary network ``"int8"`` (default) quantizes the weights of the gates
            (:mod:`converters.tflite.quantize_gates`), ``"float32"`` keeps all weights as trained, and ``"narrow"``
            makes the smallest file by compressing the vectors as well (:mod:`converters.tflite.compress_vectors`).
            For a float network ``"float32"`` is the default, and ``"int8"`` quantizes weights and activations
            (:func:`converters.tflite.builtin_ops.int8_file`).
        calibration: uint8 [N, S, S, 3], real images for the ranges of int8 activations; None: `images`.
        labelled: Validation images uint8 [N, S, S, 3] and labels [N] on which a rounded file may lose little AUC; None:
            not checked.

    Returns:
        The parsed file, the network's operation counts, and the agreement of the written file with Keras.

    Raises:
        UsageError: For unknown weights, and for ``"narrow"`` with a float network.
        BddError: If a check fails. Nothing is written then.
    """
    if weights not in (*WEIGHTS, None):
        raise one_of("weights", weights, WEIGHTS)
    binary = verify.binary_layers(model) > 0
    if weights == "narrow" and not binary:
        raise UsageError(
            f"--weights narrow is for binary networks, and {about['backbone']} is a float network; "
            "--weights int8 makes its smallest file."
        )
    weights = weights or ("int8" if binary else "float32")
    say(f"converting {about['backbone']}, {about['resolution']} px")
    content = to_flatbuffer(model)
    _checked_operators(model, content)
    say(f"comparing the file with Keras on {len(images)} images")
    agreement = _check_unrounded(model, content, images, about)
    if weights != "float32":
        if not binary:
            content = builtin_ops.int8_file(model, images if calibration is None else calibration)
        else:
            content = compress_vectors(content) if weights == "narrow" else quantize_gates(content)
        agreement = verify.compare(model, content, images, about["threshold"])
        if about["trained"]:
            effect = "the weights of the gates are not rounded" if binary else "nothing is rounded"
            advice = f" With --weights float32 {effect}."
            limits = verify.ROUNDED_MEDIAN_LIMIT, verify.ROUNDED_DECISION_LIMIT
            verify.check_agreement(agreement, *limits, advice)
            loss = verify.check_auc(verify.auc_loss(model, content, labelled), advice)
            agreement = dataclasses.replace(agreement, auc_loss=loss)
    precision = "binary" if binary else "float" if weights == "float32" else "int8"
    content = _with_metadata(content, {**about, "precision": precision})
    parsed = _checked_operators(model, content)
    write_atomically(output, content)
    return parsed, count_operations(model), agreement


def _checked_operators(model: tf.keras.Model, content: bytes) -> TfliteModel:
    """Parse a file and check its operators against the model's (:func:`converters.verify.check_operators`)."""
    parsed = parse_tflite(content)
    verify.check_operators(model, parsed)
    return parsed


def _check_unrounded(
    model: tf.keras.Model, content: bytes, images: np.ndarray, about: dict
) -> verify.Agreement:
    """Check a file with float32 weights against Keras, strictly if the network is trained."""
    limits = verify.MEDIAN_LIMIT, verify.DECISION_LIMIT
    if not about["trained"]:
        # The scores of random weights lie close together, so that one flipped sign moves some of them across the
        # threshold (seen with BNext-M and QuickNet: one of the few images).
        limits = verify.ROUNDED_MEDIAN_LIMIT, verify.ROUNDED_DECISION_LIMIT
    return verify.check_agreement(verify.compare(model, content, images, about["threshold"]), *limits)


def _with_metadata(content: bytes, about: dict) -> bytes:
    return embed_metadata(content, METADATA_NAME, json.dumps(about).encode())


def check_delegate_free(precision: str, backbone: str, binary: bool) -> None:
    """Check that a delegate-free export is possible.

    Raises:
        UsageError: For an unknown precision, or a network that is not binary.
    """
    if precision not in DELEGATE_FREE:
        raise one_of("twin", precision, DELEGATE_FREE)
    if not binary:
        raise UsageError(
            f"--twin is for binary networks (bnext, quicknet), and {backbone} is a float network: its own file needs no "
            "delegate, and --weights int8 quantizes it."
        )


def export_delegate_free(
    model: tf.keras.Model,
    about: dict,
    output: Path,
    images: np.ndarray,
    precision: str,
    binary: bytes,
    calibration: np.ndarray,
) -> Converted:
    """Write a binary network as a file of builtin operators, for runtimes without our delegate.

    Args:
        model: The binary detector.
        about: Metadata for the file, as :func:`metadata` returns it.
        output: Path of the file to write.
        images: uint8 [N, S, S, 3], real images to compare on.
        precision: ``"float"`` computes the same function in float32; ``"int8"`` approximates it with int8 weights and
            activations.
        binary: Content of the binary file.
        calibration: uint8 [N, S, S, 3], real images for the ranges of int8 activations.

    Returns:
        The parsed file, the network's operation counts, and the agreement of the export with the binary file.

    Raises:
        UsageError: For an unknown precision, or a network that is not binary.
        BddError: If a check fails. Nothing is written then.
    """
    check_delegate_free(precision, about["backbone"], verify.binary_layers(model) > 0)
    say(f"exporting {about['backbone']}, {about['resolution']} px, in {precision} without binary operators")
    threshold = about["threshold"]
    if precision == "float":
        content = fold(builtin_ops.float_file(model))
        # The strict limits hold against Keras only: the gates of the binary file may be rounded.
        verify.check_agreement(
            verify.compare(model, content, images, threshold), verify.MEDIAN_LIMIT, verify.DECISION_LIMIT
        )
        limit = verify.ROUNDED_MEDIAN_LIMIT
        advice = " If the binary file is older than the weights, `bdd convert --run NAME` writes it again."
    else:
        content = builtin_ops.int8_file(model, calibration)
        limit, advice = verify.INT8_EXPORT_MEDIAN_LIMIT, " --twin float rounds nothing."
    say(f"comparing the export with the binary file on {len(images)} images")
    scores, expected = (verify.file_scores(file, images) for file in (content, binary))
    agreement = verify.agreement_of(scores, expected, threshold)
    if about["trained"]:
        verify.check_agreement(agreement, limit, verify.ROUNDED_DECISION_LIMIT, advice, "the binary file")
    content = _with_metadata(content, {**about, "precision": precision})
    parsed = parse_tflite(content)
    if parsed.custom_operators:
        raise BddError(
            f"the export still holds custom operators ({', '.join(sorted(set(parsed.custom_operators)))}); "
            "the file was not written."
        )
    write_atomically(output, content)
    return parsed, count_operations(model), agreement


@dataclass(frozen=True)
class RealImages:
    """Images for verification and for the ranges of int8 activations.

    Attributes:
        check: uint8 [N, S, S, 3], to compare on.
        calibration: uint8 [N, S, S, 3], for the ranges.
        statistics: Of the training images, for the out-of-distribution check; None if the data set is unavailable.
        labelled: Validation images and labels for the AUC; None if the data set is unavailable.
    """

    check: np.ndarray
    calibration: np.ndarray
    statistics: dict | None
    labelled: tuple[np.ndarray, np.ndarray] | None


def _real_images(config: Experiment) -> RealImages:
    """Load validation images of the run's data set, or photographs if the data set is unavailable."""
    from bdd_tf.datasets.of_experiment import dataset_of
    from bdd_tf.datasets.training_ranges import trained_on

    count = CHECK_IMAGES + CALIBRATION_IMAGES
    try:
        data = dataset_of(config)
        parts = list(itertools.islice(data.eval_batches("validation", count), -(-LABELLED_IMAGES // count)))
        validation = np.concatenate([part[0].numpy() for part in parts])
        labels = np.concatenate([part[1].numpy()[:, 0] for part in parts]).astype(int)
        images, labelled = validation[:count], (validation, labels)
        statistics = trained_on(data).to_dict()
    except BddError as error:
        say(f"warning: the run's data set is unavailable: {error}")
        say("comparing on photographs; the file will have no out-of-distribution check")
        images, statistics, labelled = photographs(count, config.resolution), None, None
    check, rest = images[:CHECK_IMAGES], images[CHECK_IMAGES:]
    return RealImages(check, rest if len(rest) >= CHECK_IMAGES else images, statistics, labelled)


def _metrics_of(run: Run) -> dict | None:
    """Return the metrics that a run's file carries: of the test split, else of validation; None without either."""
    for split in ("test", "validation"):
        if run.metrics(split).is_file():
            values = json.loads(run.metrics(split).read_text())
            return {"split": split, **{k: values.get(k) for k in ("images", "accuracy", "auc", "eer")}}
    return None


def convert_run(
    name: str,
    runs_dir: Path = Path(RUNS_DIR),
    weights: str | None = None,
    delegate_free: str | None = None,
) -> tuple[Path, TfliteModel, Operations, verify.Agreement]:
    """Convert a trained run, with its thresholds and metrics as metadata and calibrated scores.

    Args:
        name: Name or folder of the run.
        runs_dir: Folder of the runs.
        weights: As for :func:`convert`.
        delegate_free: Precision of a delegate-free export (:func:`export_delegate_free`); None writes
            ``model.tflite``. The binary file that the export is compared with is written first if it is missing.

    Returns:
        Path of the written file, the parsed file, the network's operation counts, and the agreement.

    Raises:
        UsageError: If there is no such run, or an option does not suit it.
        BddError: If a check fails. Nothing is written then.
    """
    run = existing_run(name, runs_dir)
    config = Experiment.load(run.config)
    model, chosen = load_trained(run, config), validated(run)
    fold_temperature(model, chosen.temperature)
    about = metadata(config, chosen, _metrics_of(run), trained=True)
    if delegate_free is not None:
        check_delegate_free(delegate_free, config.backbone, verify.binary_layers(model) > 0)
    real = _real_images(config)
    images, about["trained_on"] = real.check, real.statistics
    if delegate_free is None:
        return run.tflite, *convert(
            model, about, run.tflite, images, weights, real.calibration, real.labelled
        )
    output = run.delegate_free(delegate_free)
    if not run.tflite.is_file():
        convert(model, about, run.tflite, images, labelled=real.labelled)
    binary = run.tflite.read_bytes()
    return output, *export_delegate_free(
        model, about, output, images, delegate_free, binary, real.calibration
    )
