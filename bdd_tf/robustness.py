"""`bdd evaluate --robustness`: the scores of a split again, after what pictures go through on their way.

Every image is perturbed as it is stored, at its own size, before the resize rule (:mod:`bdd_tf.perturbations`); noise is
seeded by the hash of its pixels, so that a row means the same today and tomorrow. The threshold is validation's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from bdd_tf import figures, metrics
from bdd_tf.config import Experiment
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images import ImageError, load_image, read_image
from bdd_tf.edge.tflite_file import read_metadata
from bdd_tf.errors import BddError, UsageError
from bdd_tf.evaluation import Subject
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import fold_temperature
from bdd_tf.perturbations import FILTER, PERTURBATIONS, Perturbation
from bdd_tf.runs import Run, Validated, trained_weights, validated
from bdd_tf.training import load_trained, say

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
#: Threads of the engine: reading and perturbing keep one core busy beside them.
THREADS = min(max(_CORES - 1, 1), 2)
#: Pixels that go through the network together: 64 images of 32 px, and at least :data:`_FEWEST` of any size.
_BATCH_PIXELS, _FEWEST = 64 * 32 * 32, 8
_MEASURES = ("accuracy", "auc", "accuracy_real", "accuracy_fake")


@dataclass(frozen=True)
class Scorer:
    """What gives the scores: the run's .tflite file, or Keras.

    Attributes:
        engine: ``litert`` or ``keras``.
        digest: SHA-256 of the file or weights, hex.
        score: uint8 [N, S, S, 3] -> calibrated scores, float32 [N].
    """

    engine: str
    digest: str
    score: Callable[[np.ndarray], np.ndarray]


def scorer(run: Run, chosen: Validated) -> Scorer:
    """The run's ``model.tflite`` if it is of these weights and this validation, else Keras.

    Args:
        run: A run with one of them.
        chosen: What validation chose.

    Returns:
        What scores.

    Raises:
        BddError: If there is neither, or what there is cannot be used.
    """
    reason = why_not_file(run, chosen)
    if reason is None:
        detector = Detector(run.tflite, num_threads=THREADS)
        return Scorer(detector.engine_name, _digest(run.tflite), detector.predict_batch)
    say(f"scoring with Keras: {reason} (bdd convert --run {run.name} makes one, which is faster).")
    weights, model = trained_weights(run), load_trained(run)
    fold_temperature(model, chosen.temperature)
    network = tf.function(lambda images: model(images, training=False))
    return Scorer("keras", _digest(weights), lambda images: network(images).numpy()[:, 0])


def why_not_file(run: Run, chosen: Validated) -> str | None:
    """Why a run's ``model.tflite`` does not stand for the run as it is now; None if it does.

    Args:
        run: A run; one without weights is its file.
        chosen: What validation chose.

    Returns:
        A clause, or None.

    Raises:
        BddError: If Keras cannot take the file's place, or the file is damaged.
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

    Rows are written as they are finished. A call that was stopped, or asks for more rows, keeps those of the same
    images, network, threshold and versions.

    Args:
        run: A run with trained weights or a .tflite file.
        split: ``train``, ``validation`` or ``test``.
        dataset: Another data set than the run's own; its file is named ``robustness-DATASET-SPLIT.json``.
        data_dir: Where that data set, or the run's own, lies now.
        limit: Only so many images, the first of the split, whose order is that of a hash; None: all.
        perturbations: Which.

    Returns:
        The content of the file: what was scored (``dataset``, ``split``, ``images``, ``limit``, ``data_fingerprint``),
        by what (``engine``, ``model_sha256``, ``threshold``, ``temperature``, ``pillow``, ``filter``),
        ``perturbations`` (``unit`` by name), ``clean`` and ``rows``. Each row holds ``perturbation``, ``severity``,
        ``images``, ``accuracy``, ``auc``, ``accuracy_real``, ``accuracy_fake`` (in [0, 1]; None where the class is
        missing), ``mean_score_shift`` (mean of score - clean score, in [-1, 1]) and ``flipped`` (share of images whose
        verdict is another than clean); ``clean`` the same without the last two.

    Raises:
        UsageError: As for :func:`bdd_tf.evaluation.evaluate_run`, or for a limit below 1.
        BddError: If the network or an image cannot be used.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; it must be at least 1.")
    chosen = validated(run)
    subject = Subject.of(run, split, dataset, data_dir)
    items = subject.data.items(split)[:limit]
    labels = np.array([item.label for item in items])
    images = [_Image(subject.data.file(i.path), int(i.pixel_hash, 16)) for i in items]
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
    path = run.robustness(subject.key)
    done = _finished(path, identity)
    wanted = [(p, severity) for p in perturbations for severity in p.severities]
    open_rows = [(p, s) for p, s in wanted if (p.name, float(s)) not in done]
    clean_row = done.get((None, None))
    if done and open_rows:
        say(f"{len(wanted) - len(open_rows)} of {len(wanted)} rows are in {path} already.")

    def write() -> dict:
        rows = [done[p.name, float(s)] for p, s in wanted if (p.name, float(s)) in done]
        units = {p.name: {"unit": p.unit} for p in perturbations}
        document = {**identity, "perturbations": units, "clean": clean_row, "rows": rows}
        metrics.write_json(path, document)
        return document

    if open_rows or clean_row is None:
        with _bar(len(items) * (1 + len(open_rows))) as bar:
            bar.set_description("clean")
            clean = _scores(by, images, subject.config, None, 0, bar.update)
            clean_row = _measured(labels, clean, chosen.threshold)
            for perturbation, severity in open_rows:
                bar.set_description(f"{perturbation.name} {severity:g}")
                scores = _scores(by, images, subject.config, perturbation, severity, bar.update)
                done[perturbation.name, float(severity)] = {
                    "perturbation": perturbation.name,
                    "severity": float(severity),
                    **_measured(labels, scores, chosen.threshold),
                    "mean_score_shift": float(np.mean(scores.astype(np.float64) - clean)),
                    "flipped": float(np.mean((scores >= chosen.threshold) != (clean >= chosen.threshold))),
                }
                write()
    document = write()
    title = f"{subject.title}, {split} split"
    figures.robustness(run.figures / f"robustness-{subject.key}.png", document, title=title)
    return document


