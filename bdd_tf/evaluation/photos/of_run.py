"""The photo protocol of a trained run: its files and its picture."""

from __future__ import annotations

from pathlib import Path

from bdd_tf.config import PHOTOS, Experiment
from bdd_tf.datasets.conditions import CONDITIONS
from bdd_tf.datasets.degrade import Degradation
from bdd_tf.datasets.photo_batches import Mixture, PhotoBatches
from bdd_tf.errors import UsageError
from bdd_tf.evaluation.photos.evaluate import evaluate_photos, short_form
from bdd_tf.evaluation.photos.protocol import QUICK_CONDITIONS, QUICK_IMAGES, Report, Settings
from bdd_tf.evaluation.photos.scorers import file_scorer, run_scorer
from bdd_tf.figures.photo_protocol import protocol_matrix
from bdd_tf.metrics.score_files import write_json
from bdd_tf.runs import Run


def _silent(text: str) -> None:
    """Report nothing."""


def evaluate_run_on_photos(
    run: Run,
    *,
    data_dir: str | None = None,
    conditions: tuple[str, ...] | None = None,
    quick: bool = False,
    file: bool = False,
    report: Report = _silent,
) -> dict:
    """Evaluate a run by the photo protocol and write ``metrics-photos.json``, ``protocol-photos.json`` and a picture.

    Crops and conditions are drawn with the seed 0 for every run, so that runs of one fold see the same pixels.

    Args:
        run: Trained on the data set ``photos``.
        data_dir: Folder with ``manifest.csv``; None: the run's own.
        conditions: Names of :data:`bdd_tf.datasets.conditions.CONDITIONS`; None: all; clean is added where it is
            missing.
        quick: Few conditions (unless given) and few images.
        file: Evaluate the run's .tflite file.
        report: Told what is done next.

    Returns:
        The content of ``metrics-photos.json``.

    Raises:
        UsageError: For a run of another data set, a missing folder, an unknown condition or too few images.
        BddError: For a run without weights.
    """
    config = Experiment.load(run.config)
    if config.dataset != PHOTOS:
        raise UsageError(
            f"run {run.name} was trained on {config.dataset}; the photo protocol needs a run of `bdd train --dataset "
            f"{PHOTOS}`. `bdd evaluate --run {run.name}` evaluates it on its own data."
        )
    folder = data_dir or config.data_dir
    if folder is None:
        raise UsageError(
            f"run {run.name} names no data; give --data-dir, the folder that holds manifest.csv."
        )
    names = conditions or (QUICK_CONDITIONS if quick else tuple(CONDITIONS))
    scorer = file_scorer(run.tflite) if file else run_scorer(run)
    settings = Settings(
        tuple(dict.fromkeys(("clean", *names))),
        per_source=QUICK_IMAGES if quick else None,
        probe_crops=1024 if quick else 4096,
        data_dir=folder,
        given=scorer.threshold if file else None,
        band=scorer.unsure if file else None,
        report=report,
    )
    batches = PhotoBatches(folder, Mixture(config.hold_out), Degradation(scorer.size))
    document = {"run": run.name, "quick": quick, **evaluate_photos(scorer, batches, settings)}
    write(run, document, file)
    return document


def write(run: Run, document: dict, file: bool = False) -> None:
    """Write the document, its short form and its picture into the run folder.

    Args:
        run: The run.
        document: Of :func:`evaluate_run_on_photos`.
        file: Whether it is of the .tflite file: ``metrics-photos-file.json``.
    """
    write_json(run.metrics("photos-file" if file else "photos"), document)
    write_json(run.photo_protocol, short_form(document))
    Path(run.figures).mkdir(parents=True, exist_ok=True)
    held = ", ".join(document["hold_out"]) or "nothing"
    title = f"{run.name}: held out {held}"
    protocol_matrix(run.figures / "protocol-photos.png", document, title)
