"""Render the card of the model inside the package from its file and its stored results.

A card contains the template ``model_card.md`` and values from these files only, so that its numbers are always those
that were measured.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from string import Template
from typing import Any

from bdd_tf.config import Experiment
from bdd_tf.datasets.sources import SOURCES
from bdd_tf.edge.images.out_of_distribution import TrainingStatistics
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import BddError
from bdd_tf.runs import Run
from bdd_tf.training.history import read_history

#: Metrics of the .tflite file itself on the test split, measured with the detector that `bdd detect` uses.
FILE_METRICS = "file-test.json"

#: Remarks on how a run was trained (machine, hours, stages), included in its card unchanged. Optional.
NOTE = "note.txt"

_TEMPLATE = Path(__file__).with_name("model_card.md")

#: Settings that the card names elsewhere, or that follow from the data set.
_NAMED = ("dataset", "data_dir", "backbone", "channels", "resize", "hold_out", "augment")
#: Settings that the card always shows; others appear only if they differ from the default.
_ALWAYS_SHOWN = ("epochs", "batch", "learning_rate", "schedule", "augment", "seed")


def card(name: str, content: bytes, kept: Path) -> str:
    """Render a model card.

    Args:
        name: Name of the model.
        content: The .tflite file.
        kept: Folder of the model's stored results, as :func:`converters.release.release_model` writes it.

    Returns:
        Markdown.

    Raises:
        BddError: If a file is missing or damaged.
    """
    metadata, config = read_metadata(content), Experiment.load(kept / "config.yaml")
    known = TrainingStatistics.from_metadata(metadata)
    if known is None:
        raise BddError(
            f"the file of {name} has no statistics of its training images (metadata key trained_on)."
        )
    network, file = _json(kept / "metrics-test.json"), _json(kept / FILE_METRICS)
    source = SOURCES[config.dataset]
    note = (kept / NOTE).read_text().strip() + "\n\n" if (kept / NOTE).is_file() else ""
    return Template(_TEMPLATE.read_text()).substitute(
        name=name,
        bytes=f"{len(content):,}",
        data=f"Trained on the {known.images:,} images of the training split of {source.title}.",
        familiar=_training_ranges(known),
        alarms=f"{file['unfamiliar']:,}",
        images=f"{file['images']:,}",
        threshold=f"{file['threshold']:.4f}",
        leaked=f"{file['leaked']:,}",
        metrics=_metrics(network, file),
        operating=_errors(file, metadata),
        robustness=_robustness(kept / "robustness-test.json"),
        failures=_failures(file),
        network=_network(network, metadata),
        train=training_commands(name, Run(kept), config),
        recipe=settings_text(config),
        note=note,
        licence=source.licence,
        citation=source.citation,
    )


def _json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BddError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path} is not a JSON object.")
    return value


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(document: dict, key: str) -> str:
    interval = (document.get("intervals") or {}).get(key)
    spread = f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * document[key]:.2f}{spread}"


def _training_ranges(known: TrainingStatistics) -> str:
    low, high = known.sides
    sides = f"{low} px" if low == high else f"{low} to {high} px"
    return (
        f"Shorter side: {sides}. In 99.9 % of the images the contrast (standard deviation of the green channel) is "
        f"{known.contrast[0]:.0f} to {known.contrast[1]:.0f} grey levels of 255, and the detail (mean difference of "
        f"neighbouring pixels) is {known.detail[0]:.1f} to {known.detail[1]:.1f}."
    )


def _metrics(network: dict, file: dict) -> str:
    rows = (
        ("accuracy", "accuracy"),
        ("AUC", "auc"),
        ("average precision", "average_precision"),
        ("equal error rate", "eer"),
        ("accuracy on REAL (specificity)", "accuracy_real"),
        ("accuracy on FAKE (recall)", "accuracy_fake"),
    )
    return _table(
        ["%", "this file", "before conversion (Keras)", "this file, without leaked images"],
        [
            [title, _percent(file, key), f"{100 * network[key]:.2f}", _percent(file["deduplicated"], key)]
            for title, key in rows
        ],
    )


def _errors(file: dict, metadata: dict) -> str:
    cells = file["confusion"]
    text = (
        f"{cells['false_fake']:,} of {cells['true_real'] + cells['false_fake']:,} photographs are classified as FAKE, and "
        f"{cells['false_real']:,} of {cells['true_fake'] + cells['false_real']:,} generated images as REAL."
    )
    temperature = metadata.get("temperature", 1.0)
    if temperature != 1:
        text += f" The probabilities are calibrated on the validation split (temperature {temperature:.3f})."
    return text


def _robustness(path: Path) -> str:
    if not path.is_file():
        return (
            "Not measured for this model. Accuracy drops with every additional JPEG compression, resizing, blur or "
            "noise, because these remove or hide the traces that the model detects."
        )
    document = _json(path)
    rows = [{"perturbation": "none", **document["clean"]}, *document["rows"]]
    keys = ("accuracy", "auc", "accuracy_real", "accuracy_fake")
    lines = [
        [
            f"{row['perturbation']} {row['severity']:g}" if "severity" in row else row["perturbation"],
            *(f"{100 * row[key]:.2f}" for key in keys),
        ]
        for row in rows
    ]
    return (
        f"{document['images']:,} images, perturbed before they are resized, at the same threshold.\n\n"
        + _table(["perturbation", "accuracy, %", "AUC, %", "on REAL, %", "on FAKE, %"], lines)
    )


def _failures(file: dict) -> str:
    if "subjects" not in file:
        return (
            "The stored results list the accuracy by source. `bdd evaluate` draws a gallery of false positives and false "
            "negatives."
        )
    rows = sorted(file["subjects"].items(), key=lambda item: item[1]["accuracy"])
    (worst, low), (best, high) = rows[0], rows[-1]
    lines = [
        [name, f"{row['images']:,}", f"{100 * row['accuracy']:.2f}", f"{100 * row['auc']:.2f}"]
        for name, row in rows
    ]
    return (
        f"By subject of the image, accuracy is lowest for {worst} ({100 * low['accuracy']:.2f} %) and highest for {best} "
        f"({100 * high['accuracy']:.2f} %):\n\n"
        + _table(["subject", "images", "accuracy, %", "AUC, %"], lines)
    )


def _network(network: dict, metadata: dict) -> str:
    return (
        f"Backbone `{metadata['backbone']}` with the channels {', '.join(metadata['channels'])} at "
        f"{metadata['resolution']} px: {network['parameters'] / 1e6:.2f} M parameters; per image "
        f"{network['binary_macs'] / 1e6:.1f} M binary and {network['float_macs'] / 1e6:.2f} M float multiply-adds."
    )


def training_commands(name: str, kept: Run, config: Experiment) -> str:
    """Return the commands that trained the weights, by Keras or by PyTorch."""
    budget, settings_file = _training_budget(kept.history), f"results/{name}/config.yaml"
    if not kept.trainer.is_file():
        return f"bdd train --config {settings_file} --run NAME      # {budget}"
    made = _json(kept.trainer)
    return (
        f"python -m bdd_tf.pytorch.pack --config {settings_file} --data-dir ... --images packed.npz\n"
        f"# {made.get('device')}, torch {made.get('torch')}: {budget}\n"
        f"python -m {made.get('module')} --config {settings_file} --data packed.npz --output NAME.ckpt "
        f"{made.get('options')}\n"
        f"bdd convert --from-torch NAME.ckpt --run NAME"
    )


def _training_budget(history: Path) -> str:
    """Return the epochs, images and hours of a training, as far as its history records them."""
    if not history.is_file():
        return "training time not recorded"
    rows = read_history(history)
    last = rows[-1]
    seconds = [s for row in rows if (s := row.get("seconds")) is not None]
    seen = f"{last['images']:,} images seen" if last.get("images") else "number of images seen unknown"
    if len(seconds) < len(rows):
        return f"{last['epoch']} epochs, {seen}"
    return f"{last['epoch']} epochs, {seen}, {sum(seconds) / 3600:.2f} hours"


def settings_text(config: Experiment) -> str:
    """Return the settings of a training that the card shows: some always, the others if they differ from the default."""
    plain: dict[str, Any] = {
        f.name: f.default for f in dataclasses.fields(Experiment) if f.name not in _NAMED
    }
    default = dataclasses.replace(config, **plain).to_dict()
    shown = {
        key: value for key, value in config.to_dict().items() if key in _ALWAYS_SHOWN or value != default[key]
    }
    text = ", ".join(f"{key} {_setting(value)}" for key, value in shown.items())
    return f"Settings (`config.yaml` lists all of them): {text}."


def _setting(value: object) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
