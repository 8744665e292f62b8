"""Robustness: the scores of a split after compression, resizing, blur, noise and other perturbations.

Every image is perturbed at its stored size, before the resize rule (:mod:`bdd_tf.evaluation.perturbations`). Noise is seeded
by the hash of the image's pixels, so that a row is reproducible. The threshold is the one chosen on validation.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from bdd_tf.config import Experiment
from bdd_tf.console import progress_bar, say
from bdd_tf.datasets.pipeline import Item
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.decode import load_image, read_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import BddError, UsageError
from bdd_tf.evaluation.perturbations import FILTER, PERTURBATIONS, Perturbation
from bdd_tf.evaluation.subject import Subject
from bdd_tf.figures import evaluation
from bdd_tf.files import usable_cores
from bdd_tf.legacy_keras import tf
from bdd_tf.metrics import bootstrap, score_files
from bdd_tf.models.detector import fold_temperature
from bdd_tf.runs import Run, Validated, trained_weights, validated
from bdd_tf.training.weights import load_trained

_CORES = usable_cores()
#: Threads of the engine. Reading and perturbing images keeps one more core busy.
THREADS = min(max(_CORES - 1, 1), 2)
#: Pixels per batch: 64 images of 32 px, but at least :data:`_FEWEST` images of any size.
_BATCH_PIXELS, _FEWEST = 64 * 32 * 32, 8
_MEASURES = ("accuracy", "auc", "accuracy_real", "accuracy_fake")


@dataclass(frozen=True)
class Scorer:
    """The network that computes the scores: the run's .tflite file, or Keras.

    Attributes:
        engine: Name of an engine of `bdd_tf.edge.engines`, or ``keras``.
        digest: SHA-256 of the file or weights, hex.
        score: uint8 [N, S, S, 3] -> calibrated scores, float32 [N].
    """

    engine: str
    digest: str
    score: Callable[[np.ndarray], np.ndarray]


def scorer(run: Run, chosen: Validated) -> Scorer:
    """Select the run's ``model.tflite`` if it matches the weights and the validation, else Keras.

    Args:
        run: A run with trained weights or a .tflite file.
        chosen: Values chosen on validation.

    Returns:
        The scorer.

    Raises:
        BddError: If the run has neither, or it cannot be used.
    """
    reason = why_not_file(run, chosen)
    if reason is None:
        detector = Detector(run.tflite, num_threads=THREADS)
        return Scorer(detector.engine_name, _digest(run.tflite), detector.predict_batch)
    say(f"scoring with Keras: {reason} (bdd convert --run {run.name} writes one, which is faster).")
    weights, model = trained_weights(run), load_trained(run)
    fold_temperature(model, chosen.temperature)
    network = tf.function(lambda images: model(images, training=False), autograph=False)
    return Scorer("keras", _digest(weights), lambda images: network(images).numpy()[:, 0])


def why_not_file(run: Run, chosen: Validated) -> str | None:
    """Check whether a run's ``model.tflite`` matches its current weights and validation.

    Args:
        run: A run; without weights, its file is accepted whatever its date.
        chosen: Values chosen on validation.

    Returns:
        The reason why it does not match, as a clause; None if it matches.

    Raises:
        BddError: If the file does not match and there are no weights for Keras, or the file is damaged.
    """
    if not run.tflite.is_file():
        trained_weights(run)
        return "there is no model.tflite"
    try:
        if run.tflite.stat().st_mtime < trained_weights(run).stat().st_mtime:
            return "model.tflite is older than the weights"
        replaceable = True
    except BddError:
        replaceable = False
    about = read_metadata(run.tflite.read_bytes())
    if (about.get("threshold"), about.get("temperature")) == (chosen.threshold, chosen.temperature):
        return None
    reason = "model.tflite carries another threshold or temperature than validation chose since"
    if not replaceable:
        raise BddError(f"{reason}, and {run.name} has no weights to convert again.")
    return reason


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Image:
    file: Path
    seed: int


class _Rows:
    """The rows of a robustness file, written one by one.

    Args:
        path: The file; rows of an earlier call are kept if ``identity`` agrees.
        identity: Images, network, threshold and versions to which the rows apply.
        wanted: The perturbations of this call.
    """

    def __init__(self, path: Path, identity: dict[str, Any], wanted: Sequence[Perturbation]):
        self.path, self.identity, self.wanted = path, identity, wanted
        self.steps = [(p, float(severity)) for p in wanted for severity in p.severities]
        self._done = self._read()
        self.clean = self._done.get((None, None))

    def _read(self) -> dict[tuple[str | None, float | None], dict]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if any(document[key] != value for key, value in self.identity.items()):
                return {}
            rows: dict = {(row["perturbation"], float(row["severity"])): row for row in document["rows"]}
            return {(None, None): document["clean"], **rows}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def missing(self) -> list[tuple[Perturbation, float]]:
        """Perturbations and severities that have not been measured."""
        return [(p, severity) for p, severity in self.steps if (p.name, severity) not in self._done]

    def add(self, row: dict) -> None:
        """Add a row and write the file."""
        self._done[row["perturbation"], row["severity"]] = row
        self.write()

    def write(self) -> dict:
        """Write the file; returns its content."""
        rows = [self._done[p.name, s] for p, s in self.steps if (p.name, s) in self._done]
        units = {p.name: {"unit": p.unit} for p in self.wanted}
        document = {**self.identity, "perturbations": units, "clean": self.clean, "rows": rows}
        score_files.write_json(self.path, document)
        return document


def evaluate_robustness(
    run: Run,
    split: str = "test",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    limit: int | None = None,
    perturbations: Sequence[Perturbation] = tuple(PERTURBATIONS.values()),
) -> dict:
    """Score a split under every perturbation; write ``robustness-SPLIT.json`` and a figure into the run folder.

    Each row is written when it is finished. A later call, e.g. after an interruption or with more perturbations, keeps the
    rows of the same images, network, threshold and versions.

    Args:
        run: A run with trained weights or a .tflite file.
        split: ``train``, ``validation`` or ``test``.
        dataset: Another data set than the run's own; its file is named ``robustness-DATASET-SPLIT.json``.
        data_dir: Folder, archive or CSV of the data set.
        limit: Use only the first images of the split, whose order is that of a hash; None: all.
        perturbations: The perturbations.

    Returns:
        The content of the file: the images (``dataset``, ``split``, ``images``, ``limit``, ``data_fingerprint``), the
        scorer (``engine``, ``model_sha256``, ``threshold``, ``temperature``, ``pillow``, ``filter``), ``perturbations``
        (``unit`` by name), ``clean`` and ``rows``. Each row holds ``perturbation``, ``severity``, ``images``,
        ``accuracy``, ``auc``, ``accuracy_real``, ``accuracy_fake`` (in [0, 1]; None if the class is missing),
        ``mean_score_shift`` (mean of score - clean score, in [-1, 1]) and ``flipped`` (fraction of images whose verdict
        differs from the clean one); ``clean`` has the same keys without the last two.

    Raises:
        UsageError: As for :func:`bdd_tf.evaluation.evaluate.evaluate_run`, or for a limit below 1.
        BddError: If the network or an image cannot be used.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; it must be at least 1.")
    chosen = validated(run)
    subject = Subject.of(run, split, dataset, data_dir)
    items = subject.data.items(split)[:limit]
    by = scorer(run, chosen)
    identity = {
        "dataset": subject.data.name,
        "split": split,
        "images": len(items),
        "limit": limit,
        "data_fingerprint": subject.data.fingerprint,
        "engine": by.engine,
        "model_sha256": by.digest,
        "threshold": chosen.threshold,
        "temperature": chosen.temperature,
        "pillow": PIL.__version__,
        "filter": FILTER.name.lower(),
    }
    rows = _Rows(run.robustness(subject.key), identity, perturbations)
    if rows.missing() or rows.clean is None:
        _measure_missing(rows, subject, items, by)
    document = rows.write()
    title = f"{subject.title}, {split} split"
    evaluation.robustness(run.figures / f"robustness-{subject.key}.png", document, title=title)
    return document


