"""`bdd evaluate`: a trained run on a split of its data set, or of another one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdd_tf import calibration, figures, metrics
from bdd_tf.config import Experiment
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.datasets.sources import NEEDED
from bdd_tf.edge.images import read_image
from bdd_tf.errors import UsageError, one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.detector import logits
from bdd_tf.models.operations import count_operations
from bdd_tf.runs import RUNS_DIR, Run, Validated, existing_run, validated
from bdd_tf.training import load_trained

#: Shares of REAL called FAKE for which a threshold is always chosen.
FALSE_ALARMS = (0.001, 0.01, 0.05)


def predict(
    model: tf.keras.Model, data: DataSet, split: str, batch: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a split; :func:`bdd_tf.calibration.calibrated` makes scores of them.

    Args:
        model: A detector with the weights as trained.
        data: A data set at the detector's resolution.
        split: ``train``, ``validation`` or ``test``.
        batch: Images at a time.

    Returns:
        Logits [n] float32 and labels [n] int, in the order of ``data.items(split)``.
    """
    network = logits(model)
    run = tf.function(lambda images: network(images, training=False))
    found, labels = [], []
    for images, truth in data.eval_batches(split, batch):
        found.append(run(images).numpy()[:, 0])
        labels.append(truth.numpy()[:, 0])
    return np.concatenate(found), np.concatenate(labels).astype(int)


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a run on a split of a data set.

    Attributes:
        run: Its folder.
        config: Its experiment.
        data: The data set.
        split: Of the data set.
        own: Whether it is the data set that the run was trained on.
    """

    run: Run
    config: Experiment
    data: DataSet
    split: str
    own: bool

    @classmethod
    def of(cls, run: Run, split: str, dataset: str | None = None, data_dir: str | None = None) -> Subject:
        """Load the data; parameters and errors as for :func:`evaluate_run`."""
        if split not in SPLITS:
            raise one_of("split", split, SPLITS)
        config = Experiment.load(run.config)
        own = _is_own(config, dataset)
        if not own and data_dir is None and dataset not in ("cifake", "sample"):
            raise UsageError(f"--dataset {dataset} needs --data-dir.")
        data = load_dataset(
            config.dataset if own else dataset,
            rule=config.rule,
            data_dir=data_dir or (config.data_dir if own else None),
            validation_fraction=config.validation_fraction,
            train_fraction=config.train_fraction,
            # A data set that is only looked at need not hold what training would ask for.
            need=NEEDED if own else (split,),
        )
        return cls(run, config, data, split, own)

    @property
    def key(self) -> str:
        """What names its files in the run folder."""
        return self.split if self.own else f"{self.data.name}-{self.split}"

    @property
    def title(self) -> str:
        """What stands above its figures."""
        return f"{self.run.name} on {self.data.name}"


def _is_own(config: Experiment, dataset: str | None) -> bool:
    return dataset in (None, config.dataset)


def choose(labels: np.ndarray, found: np.ndarray, rates: Sequence[float]) -> tuple[Validated, list[str]]:
    """Choose temperature and thresholds on validation.

    Args:
        labels: 0 or 1, [N].
        found: Logits, [N].
        rates: Of false alarms, each in (0, 1).

    Returns:
        The choice, and sentences on what could not be chosen.

    Raises:
        UsageError: For an impossible rate; BddError for empty or impossible input.
    """
    temperature = calibration.fit_temperature(labels, found)
    scores = calibration.calibrated(found, temperature.value)
    thresholds = {f"{r:g}": metrics.false_alarm_threshold(labels, scores, r) for r in sorted({*rates})}
    notes = [temperature.note] if temperature.note else []
    missing = [rate for rate, threshold in thresholds.items() if threshold is None]
    if missing:
        notes.append(
            f"no threshold for a false alarm rate of {', '.join(missing)}: {int(np.sum(labels == 0))} REAL validation "
            "images do not tell."
        )
    return Validated(metrics.best_threshold(labels, scores), temperature.value, thresholds), notes


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

    On the run's own validation split temperature and thresholds are chosen; any other split is judged by what was
    chosen there (:func:`bdd_tf.runs.validated`).

    Args:
        run: A run with trained weights.
        split: ``train``, ``validation`` or ``test``.
        dataset: Another data set than the run's own; its files are named ``DATASET-SPLIT``.
        data_dir: Where that data set, or the run's own, lies now.
        bootstrap: Resamples for the 95 % intervals.
        false_alarms: Rates, each in (0, 1), for which a threshold is wanted beside those of :data:`FALSE_ALARMS`.

    Returns:
        The content of the metrics file: :func:`bdd_tf.metrics.metrics_document`,
        :func:`bdd_tf.calibration.calibration_document` and ``thresholds``, see
        :func:`bdd_tf.metrics.at_thresholds`.

    Raises:
        UsageError: For an unknown split or one without images, or a rate for which validation has no threshold;
            BddError for a run without weights.
    """
    for rate in false_alarms:
        if not 0 < rate < 1:
            raise UsageError(f"--false-alarms is {rate:g}; it must lie between 0 and 1, e.g. 0.01.")
    # Before the data are loaded, which may take a while.
    if not (_is_own(Experiment.load(run.config), dataset) and split == "validation"):
        _check_chosen(run, false_alarms)
    subject = Subject.of(run, split, dataset, data_dir)
    data, items = subject.data, subject.data.items(split)
    model = load_trained(run, subject.config)
    found, labels = predict(model, data, split)
    if subject.own and split == "validation":
        chosen, notes = choose(labels, found, (*FALSE_ALARMS, *false_alarms))
    else:
        chosen, notes = validated(run), []
    scores = calibration.calibrated(found, chosen.temperature)
    leaks = data.leaked(split, tuple(s for s in SPLITS if s != split)) if subject.own else set()
    document = metrics.metrics_document(
        labels,
        scores,
        chosen.threshold,
        leaked=np.array([i.pixel_hash in leaks for i in items]) if leaks else None,
        sources=[i.source for i in items] if any(i.source for i in items) else None,
        about={
            "dataset": data.name,
            "split": split,
            "data_fingerprint": data.fingerprint,
            "unreadable_images": len(data.skipped),
            **count_operations(model).to_dict(),
        },
        bootstrap=bootstrap,
    )
    document |= calibration.calibration_document(labels, found, chosen.temperature)
    document["thresholds"] = metrics.at_thresholds(labels, scores, chosen.thresholds)
    if notes:
        document["notes"] = [*document.get("notes", []), *notes]
    key = subject.key
    paths = [i.path for i in items]
    metrics.write_scores_csv(run.scores(key), paths, labels, scores)
    metrics.write_json(run.metrics(key), document)
    figures.evaluation_figures(
        run.figures,
        key,
        paths,
        labels,
        scores,
        document,
        logits=found,
        load=lambda path: read_image(data.file(path)),
        title=subject.title,
    )
    return document


