"""Evaluate a trained run on a split of its own data set or of another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bdd_tf.config import Experiment
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.of_experiment import AnyDataSet
from bdd_tf.edge.images.decode import read_image
from bdd_tf.errors import UsageError
from bdd_tf.evaluation.subject import Subject, is_own
from bdd_tf.figures import evaluation
from bdd_tf.figures.gallery import Scored
from bdd_tf.legacy_keras import tf
from bdd_tf.metrics import calibration, classification, score_files
from bdd_tf.metrics.bootstrap import metrics_document
from bdd_tf.models.detector import logits
from bdd_tf.models.operation_counts import Operations, count_operations
from bdd_tf.runs import FALSE_ALARMS, Run, Validated, unchosen_notes, validated
from bdd_tf.training.weights import load_trained


def predict(
    model: tf.keras.Model, data: AnyDataSet, split: str, batch: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the logits of a split; :func:`bdd_tf.metrics.calibration.calibrated` converts them to scores.

    Args:
        model: A detector with uncalibrated weights.
        data: A data set at the detector's resolution.
        split: ``train``, ``validation`` or ``test``.
        batch: Images per batch.

    Returns:
        Logits [n] float32 and labels [n] int, in the order of ``data.items(split)``.
    """
    network = logits(model)
    run = tf.function(lambda images: network(images, training=False), autograph=False)
    found, labels = [], []
    for images, truth in data.eval_batches(split, batch):
        found.append(run(images).numpy()[:, 0])
        labels.append(truth.numpy()[:, 0])
    return np.concatenate(found), np.concatenate(labels).astype(int)


def choose(labels: np.ndarray, found: np.ndarray, rates: Sequence[float]) -> tuple[Validated, list[str]]:
    """Choose temperature and thresholds on validation.

    Args:
        labels: 0 or 1, [N].
        found: Logits, [N].
        rates: False positive rates, each in (0, 1).

    Returns:
        The chosen values, and notes on those that could not be determined.

    Raises:
        UsageError: For a rate outside (0, 1).
        BddError: For empty or invalid input.
    """
    temperature = calibration.fit_temperature(labels, found)
    scores = calibration.calibrated(found, temperature.value)
    thresholds = {f"{r:g}": classification.false_alarm_threshold(labels, scores, r) for r in sorted({*rates})}
    notes = [temperature.note] if temperature.note else []
    missing = [rate for rate, threshold in thresholds.items() if threshold is None]
    if missing:
        notes.append(
            f"no threshold for a false positive rate of {', '.join(missing)}: {int(np.sum(labels == 0))} REAL validation "
            "images cannot determine it."
        )
    return Validated(classification.best_threshold(labels, scores), temperature.value, thresholds), notes


def evaluate_run(
    run: Run,
    split: str = "test",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    bootstrap: int = 1000,
    false_alarms: Sequence[float] = (),
) -> dict:
    """Score a split; write scores, metrics and figures into the run folder.

    Temperature and thresholds are chosen on the run's own validation split and used for all other splits
    (:func:`bdd_tf.runs.validated`).

    Args:
        run: A run with trained weights.
        split: ``train``, ``validation`` or ``test``.
        dataset: Another data set than the run's own; its files are named ``DATASET-SPLIT``.
        data_dir: Folder, archive or CSV of the data set.
        bootstrap: Resamples for the 95 % intervals.
        false_alarms: False positive rates in (0, 1) for which thresholds are chosen, in addition to :data:`FALSE_ALARMS`.

    Returns:
        The content of the metrics file: :func:`bdd_tf.metrics.bootstrap.metrics_document`,
        :func:`bdd_tf.metrics.calibration.calibration_document` and ``thresholds``, see
        :func:`bdd_tf.metrics.classification.at_thresholds`; ``unsure`` where a band was chosen.

    Raises:
        UsageError: For an unknown or empty split, or a rate for which no threshold was chosen on validation.
        BddError: For a run without weights.
    """
    for rate in false_alarms:
        if not 0 < rate < 1:
            raise UsageError(f"--false-alarms is {rate:g}; it must be between 0 and 1, e.g. 0.01.")
    # Before the data are loaded, which may take a while.
    if not (is_own(Experiment.load(run.config), dataset) and split == "validation"):
        _check_chosen(run, false_alarms)
    subject = Subject.of(run, split, dataset, data_dir)
    model = load_trained(run, subject.config)
    found, labels = predict(model, subject.data, split)
    if subject.own and split == "validation":
        chosen, notes = choose(labels, found, (*FALSE_ALARMS, *false_alarms))
    else:
        chosen, notes = validated(run), unchosen_notes(run)
    scores = calibration.calibrated(found, chosen.temperature)
    document = _document(subject, labels, scores, chosen.threshold, bootstrap, count_operations(model))
    document |= calibration.calibration_document(labels, found, chosen.temperature)
    document["thresholds"] = classification.at_thresholds(labels, scores, chosen.thresholds)
    if chosen.unsure is not None:
        document["unsure"] = classification.decided(labels, scores, chosen.unsure)
    if notes:
        document["notes"] = [*document.get("notes", []), *notes]
    _write(subject, Scored([i.path for i in subject.data.items(split)], labels, scores), found, document)
    return document


