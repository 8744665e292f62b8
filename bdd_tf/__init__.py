"""bdd_tf: binary neural networks that detect AI-made images on the device itself.

Importing this package loads nothing heavy: neither TensorFlow nor an inference runtime. `load` imports TensorFlow when it
is called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from bdd_tf.extensions import register_augmentation, register_backbone, register_channel

__all__ = ["__version__", "load", "register_augmentation", "register_backbone", "register_channel", "save"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the functions of :mod:`bdd_tf.extensions` when one is used.

    Raises:
        AttributeError: For another name.
    """
    if name in __all__:
        from bdd_tf import extensions

        return getattr(extensions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(run_or_file: str | os.PathLike[str], *, runs_dir: str | os.PathLike[str] = "runs") -> Any:
    """Load the trained Keras model of a run, to fine-tune it (``compile`` and ``fit``) or to ``predict``.

    The model is built from the run's ``config.yaml``, so that channels, variant and strides are those of the training.
    It has the weights as trained: `bdd convert` divides the last layer by the temperature that `bdd evaluate` chose, and
    this function does not.

    Args:
        run_or_file: Name or folder of a run, or a ``.weights.h5`` file in it.
        runs_dir: Folder in which names are looked up.

    Returns:
        A ``tf_keras.Model``: uint8 RGB [N, S, S, 3] -> float32 ``fake_probability`` [N, 1].

    Raises:
        UsageError: If there is no such run.
        BddError: If it has no weights yet, or they do not fit its configuration.
    """
    from pathlib import Path

    from bdd_tf.training.weights import load_model

    return load_model(str(run_or_file), Path(runs_dir))


def save(
    model: Any,
    run: str,
    *,
    like: str | os.PathLike[str],
    runs_dir: str | os.PathLike[str] = "runs",
) -> Path:
    """Write a Keras model that came from :func:`load` as a new run, for `bdd evaluate` and `bdd convert`.

    Args:
        model: The model, for example after ``fit``. Its weights are saved; its layers must be those that were loaded.
        run: Name or folder of the new run.
        like: Name or folder of the run that was loaded. The new run has its configuration: channels, resize rule, data set.
        runs_dir: Folder in which names are looked up.

    Returns:
        The new run's folder. It has no threshold yet: ``bdd evaluate --run NAME --split validation`` chooses one.

    Raises:
        UsageError: If the new run exists, the other one does not, or the model does not fit its configuration.
    """
    from pathlib import Path

    from bdd_tf.training.weights import save_model

    return save_model(model, run, os.fspath(like), Path(runs_dir)).path
