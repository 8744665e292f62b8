"""The bundled models: .tflite files in the folder ``models``, written by `bdd convert --run NAME --ship`.

A file is called after data set and backbone, e.g. ``photos-bnext-n.tflite``; the name of its data set stands for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from bdd_tf.errors import UsageError, did_you_mean, one_of

FOLDER = Path(__file__).resolve().parent / "models"
#: Data sets in the order in which their models are preferred as the default.
PREFERRED = ("photos", "cifake")


def shipped_models(folder: Path = FOLDER) -> dict[str, Path]:
    """Return the bundled models by name, the default one first.

    Args:
        folder: Folder to search.

    Returns:
        Path by short name (the file's name up to the first hyphen, e.g. ``photos``; the whole name if two share it).
    """
    files = sorted(folder.glob("*.tflite"))
    short = [file.stem.partition("-")[0] for file in files]
    names = [name if short.count(name) == 1 else file.stem for name, file in zip(short, files, strict=True)]
    rank = {name: position for position, name in enumerate(PREFERRED)}
    return dict(sorted(zip(names, files, strict=True), key=lambda pair: rank.get(pair[0], len(rank))))


def shipped_model(name: str | None = None, folder: Path = FOLDER) -> Path:
    """Return the path of a bundled model.

    Args:
        name: Its short name or the name of its file, with or without ``.tflite``; None: the default one.
        folder: Folder to search.

    Raises:
        UsageError: If there is no such model, or none at all.
    """
    found = shipped_models(folder)
    if not found:
        raise UsageError(
            "no model is shipped in this installation: give the path of a .tflite file (`bdd convert --run NAME` "
            "writes one)."
        )
    if name is None:
        return next(iter(found.values()))
    for short, path in found.items():
        if name in (short, path.stem, path.name):
            return path
    raise one_of("shipped model", name, tuple(found))


def model_path(model: str | Path | None, folder: Path = FOLDER) -> Path:
    """Return the file that a user means.

    Args:
        model: None: the default bundled model. A name of a bundled model (it wins over a file of that name; ``./photos``
            is the file). Otherwise the path of a file.
        folder: Folder of the bundled models.

    Raises:
        UsageError: If the default model is wanted and there is none, or the path is empty.
    """
    if model is None:
        return shipped_model(None, folder)
    if not os.fspath(model):
        raise UsageError(
            "the model is the empty path ''; give the path of a .tflite file or the name of a bundled model: "
            f"{', '.join(shipped_models(folder)) or 'there is none'}."
        )
    if isinstance(model, str):
        for short, path in shipped_models(folder).items():
            if model in (short, path.stem):
                return path
    return Path(model)


def no_such_model(path: Path, folder: Path = FOLDER) -> UsageError:
    """Build the error for a model file that does not exist: a mere name may be the misspelt one of a bundled model.

    Args:
        path: The result of `model_path`.
        folder: Folder of the bundled models.

    Returns:
        The exception, for the caller to raise.
    """
    bundled = shipped_models(folder)
    if not bundled or path.name != str(path):
        return UsageError(f"no such model: {path}")
    close = did_you_mean(path.name.removesuffix(".tflite"), bundled)
    return UsageError(f"no such model: {path}; bundled models: {', '.join(bundled)}.{close}")