def _measure_missing(rows: _Rows, subject: Subject, items: Sequence[Item], by: Scorer) -> None:
    missing, threshold, config = rows.missing(), rows.identity["threshold"], subject.config
    if rows.clean and missing:
        say(f"{len(rows.steps) - len(missing)} of {len(rows.steps)} rows are in {rows.path} already.")
    labels = np.array([item.label for item in items])
    images = [_Image(subject.data.file(i.path), int(i.pixel_hash, 16)) for i in items]
    with progress_bar(len(items) * (1 + len(missing)), "img", "scoring") as bar:
        bar.set_description("clean")
        clean = _scores(by, images, config, None, 0, bar.update)
        rows.clean = _measured(labels, clean, threshold)
        for perturbation, severity in missing:
            bar.set_description(f"{perturbation.name} {severity:g}")
            scores = _scores(by, images, config, perturbation, severity, bar.update)
            rows.add(
                {
                    "perturbation": perturbation.name,
                    "severity": severity,
                    **_measured(labels, scores, threshold),
                    "mean_score_shift": float(np.mean(scores.astype(np.float64) - clean)),
                    "flipped": float(np.mean((scores >= threshold) != (clean >= threshold))),
                }
            )


def _measured(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict:
    found = bootstrap.evaluate(labels, scores, threshold, bootstrap=0)
    return {"images": len(labels), **{key: found[key] for key in _MEASURES}}


def _scores(
    by: Scorer,
    images: Sequence[_Image],
    config: Experiment,
    perturbation: Perturbation | None,
    severity: float,
    step: Callable[[int], object],
) -> np.ndarray:
    """Score all images, float32 [N]. The next batch is read and perturbed while the network runs."""
    rule = config.rule

    def prepare(image: _Image) -> np.ndarray:
        try:
            if perturbation is None:
                return load_image(image.file, rule)
            return rule.apply(perturbation.apply(read_image(image.file), severity, image.seed))
        except ImageError as error:
            raise BddError(
                f"{image.file}: {error}; the data set has changed since it was prepared."
            ) from error

    def stacked(part: tuple[_Image, ...]) -> np.ndarray:
        return np.stack([prepare(image) for image in part])

    scores: list[np.ndarray] = []
    batch = max(_FEWEST, _BATCH_PIXELS // rule.size**2)
    with ThreadPoolExecutor(1) as reader:
        ahead = None
        for part in [*_parts(images, batch), None]:
            current, ahead = ahead, reader.submit(stacked, part) if part else None
            if current is not None:
                scores.append(by.score(current.result()))
                step(len(scores[-1]))
    return np.concatenate(scores)


def _parts(images: Sequence[_Image], size: int) -> Iterator[tuple[_Image, ...]]:
    several = iter(images)
    while part := tuple(itertools.islice(several, size)):
        yield part


def table(document: dict) -> str:
    """Format the output of `bdd evaluate --robustness`."""

    def cells(name: str, row: dict) -> str:
        shown = "".join(f"{'-' if row[key] is None else format(row[key], '.4f'):>10}" for key in _MEASURES)
        if "flipped" not in row:
            return f"{name:18}{shown}"
        return f"{name:18}{shown}{row['mean_score_shift']:>+10.4f}{row['flipped']:>10.4f}"

    head = "".join(f"{name:>10}" for name in ("accuracy", "AUC", "on REAL", "on FAKE", "shift", "flipped"))
    rows = [cells(f"{row['perturbation']} {row['severity']:g}", row) for row in document["rows"]]
    return "\n".join(
        [
            f"{document['images']} images of {document['dataset']}, {document['split']}; {document['engine']}, "
            f"threshold {document['threshold']:.4f}",
            f"{'':18}{head}",
            cells("clean", document["clean"]),
            *rows,
        ]
    )
