"""Import TensorFlow and Larq under legacy Keras, which Larq needs.

All modules that build, train or convert networks import ``tf`` and ``larq`` from here; none in ``bdd_tf.edge`` does.
Larq 0.14 can only be imported if ``TF_USE_LEGACY_KERAS=1`` was set before TensorFlow was imported.
"""

import os
import re
import sys
from typing import Any

from bdd_tf.edge.standard_error import without_lines
from bdd_tf.errors import BddError

KERAS_3_FIRST = (
    "TensorFlow was imported with Keras 3 before bdd_tf, and Larq needs legacy Keras: set the environment "
    "variable TF_USE_LEGACY_KERAS=1, or import bdd_tf's modules before tensorflow."
)


INSTALL = (
    "this needs TensorFlow and Larq, which are not part of the base install: "
    "pip install -r requirements.txt, or pip install 'bdd_tf[train]'."
)
#: Messages that TensorFlow 2.19 prints while its libraries load, before a log level takes effect.
_NOISE = re.compile(
    rb"All log messages before absl::InitializeLog|Unable to register cu\w+ factory|"
    rb"computation placer already registered"
)


def _import_tensorflow() -> Any:
    if "tensorflow" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with without_lines(_NOISE):
            import tensorflow
    except ImportError as error:
        raise BddError(INSTALL) from error
    # tf.keras is resolved lazily and has no version; the module of its classes identifies it.
    if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise BddError(KERAS_3_FIRST)
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    return tensorflow


def _import_larq() -> Any:
    try:
        import larq
    except ImportError as error:
        raise BddError(INSTALL) from error
    return larq


tf = _import_tensorflow()
larq = _import_larq()