def _document(
    subject: Subject,
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    bootstrap: int,
    operations: Operations,
) -> dict:
    """The measures, with leaked images and sources."""
    data, split = subject.data, subject.split
    items = data.items(split)
    leaks = data.leaked(split, tuple(s for s in SPLITS if s != split)) if subject.own else set()
    return metrics_document(
        labels,
        scores,
        threshold,
        leaked=np.array([i.pixel_hash in leaks for i in items]) if leaks else None,
        sources=[i.source for i in items] if any(i.source for i in items) else None,
        about={
            "dataset": data.name,
            "split": split,
            "data_fingerprint": data.fingerprint,
            "unreadable_images": len(data.skipped),
            **operations.to_dict(),
        },
        bootstrap=bootstrap,
    )


def _write(subject: Subject, images: Scored, found: np.ndarray, document: dict) -> None:
    """Write scores, metrics and figures into the run folder."""
    run, key = subject.run, subject.key
    score_files.write_scores_csv(run.scores(key), images.paths, images.labels, images.scores)
    score_files.write_json(run.metrics(key), document)
    evaluation.evaluation_figures(
        run.figures,
        key,
        images,
        document,
        logits=found,
        load=lambda path: read_image(subject.data.file(str(path))),
        title=subject.title,
    )


def _check_chosen(run: Run, false_alarms: Sequence[float]) -> None:
    known = [rate for rate, threshold in validated(run).thresholds.items() if threshold is not None]
    for rate in false_alarms:
        if f"{rate:g}" not in known:
            raise UsageError(
                f"no threshold for a false positive rate of {rate:g} was chosen on validation "
                f"({'there: ' + ', '.join(known) if known else 'no threshold was chosen'}); "
                f"bdd evaluate --run {run.name} --split validation --false-alarms {rate:g} chooses it."
            )


def summary(document: dict) -> str:
    """Format the main figures of a metrics document, one per line."""

    def line(name: str, key: str, values: dict) -> str:
        value, interval = values.get(key), (values.get("intervals") or {}).get(key)
        if value is None:
            return f"{name:34} not defined"
        spread = f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
        return f"{name:34} {value:.4f}{spread}"

    rows = [f"{'images':34} {document['images']}"]
    rows += [
        line(name, key, document)
        for name, key in (
            ("accuracy", "accuracy"),
            ("AUC", "auc"),
            ("average precision", "average_precision"),
            ("equal error rate", "eer"),
            ("accuracy on REAL", "accuracy_real"),
            ("accuracy on FAKE", "accuracy_fake"),
        )
    ]
    rows.append(f"{'threshold':34} {document['threshold']:.4f}")
    for rate, there in document["thresholds"].items():
        if there["threshold"] is not None:
            parts = [f"{'at most ' + rate + ' false alarms':34} from {there['threshold']:.4f} on"]
            parts += [
                f"{word} {there[name]:.4f}"
                for word, name in (("of REAL", "false_alarms"), ("of FAKE", "detected"))
                if there[name] is not None
            ]
            rows.append(", ".join(parts))
    if (unsure := document.get("unsure")) is not None:
        low, high = unsure["band"]
        rows.append(
            f"{'unsure':34} from {low:.4f} to {high:.4f}: {100 * unsure['coverage']:.1f} % decided"
            + (
                f", {100 * unsure['accuracy']:.1f} % of them rightly"
                if unsure["accuracy"] is not None
                else ""
            )
        )
    rows.append(
        f"{'expected calibration error':34} {document['ece']:.4f} as trained, {document['ece_calibrated']:.4f} "
        f"with temperature {document['temperature']:.3f}"
    )
    if document.get("deduplicated"):
        rows.append(f"{'images found in other splits too':34} {document.get('leaked')}")
        rows.append(line("accuracy without those", "accuracy", document["deduplicated"]))
        rows.append(line("AUC without those", "auc", document["deduplicated"]))
    for source, values in (document.get("sources") or {}).items():
        rows.append(f"{'  source ' + source:34} {values['accuracy']:.4f}  ({values['images']} images)")
    rows += [f"note: {note}" for note in document.get("notes") or []]
    return "\n".join(rows)
