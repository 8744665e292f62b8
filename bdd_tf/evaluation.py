"""`bdd evaluate`: a trained run on a split of its data set, or of another one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bdd_tf import figures, metrics
from bdd_tf.config import Experiment
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.datasets.sources import NEEDED
from bdd_tf.edge.images import read_image
from bdd_tf.errors import UsageError, one_of
from bdd_tf.legacy_keras import tf
from bdd_tf.models.operations import count_operations
from bdd_tf.runs import RUNS_DIR, Run, existing_run
from bdd_tf.training import load_trained


def predict(
    model: tf.keras.Model, data: DataSet, split: str, batch: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Fake probabilities of a split.

    Args:
        model: A detector.
        data: A data set at the detector's resolution.
        split: ``train``, ``validation`` or ``test``.
        batch: Images at a time.

    Returns:
        Probabilities [n] float32 and labels [n] int, in the order of ``data.items(split)``.
    """
    run = tf.function(lambda images: model(images, training=False))
    scores, labels = [], []
    for images, truth in data.eval_batches(split, batch):
        scores.append(run(images).numpy()[:, 0])
        labels.append(truth.numpy()[:, 0])
    return np.concatenate(scores), np.concatenate(labels).astype(int)


def validated_threshold(run: Run) -> float:
    """The threshold chosen on the run's validation split; 0.5 until there is one."""
    try:
        return float(json.loads(run.metrics("validation").read_text())["threshold"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.5


def evaluate_run(
    run: Run,
    split: str = "test",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    bootstrap: int = 1000,
) -> dict:
    """Score a split; write scores, metrics and figures into the run folder.

    Args:
        run: A run with trained weights.
        split: ``train``, ``validation`` or ``test``.
        dataset: Another data set than the run's own; its files are named ``DATASET-SPLIT``.
        data_dir: Where that data set, or the run's own, lies now.
        bootstrap: Resamples for the 95 % intervals.

    Returns:
        The content of the metrics file.

    Raises:
        UsageError: For an unknown split or one without images; BddError for a run without weights.
    """
    if split not in SPLITS:
        raise one_of("split", split, SPLITS)
    config = Experiment.load(run.config)
    own = dataset in (None, config.dataset)
    if not own and data_dir is None and dataset not in ("cifake", "sample"):
        raise UsageError(f"--dataset {dataset} needs --data-dir.")
    model = load_trained(run, config)
    data = load_dataset(
        config.dataset if own else dataset,
        rule=config.rule,
        data_dir=data_dir or (config.data_dir if own else None),
        validation_fraction=config.validation_fraction,
        # A data set that is only looked at need not hold what training would ask for.
        need=NEEDED if own else (split,),
    )
    items = data.items(split)
    scores, labels = predict(model, data, split)
    choose = own and split == "validation"
    threshold = metrics.best_threshold(labels, scores) if choose else validated_threshold(run)
    leaks = data.leaked(split, tuple(s for s in SPLITS if s != split)) if own else set()
    document = metrics.metrics_document(
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
            **count_operations(model).to_dict(),
        },
        bootstrap=bootstrap,
    )
    key = split if own else f"{data.name}-{split}"
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
        load=lambda path: read_image(data.file(path)),
        title=f"{run.name} on {data.name}",
    )
    return document


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
    if document.get("deduplicated"):
        rows.append(f"{'images found in other splits too':34} {document.get('leaked')}")
        rows.append(line("accuracy without those", "accuracy", document["deduplicated"]))
        rows.append(line("AUC without those", "auc", document["deduplicated"]))
    for source, values in (document.get("sources") or {}).items():
        rows.append(f"{'  source ' + source:34} {values['accuracy']:.4f}  ({values['images']} images)")
    return "\n".join(rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bdd evaluate`."""
    parser.add_argument("--run", required=True, help="name or folder of a run")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--dataset", help="another data set, to see how the run generalises")
    parser.add_argument("--data-dir", help="where the data set lies")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--json", action="store_true", help="print the metrics file instead of a summary")


def main(args: argparse.Namespace) -> int:
    """Run `bdd evaluate`; returns the exit code."""
    run = existing_run(args.run, args.runs_dir)
    document = evaluate_run(run, args.split, dataset=args.dataset, data_dir=args.data_dir)
    print(json.dumps(document, indent=2) if args.json else summary(document))
    print(f"figures in {run.figures}", file=sys.stderr)
    return 0