def _bar(total: int):  # noqa: ANN202 (a progress bar)
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    interval = 0.5 if terminal else 30
    return tqdm(total=total, unit="img", mininterval=interval, maxinterval=interval, dynamic_ncols=terminal)


def _measured(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict:
    found = metrics.evaluate(labels, scores, threshold, bootstrap=0)
    return {"images": len(labels), **{key: found[key] for key in _MEASURES}}


def _finished(path: Path, identity: dict) -> dict[tuple, dict]:
    """Rows of an earlier call by perturbation and severity, the clean one under (None, None); or nothing."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if any(document[key] != value for key, value in identity.items()):
            return {}
        rows = {(row["perturbation"], float(row["severity"])): row for row in document["rows"]}
        return {(None, None): document["clean"], **rows}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _scores(
    by: Scorer,
    images: Sequence[_Image],
    config: Experiment,
    perturbation: Perturbation | None,
    severity: float,
    step: Callable[[int], object],
) -> np.ndarray:
    """Scores of all images, float32 [N]; the next batch is read and perturbed while the network runs."""
    rule = config.rule

    def prepare(image: _Image) -> np.ndarray:
        try:
            if perturbation is None:
                return load_image(image.file, rule)
            return rule.apply(perturbation.apply(read_image(image.file), severity, image.seed))
        except ImageError as error:
            raise BddError(f"{image.file}: {error}; the data set has changed meanwhile.") from error

    def stacked(part: tuple[_Image, ...]) -> np.ndarray:
        return np.stack([prepare(image) for image in part])

    scores = []
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
    """What `bdd evaluate --robustness` prints."""

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