def _check_chosen(run: Run, false_alarms: Sequence[float]) -> None:
    known = [rate for rate, threshold in validated(run).thresholds.items() if threshold is not None]
    for rate in false_alarms:
        if f"{rate:g}" not in known:
            raise UsageError(
                f"no threshold for a false alarm rate of {rate:g} was chosen on validation "
                f"({'there: ' + ', '.join(known) if known else 'there is none'}); "
                f"bdd evaluate --run {run.name} --split validation --false-alarms {rate:g} chooses it."
            )


def summary(document: dict) -> str:
    """The figures of a metrics document that one looks at first, one per line."""

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
    rows.append(f"{'threshold (from validation)':34} {document['threshold']:.4f}")
    for rate, there in document["thresholds"].items():
        if there["threshold"] is not None:
            parts = [f"{'at most ' + rate + ' false alarms':34} from {there['threshold']:.4f} on"]
            parts += [
                f"{word} {there[name]:.4f}"
                for word, name in (("of REAL", "false_alarms"), ("of FAKE", "detected"))
                if there[name] is not None
            ]
            rows.append(", ".join(parts))
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd evaluate`."""
    parser.add_argument("--run", required=True, help="name or folder of a run")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--dataset", help="another data set, to see how the run generalises")
    parser.add_argument("--data-dir", help="where the data set lies")
    parser.add_argument(
        "--false-alarms",
        type=float,
        nargs="+",
        default=[],
        metavar="R",
        help="also for these rates of REAL called FAKE; --split validation chooses their thresholds (always: "
        f"{', '.join(map(str, FALSE_ALARMS))})",
    )
    parser.add_argument(
        "--robustness", action="store_true", help="how scores bear JPEG, blur, noise, resizing and cropping"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="with --robustness: the first N images only")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--json", action="store_true", help="print the metrics file instead of a summary")


def main(args: argparse.Namespace) -> int:
    """Run `bdd evaluate`; returns the exit code."""
    run = existing_run(args.run, args.runs_dir)
    if args.robustness:
        from bdd_tf import robustness

        if args.false_alarms:
            raise UsageError(
                "--false-alarms does not go with --robustness, which uses the validated threshold."
            )
        document = robustness.evaluate_robustness(
            run, args.split, dataset=args.dataset, data_dir=args.data_dir, limit=args.limit
        )
        text = robustness.table(document)
    elif args.limit is not None:
        raise UsageError("--limit belongs to --robustness.")
    else:
        document = evaluate_run(
            run, args.split, dataset=args.dataset, data_dir=args.data_dir, false_alarms=args.false_alarms
        )
        text = summary(document)
    print(json.dumps(document, indent=2) if args.json else text)
    print(f"figures in {run.figures}", file=sys.stderr)
    return 0
