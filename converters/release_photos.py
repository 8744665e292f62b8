"""Release a model for photographs: its evidence is the photo protocol of its file, not a test split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from bdd_tf.config import Experiment
from bdd_tf.datasets.of_experiment import dataset_of
from bdd_tf.datasets.photo_set import PhotoDataSet
from bdd_tf.edge.labels import FAKE, REAL
from bdd_tf.edge.tflite.metadata import read_metadata
from bdd_tf.errors import UsageError
from bdd_tf.evaluation.photos.table import table
from bdd_tf.files import write_atomically
from bdd_tf.metrics import score_files
from bdd_tf.models.operation_counts import count_operations
from bdd_tf.reports.store import tflite_note
from bdd_tf.runs import Run, validated
from bdd_tf.training.weights import build
from converters.model_card import NOTE
from converters.photo_card import ABOUT, PROTOCOL_TABLE, photo_card


def release_photos(run: Run, name: str, data_dir: str | None, folder: Path, results: Path) -> Path:
    """Store a run's results and bundle its file with the package.

    Args:
        run: A run on the data set ``photos`` with ``model.tflite`` and the photo protocol of that file.
        name: Name of the model.
        data_dir: Current folder of the data set; None: the folder in the run's settings.
        folder: The package's folder of models.
        results: Folder of stored results.

    Returns:
        Path of the model in the package.

    Raises:
        UsageError: If the file was not evaluated by the protocol, or its threshold is not the chosen one.
        BddError: If a file is damaged. Nothing is changed then.
    """
    config, content = Experiment.load(run.config), run.tflite.read_bytes()
    document = _protocol_of(run, content)
    metadata = read_metadata(content)
    if metadata.get("threshold") != validated(run).threshold:
        raise UsageError(
            f"the threshold in {run.tflite} is not the one that the photo protocol chose: bdd convert --run {run.name} "
            "writes the file again."
        )
    data = dataset_of(config, data_dir=data_dir)
    assert isinstance(data, PhotoDataSet)  # the caller checked the data set's name
    kept = Run(results / name)
    kept.path.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(config, data_dir=None).save(kept.config)  # the folder describes a machine
    for file in (run.history, run.metrics("validation"), run.photo_protocol, run.path / NOTE):
        if file.is_file() and file.resolve() != (kept.path / file.name).resolve():
            shutil.copyfile(file, kept.path / file.name)
    write_atomically(kept.path / PROTOCOL_TABLE, f"{table(document)}\n".encode())
    score_files.write_json(kept.path / ABOUT, _about(config, data))
    write_atomically(kept.tflite_note, tflite_note(content))
    text = photo_card(name, content, kept.path)
    target = folder / f"{name}.tflite"
    write_atomically(target, content)
    write_atomically(target.with_suffix(".md"), text.encode())
    return target


def is_whole_evaluation(document: dict, content: bytes) -> bool:
    """Return whether a document of the photo protocol is of exactly this file, and not of a quick evaluation.

    Raises:
        KeyError: If it is no such document.
        TypeError: Likewise.
    """
    digest, quick = document["detector"]["sha256"], document["quick"]
    return not quick and digest == hashlib.sha256(content).hexdigest()


def _protocol_of(run: Run, content: bytes) -> dict:
    """The protocol's document of exactly this file."""
    command = f"bdd evaluate --run {run.name} --protocol photos --file"
    try:
        document = json.loads(run.metrics("photos-file").read_text())
        exact = is_whole_evaluation(document, content)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{run.tflite} was not evaluated on photographs yet: {command}") from None
    if not exact:
        raise UsageError(
            f"{run.metrics('photos-file').name} is of another file, or of a quick evaluation: {command}"
        )
    return document


def _about(config: Experiment, data: PhotoDataSet) -> dict:
    """What the card says of data and network."""
    train = data.batches.fold.train
    operations = count_operations(build(config))
    return {
        "cameras": len({photo.source for photo in train if photo.label == REAL}),
        "generators": len({photo.source for photo in train if photo.label == FAKE}),
        "families": len({photo.family for photo in train if photo.label == FAKE}),
        "hold_out": list(data.batches.fold.hold_out),
        "parameters": operations.parameters,
        "binary_macs": operations.binary_macs,
        "float_macs": operations.float_macs,
    }
