"""Release a run's model: evaluate its file, write its card, and make it the model inside the package.

`bdd convert --run NAME --ship` converts and releases a run. For a run that was converted before, use
``python -m converters.release RUN [--data-dir D]``. After a change of the card's template or of a note, use
``python -m converters.release --card``. Files that a release writes:

- ``bdd_tf/edge/models/NAME.tflite``: the model, the only one of its data set, and its card ``NAME.md``;
- ``bdd_tf/edge/models/digests.json``: size and SHA-256 of every bundled model, for `bdd models verify`;
- ``results/NAME/``: the data of the card: settings, history, metrics, and `FILE_METRICS`, which is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from bdd_tf.config import PHOTOS, Experiment
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.of_experiment import AnyDataSet, dataset_of
from bdd_tf.datasets.training_ranges import trained_on
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.images.decode import open_image
from bdd_tf.edge.images.views import size_of
from bdd_tf.edge.model_digests import record_digests
from bdd_tf.edge.shipped_model import FOLDER, shipped_models
from bdd_tf.edge.tflite.metadata import METADATA_NAME, embed_metadata, read_metadata
from bdd_tf.edge.view_scores import score_views
from bdd_tf.errors import BddError, UsageError
from bdd_tf.files import write_atomically
from bdd_tf.metrics import bootstrap, score_files
from bdd_tf.reports.parsing import read_yaml
from bdd_tf.reports.store import settings, store, tflite_note
from bdd_tf.runs import RUNS_DIR, Run, existing_run
from converters.model_card import FILE_METRICS, NOTE, card
from converters.photo_card import PROTOCOL_TABLE, photo_card
from converters.release_photos import release_photos

#: Largest size of a released file in bytes: every wheel contains it.
SIZE_LIMIT = 3_000_000

#: Folder of stored results in a source checkout.
RESULTS = Path(__file__).resolve().parents[1] / "results"

_BATCH = 64
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def release_model(
    run: Run,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    folder: Path = FOLDER,
    results: Path = RESULTS,
) -> Path:
    """Evaluate a run's ``model.tflite`` on the test split and make it the model inside the package.

    Args:
        run: A run with ``model.tflite``, ``metrics-validation.json`` and ``metrics-test.json``.
        name: Name of the model; None: data set and backbone.
        data_dir: Current folder of the run's data set; None: the folder in the run's settings.
        folder: The package's folder of models. Other models of this data set in it are deleted.
        results: Folder of stored results, with one folder per model.

    Returns:
        Path of the model in the package. If the run lies in `results`, its own ``model.tflite`` is deleted.

    Raises:
        UsageError: If the file is too large, was not validated, or carries no metrics of the test split.
        BddError: If the file is damaged or the data set is unavailable. Nothing is changed then.
    """
    config = Experiment.load(run.config)
    if not run.tflite.is_file() or not run.tflite.stat().st_size:
        raise UsageError(f"run {run.name} has no model.tflite yet: bdd convert --run {run.name}")
    content = run.tflite.read_bytes()
    if config.dataset == PHOTOS:
        _check_size(run, len(content))
        target = release_photos(run, name or f"{config.dataset}-{config.backbone}", data_dir, folder, results)
        _remove_others(target, folder)
        record_digests(folder)
        return target
    metadata = read_metadata(content)
    _check(run, len(content), metadata)
    data = dataset_of(config, data_dir=data_dir)
    if metadata.get("trained_on") is None:
        metadata["trained_on"] = trained_on(data).to_dict()
        content = embed_metadata(content, METADATA_NAME, json.dumps(metadata).encode())
    name = name or f"{config.dataset}-{config.backbone}"
    target, kept = folder / f"{name}.tflite", results / name
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / target.name
        file.write_bytes(content)
        measured = measure(file, data)
    _store_results(run, kept)
    write_atomically(Run(kept).tflite_note, tflite_note(content))
    score_files.write_json(kept / FILE_METRICS, measured)
    text = card(name, content, kept)
    write_atomically(target, content)
    write_atomically(target.with_suffix(".md"), text.encode())
    _remove_others(target, folder)
    record_digests(folder)
    if run.path.resolve() == kept.resolve():
        run.tflite.unlink()
    return target


def _remove_others(target: Path, folder: Path) -> None:
    """Remove other models of the same data set, with their cards."""
    for old in (*folder.glob("*.tflite"), *folder.glob("*.md")):
        if old.stem != target.stem and old.stem.partition("-")[0] == target.stem.partition("-")[0]:
            old.unlink()


def _check_size(run: Run, size: int) -> None:
    if size > SIZE_LIMIT:
        raise UsageError(
            f"{run.tflite} has {size:,} bytes; a released model may have {SIZE_LIMIT:,} at most."
        )


def _store_results(run: Run, kept: Path) -> None:
    """Store a run's small files in `kept`, replacing those of another experiment with the same name."""
    if run.path.resolve() == kept.resolve():
        return
    if kept.is_dir() and _experiment(kept) != _experiment(run.path):
        shutil.rmtree(kept)
    store(run, kept.parent, name=kept.name)
    if (run.path / NOTE).is_file():
        shutil.copyfile(run.path / NOTE, kept / NOTE)


