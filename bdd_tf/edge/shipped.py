"""The model inside the package: one .tflite file in ``models``, put there by `bdd convert --run NAME --ship`."""

from __future__ import annotations

from pathlib import Path

from bdd_tf.errors import UsageError

FOLDER = Path(__file__).resolve().parent / "models"


def shipped_model(folder: Path = FOLDER) -> Path:
    """The file that is used where no model is named; its name says what it was trained on, and which network it is.

    Args:
        folder: Where to look.

    Raises:
        UsageError: If there is none, as in a source tree that was taken apart.
    """
    found = sorted(folder.glob("*.tflite"))
    if len(found) == 1:
        return found[0]
    what = f"more than one model lies in {folder}" if found else "no model is shipped in this installation"
    raise UsageError(f"{what}: give the path of a .tflite file (`bdd convert --run NAME` writes one).")
