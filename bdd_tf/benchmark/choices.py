"""Resolve the options of `bdd benchmark`: models, baselines, threads."""

from __future__ import annotations

from importlib import util
from pathlib import Path

from bdd_tf.benchmark.contenders import BASELINES, BINARY, MORE_BASELINES, OTHERS, ModelMaker
from bdd_tf.edge.shipped_model import no_such_model
from bdd_tf.edge.tflite.file import TfliteModel, parse_tflite
from bdd_tf.errors import UsageError, one_of
from bdd_tf.files import is_file


def installed() -> list[str]:
    """Return the names of the competitors that this installation can run."""
    names: list[str] = []
    if util.find_spec("larq_compute_engine"):
        names.append("lce")
    if util.find_spec("tensorflow") and util.find_spec("larq"):
        names += ["float", *BASELINES]
    if util.find_spec("torch"):
        names.append("torch")
    return names


def parse_names(text: str, kind: str, possible: tuple[str, ...]) -> list[str]:
    """Parse a comma-separated list of names.

    Args:
        text: The list.
        kind: Kind of the names, for the error message.
        possible: The allowed names.

    Raises:
        UsageError: For an unknown name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in possible:
            raise one_of(kind, name, possible)
    return names


def thread_counts(text: str) -> list[int]:
    """Parse a comma-separated list of thread counts.

    Raises:
        UsageError: If one is not a positive whole number.
    """
    try:
        threads = [int(t) for t in text.split(",")]
    except ValueError:
        threads = [0]
    if min(threads) < 1:
        raise UsageError("--threads takes positive whole numbers, e.g. --threads 1,2.")
    return threads


def model_of(path: Path | None, maker: ModelMaker) -> tuple[Path, TfliteModel]:
    """Return the file to measure and its parsed content.

    Args:
        path: The file; None: an untrained BNext-T at 224 px.
        maker: Makes that file.

    Raises:
        UsageError: If there is no such file.
    """
    if path is None:
        path = maker.untrained("bnext-t", 224, ("rgb", "fft", "lbp"))
    if not is_file(path):
        raise no_such_model(path)
    return path, parse_tflite(path.read_bytes())


def selected(given: str | None, usual: list[str], installed: list[str]) -> list[str]:
    """Return the names of the competitors to measure.

    Args:
        given: Value of ``--against``.
        usual: The selection if it was not given.
        installed: The selection for ``all``.

    Raises:
        UsageError: For an unknown name.
    """
    if given is None or given == "all":
        return list(usual if given is None else installed)
    possible = (*OTHERS, *BINARY, *BASELINES, *MORE_BASELINES)
    return [] if given == "none" else parse_names(given, "contender", possible)


def compatible(others: list[str], given: str | None, model: TfliteModel) -> list[str]:
    """Drop competitors that do not exist for a model, unless the user named them.

    The float export and the PyTorch network exist only for binary networks that this project has converted.

    Args:
        others: Names of competitors.
        given: Value of ``--against``.
        model: The model.
    """
    binary = any(name.startswith("Lce") for name in model.custom_operators)
    if given not in (None, "all") or (binary and "bdd_tf" in model.metadata):
        return others
    return [name for name in others if name not in ("float", "torch")]