def _experiment(folder: Path) -> dict:
    return settings(read_yaml(folder / "config.yaml"))


def _check(run: Run, size: int, metadata: dict) -> None:
    """Check that a file can be released.

    Raises:
        UsageError: If it is too large, its threshold is not the one chosen on validation, or test metrics are missing.
    """
    _check_size(run, size)
    try:
        threshold = json.loads(run.metrics("validation").read_text())["threshold"]
    except (OSError, ValueError, KeyError, TypeError):
        threshold = None
    if threshold is None or metadata.get("threshold") != threshold:
        raise UsageError(
            f"the threshold in {run.tflite} ({metadata.get('threshold')}) is not the one chosen on validation "
            f"({threshold}): bdd evaluate --run {run.name} --split validation, then convert the run again."
        )
    found = metadata.get("metrics") or {}
    if found.get("split") != "test" or found.get("accuracy") is None or not run.metrics("test").is_file():
        raise UsageError(
            f"{run.tflite} carries no metrics of the test split: bdd evaluate --run {run.name}, then convert the run "
            "again."
        )


def measure(model: Path, data: AnyDataSet) -> dict:
    """Evaluate a .tflite file on a test split, with the detector that `bdd detect` uses.

    Args:
        model: The file.
        data: The data set, at the file's resolution.

    Returns:
        The keys of `bdd_tf.metrics.bootstrap.metrics_document`, ``bytes``, ``unfamiliar`` (number of images flagged as
        out of distribution) and, for CIFAKE, ``subjects`` (metrics by CIFAR-10 class).

    Raises:
        BddError: If the model cannot be run.
    """
    items = data.items("test")
    labels = np.array([item.label for item in items])
    scores, flagged = np.empty(len(items), np.float32), 0
    with Detector(model) as detector:
        cropper = detector.cropper()
        for start in range(0, len(items), _BATCH):
            batch = []
            for item in items[start : start + _BATCH]:
                image = open_image(data.file(item.path))
                batch.append(cropper(image))
                flagged += cropper.check(batch[-1], size_of(image), detector.trained_on) is not None
            found = score_views(detector, batch, cropper)
            scores[start : start + len(batch)] = [score.probability for score in found]
        threshold = detector.threshold
    leaks = data.leaked("test", tuple(split for split in SPLITS if split != "test"))
    document = bootstrap.metrics_document(
        labels,
        scores,
        threshold,
        leaked=np.array([item.pixel_hash in leaks for item in items]),
        sources=[item.source for item in items] if any(item.source for item in items) else None,
        about={
            "dataset": data.name,
            "split": "test",
            "data_fingerprint": data.fingerprint,
            "bytes": model.stat().st_size,
            "unfamiliar": flagged,
        },
    )
    if data.name == "cifake":
        subjects = [cifar_class(item.path) for item in items]
        document["subjects"] = bootstrap.evaluate_by(subjects, labels, scores, threshold)
    return document


def cifar_class(path: str) -> str:
    """Return the CIFAR-10 class of a CIFAKE file: ``12.jpg`` is of the first class, ``12 (2).jpg`` of the second."""
    number = re.search(r"\((\d+)\)\.\w+$", path)
    return _CIFAR_CLASSES[int(number[1]) - 1 if number else 0]


def describe_release(model: Path) -> str:
    """Return the line that is printed after a release: the model, its size and its card."""
    return f"{model}: {model.stat().st_size:,} bytes; card: {model.with_suffix('.md')}"


def main() -> int:
    """Release a run's converted file from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m converters.release", description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", help="name or folder of a run with a model.tflite")
    parser.add_argument(
        "--card", action="store_true", help="only regenerate the cards of the released models"
    )
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(RUNS_DIR), help="folder of the runs; default runs"
    )
    parser.add_argument("--data-dir", help="current folder of the run's data set")
    args = parser.parse_args()
    try:
        if bool(args.run) == args.card:
            raise UsageError("give either a run or --card.")
        if args.card:
            models = list(shipped_models().values())
            for model in models:
                make = photo_card if (RESULTS / model.stem / PROTOCOL_TABLE).is_file() else card
                text = make(model.stem, model.read_bytes(), RESULTS / model.stem)
                write_atomically(model.with_suffix(".md"), text.encode())
        else:
            models = [release_model(existing_run(args.run, args.runs_dir), data_dir=args.data_dir)]
    except BddError as error:
        print(f"converters.release: error: {error}", file=sys.stderr)
        return error.exit_code
    for model in models:
        print(describe_release(model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
