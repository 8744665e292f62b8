"""Puts a run's model into the package, measured and with a card: `bdd convert --run NAME --ship`.

The same for a file that was converted before: ``python -m converters.shipping RUN [--data-dir D]``; after a change of
the template or of `NOTE`, ``python -m converters.shipping --card``. What goes where:

- ``bdd_tf/edge/models/NAME.tflite``: the file, the only one there, and ``NAME.md``, its card;
- ``results/NAME/``: what the card is made from: settings, history, metrics, and `FILE_METRICS`, measured here.

A card is a template (``model_card.md``) and these files; nothing else goes into it, so that its numbers cannot drift.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template

import numpy as np

from bdd_tf import metrics
from bdd_tf.config import Experiment, write_atomically
from bdd_tf.datasets.familiar import trained_on
from bdd_tf.datasets.index import SPLITS
from bdd_tf.datasets.pipeline import DataSet, load_dataset
from bdd_tf.datasets.sources import SOURCES
from bdd_tf.edge.detector import Detector
from bdd_tf.edge.familiarity import TrainedOn
from bdd_tf.edge.images import load_sized
from bdd_tf.edge.shipped import FOLDER, shipped_model
from bdd_tf.edge.tflite_file import METADATA_NAME, embed_metadata, read_metadata
from bdd_tf.errors import BddError, UsageError
from bdd_tf.reports.reading import read_yaml
from bdd_tf.reports.store import settings, store, tflite_note
from bdd_tf.runs import RUNS_DIR, Run, existing_run, read_history

SIZE_LIMIT = 3_000_000
"""Bytes of a shipped file, at most: every wheel carries it."""

RESULTS = Path(__file__).resolve().parents[1] / "results"
FILE_METRICS = "file-test.json"
"""Measured through the .tflite file itself, as `bdd detect` runs it."""

NOTE = "note.txt"
"""A few words about how a run was made (machine, hours, stages), taken into its card as they are, if it is there."""

_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def ship(
    run: Run,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    folder: Path = FOLDER,
    results: Path = RESULTS,
) -> Path:
    """Measure a run's ``model.tflite`` on the test split, and make it the package's model.

    Args:
        run: With ``model.tflite``, ``metrics-validation.json`` and ``metrics-test.json``.
        name: What the model is called; None: data set and backbone.
        data_dir: Where the run's data set lies now; None: where it lay.
        folder: The package's models.
        results: Small result files, one folder for each model.

    Returns:
        The model's place in the package. What was there before is gone; `run`'s own file too if it lies in `results`.

    Raises:
        UsageError: If the file is too large, was not validated, or carries no metrics of the test split.
        BddError: If it is damaged, or the data set is out of reach. Nothing is changed then.
    """
    content, config = run.tflite.read_bytes() if run.tflite.is_file() else b"", Experiment.load(run.config)
    if not content:
        raise UsageError(f"the run {run.name} has no model.tflite yet: bdd convert --run {run.name}")
    metadata = read_metadata(content)
    _check(run, len(content), metadata)
    data = load_dataset(
        config.dataset,
        rule=config.rule,
        data_dir=data_dir or config.data_dir,
        validation_fraction=config.validation_fraction,
        train_fraction=config.train_fraction,
    )
    if metadata.get("trained_on") is None:
        metadata["trained_on"] = trained_on(data).to_dict()
        content = embed_metadata(content, METADATA_NAME, json.dumps(metadata).encode())
    name = name or f"{config.dataset}-{config.backbone}"
    place, kept = folder / f"{name}.tflite", results / name
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / place.name
        file.write_bytes(content)
        measured = measure(file, data)
    _keep(run, kept)
    write_atomically(Run(kept).tflite_note, tflite_note(content))
    metrics.write_json(kept / FILE_METRICS, measured)
    text = card(name, content, kept)
    write_atomically(place, content)
    write_atomically(place.with_suffix(".md"), text.encode())
    for old in (*folder.glob("*.tflite"), *folder.glob("*.md")):
        if old.stem != name:
            old.unlink()
    if run.path.resolve() == kept.resolve():
        run.tflite.unlink()
    return place


def _keep(run: Run, kept: Path) -> None:
    """Store a run's small files where a model's are kept, in place of those of another model of that name."""
    if run.path.resolve() != kept.resolve():
        if kept.is_dir() and settings(_yaml(kept)) != settings(_yaml(run.path)):
            shutil.rmtree(kept)
        store(run, kept.parent, name=kept.name)
        if (run.path / NOTE).is_file():
            shutil.copyfile(run.path / NOTE, kept / NOTE)


def _yaml(folder: Path) -> dict:
    return read_yaml(folder / "config.yaml")


def _check(run: Run, size: int, metadata: dict) -> None:
    if size > SIZE_LIMIT:
        raise UsageError(f"{run.tflite} has {size:,} bytes; a shipped model has {SIZE_LIMIT:,} at most.")
    try:
        threshold = json.loads(run.metrics("validation").read_text())["threshold"]
    except (OSError, ValueError, KeyError, TypeError):
        threshold = None
    if threshold is None or metadata.get("threshold") != threshold:
        raise UsageError(
            f"the threshold in {run.tflite} ({metadata.get('threshold')}) is not the one chosen on validation "
            f"({threshold}): bdd evaluate --run {run.name} --split validation, then convert again."
        )
    found = metadata.get("metrics") or {}
    if found.get("split") != "test" or found.get("accuracy") is None or not run.metrics("test").is_file():
        raise UsageError(
            f"{run.tflite} carries no metrics of the test split: bdd evaluate --run {run.name}, then convert again."
        )


def measure(model: Path, data: DataSet) -> dict:
    """A file's own figures on a test split.

    Args:
        model: A .tflite file; it is run as `bdd detect` runs it.
        data: The data set, at the file's resolution.

    Returns:
        As `bdd_tf.metrics.metrics_document`, with ``bytes``, ``unfamiliar`` (how many images `bdd detect` would call
        so) and, of CIFAKE, ``subjects``: figures for each class of CIFAR-10, which file names tell.

    Raises:
        BddError: If the model cannot be run.
    """
    items = data.items("test")
    labels = np.array([item.label for item in items])
    scores, unfamiliar = np.empty(len(items), np.float32), 0
    with Detector(model) as detector:
        familiar = TrainedOn.from_metadata(detector.metadata)
        for start in range(0, len(items), 64):
            seen = []
            for item in items[start : start + 64]:
                image, size = load_sized(data.file(item.path), detector.resize)
                seen.append(image)
                unfamiliar += familiar is not None and familiar.strangeness(*size, image) is not None
            scores[start : start + 64] = detector.predict_batch(np.stack(seen))
        threshold = detector.threshold
    leaks = data.leaked("test", tuple(split for split in SPLITS if split != "test"))
    document = metrics.metrics_document(
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
            "unfamiliar": unfamiliar,
        },
    )
    if data.name == "cifake":
        subjects = [_subject(item.path) for item in items]
        document["subjects"] = metrics.evaluate_by(subjects, labels, scores, threshold)
    return document


def _subject(path: str) -> str:
    """The class of CIFAR-10 that a file of CIFAKE shows: ``12.jpg`` is the first, ``12 (2).jpg`` the second."""
    number = re.search(r"\((\d+)\)\.\w+$", path)
    return _CIFAR_CLASSES[int(number[1]) - 1 if number else 0]


def card(name: str, content: bytes, kept: Path) -> str:
    """The model card.

    Args:
        name: What the model is called.
        content: The .tflite file.
        kept: The folder with the files that `ship` keeps.

    Returns:
        Markdown.

    Raises:
        BddError: If one of the files is missing or damaged.
    """
    metadata, config = read_metadata(content), Experiment.load(kept / "config.yaml")
    known = TrainedOn.from_metadata(metadata)
    if known is None:
        raise BddError(f"the file of {name} does not tell what it was trained on.")
    network, file = _json(kept / "metrics-test.json"), _json(kept / FILE_METRICS)
    source = SOURCES[config.dataset]
    note = (kept / NOTE).read_text().strip() + "\n\n" if (kept / NOTE).is_file() else ""
    return Template((Path(__file__).parent / "model_card.md").read_text()).substitute(
        name=name,
        bytes=f"{len(content):,}",
        data=f"It was trained on the {known.images:,} images of the training split of {source.title}.",
        familiar=_familiar(known),
        alarms=f"{file['unfamiliar']:,}",
        images=f"{file['images']:,}",
        threshold=f"{file['threshold']:.4f}",
        leaked=f"{file['leaked']:,}",
        metrics=_metrics(network, file),
        operating=_operating(file, metadata),
        robustness=_robustness(kept / "robustness-test.json"),
        failures=_failures(file),
        network=_network(network, metadata),
        train=_train(name, Run(kept), config),
        recipe=_recipe(config),
        note=note,
        licence=source.licence,
        citation=source.citation,
    )


def _json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BddError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path} holds no figures.")
    return value


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(document: dict, key: str) -> str:
    interval = (document.get("intervals") or {}).get(key)
    spread = f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * document[key]:.2f}{spread}"


def _familiar(known: TrainedOn) -> str:
    low, high = known.sides
    sides = f"{low} px" if low == high else f"{low} to {high} px"
    return (
        f"Their shorter side has {sides}; contrast (deviation of green) of {known.contrast[0]:.0f} to "
        f"{known.contrast[1]:.0f} and detail (difference of neighbours) of {known.detail[0]:.1f} to "
        f"{known.detail[1]:.1f} grey levels, of 255, in all but one image in a thousand."
    )


def _metrics(network: dict, file: dict) -> str:
    rows = (
        ("accuracy", "accuracy"),
        ("AUC", "auc"),
        ("average precision", "average_precision"),
        ("equal error rate", "eer"),
        ("accuracy on REAL", "accuracy_real"),
        ("accuracy on FAKE", "accuracy_fake"),
    )
    return _table(
        ["%", "this file", "before conversion (Keras)", "this file, without leaked images"],
        [
            [title, _percent(file, key), f"{100 * network[key]:.2f}", _percent(file["deduplicated"], key)]
            for title, key in rows
        ],
    )


def _operating(file: dict, metadata: dict) -> str:
    cells = file["confusion"]
    text = (
        f"Of {cells['true_real'] + cells['false_fake']:,} photographs {cells['false_fake']:,} are called fake, of "
        f"{cells['true_fake'] + cells['false_real']:,} generated images {cells['false_real']:,} are missed."
    )
    temperature = metadata.get("temperature", 1.0)
    if temperature != 1:
        text += f" Probabilities are calibrated on validation (temperature {temperature:.3f})."
    return text


def _robustness(path: Path) -> str:
    if not path.is_file():
        return (
            "Not measured for this model. Expect it to fall with every further JPEG compression, resizing, blur or "
            "noise, which remove or cover what it looks for."
        )
    document = _json(path)
    rows = [{"perturbation": "none", **document["clean"]}, *document["rows"]]
    return (
        f"{document['images']:,} images, perturbed before they are resized; threshold as above.\n\n"
        + _table(
            ["perturbation", "accuracy, %", "AUC, %", "on REAL, %", "on FAKE, %"],
            [
                [
                    f"{row['perturbation']} {row['severity']:g}"
                    if "severity" in row
                    else row["perturbation"],
                    *(
                        f"{100 * row[key]:.2f}"
                        for key in ("accuracy", "auc", "accuracy_real", "accuracy_fake")
                    ),
                ]
                for row in rows
            ],
        )
    )


def _failures(file: dict) -> str:
    if "subjects" not in file:
        return "By source, in `results`; see also the gallery of false positives and negatives that `bdd evaluate` draws."
    rows = sorted(file["subjects"].items(), key=lambda item: item[1]["accuracy"])
    worst, best = rows[0], rows[-1]
    return (
        f"By what the pictures show, it is worst at {worst[0]} ({100 * worst[1]['accuracy']:.2f} %) and best at {best[0]} "
        f"({100 * best[1]['accuracy']:.2f} %):\n\n"
        + _table(
            ["subject", "images", "accuracy, %", "AUC, %"],
            [
                [name, f"{row['images']:,}", f"{100 * row['accuracy']:.2f}", f"{100 * row['auc']:.2f}"]
                for name, row in rows
            ],
        )
    )


def _network(network: dict, metadata: dict) -> str:
    return (
        f"Backbone `{metadata['backbone']}` on the channels {', '.join(metadata['channels'])} at "
        f"{metadata['resolution']} px: {network['parameters'] / 1e6:.2f} M parameters, "
        f"{network['binary_macs'] / 1e6:.1f} M binary and {network['float_macs'] / 1e6:.2f} M float multiply-adds an image."
    )


def _train(name: str, kept: Run, config: Experiment) -> str:
    """The commands that made the weights."""
    hours, settings_file = _hours(kept.history), f"results/{name}/config.yaml"
    if not kept.trainer.is_file():
        return f"bdd train --config {settings_file} --run NAME      # {hours}"
    made = _json(kept.trainer)
    return (
        f"python -m converters.torch_pack --config {settings_file} --data-dir ... --images packed.npz\n"
        f"# {made.get('device')}, torch {made.get('torch')}: {hours}\n"
        f"python -m {made.get('module')} --config {settings_file} --data packed.npz --output NAME.ckpt "
        f"{made.get('options')}\n"
        f"bdd convert --from-torch NAME.ckpt --run NAME"
    )


def _hours(history: Path) -> str:
    if not history.is_file():
        return "its hours were not recorded"
    rows = read_history(history)
    last = rows[-1]
    seconds = [row.get("seconds") for row in rows]
    seen = f"{last['images']:,} images seen" if last.get("images") else "images seen: unknown"
    if None in seconds:
        return f"{last['epoch']} epochs, {seen}"
    return f"{last['epoch']} epochs, {seen}, {sum(seconds) / 3600:.2f} hours"


def _recipe(config: Experiment) -> str:
    default = Experiment(dataset=config.dataset, backbone=config.backbone, channels=config.channels)
    shown = {
        key: value
        for key, value in config.to_dict().items()
        if key in ("epochs", "batch", "learning_rate", "schedule", "augment", "seed")
        or value != default.to_dict()[key]
    }
    text = ", ".join(f"{key} {_word(value)}" for key, value in shown.items())
    return f"Settings (all of them are in `config.yaml`): {text}."


def _word(value: object) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def main() -> int:
    """Ship a run's converted file from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m converters.shipping", description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", help="a run's name or folder, with its model.tflite")
    parser.add_argument("--card", action="store_true", help="only write the shipped model's card anew")
    parser.add_argument("--runs-dir", type=Path, default=Path(RUNS_DIR))
    parser.add_argument("--data-dir", help="where the data set lies now")
    args = parser.parse_args()
    try:
        if bool(args.run) == args.card:
            raise UsageError("give either a run, or --card.")
        if args.card:
            place = shipped_model()
            text = card(place.stem, place.read_bytes(), RESULTS / place.stem)
            write_atomically(place.with_suffix(".md"), text.encode())
        else:
            place = ship(existing_run(args.run, args.runs_dir), data_dir=args.data_dir)
    except BddError as error:
        print(f"bdd: error: {error}", file=sys.stderr)
        return error.exit_code
    print(described(place))
    return 0


def described(place: Path) -> str:
    """What is printed of a shipped model."""
    return f"{place}: {place.stat().st_size:,} bytes, the model of the package from now on; card: {place.with_suffix('.md')}"


if __name__ == "__main__":
    sys.exit(main())
