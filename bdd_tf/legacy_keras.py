"""The one place that chooses legacy Keras, which Larq needs, and imports TensorFlow under it.

Every module that builds, trains or converts networks imports ``tf`` from here; nothing in
``bdd_tf.edge`` does. Larq 0.14 imports only while ``TF_USE_LEGACY_KERAS=1`` was set before TensorFlow.
"""

import os
import sys

from bdd_tf.errors import BddError


def _keras_generation() -> str:
    """Major version of the Keras that an already imported TensorFlow serves as ``tf.keras``."""
    import tensorflow

    version = getattr(tensorflow.keras, "__version__", None) or tensorflow.keras.version()
    return str(version).split(".")[0]


def _import_tensorflow():  # noqa: ANN202 (a module)
    if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") not in ("1", "True", "true"):
        if _keras_generation() != "2":
            raise BddError(
                "TensorFlow was imported with Keras 3 before bdd_tf, and Larq needs legacy Keras: set the "
                "environment variable TF_USE_LEGACY_KERAS=1, or import bdd_tf's modules before tensorflow."
            )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise BddError(
            "this needs TensorFlow and Larq, which are not part of the base install: "
            "pip install -r requirements.txt, or pip install 'bdd_tf[train]'."
        ) from error
    if _keras_generation() != "2":
        raise BddError(
            "TensorFlow was imported with Keras 3 before bdd_tf, and Larq needs legacy Keras: set the "
            "environment variable TF_USE_LEGACY_KERAS=1, or import bdd_tf's modules before tensorflow."
        )
    return tensorflow


tf = _import_tensorflow()
