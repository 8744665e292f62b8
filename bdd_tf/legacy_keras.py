"""The one place that chooses legacy Keras, which Larq needs, and imports TensorFlow and Larq under it.

Every module that builds, trains or converts networks imports ``tf``, and ``larq``, from here; nothing
in ``bdd_tf.edge`` does. Larq 0.14 imports only while ``TF_USE_LEGACY_KERAS=1`` was set before TensorFlow.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from bdd_tf.errors import BddError

KERAS_3_FIRST = (
    "TensorFlow was imported with Keras 3 before bdd_tf, and Larq needs legacy Keras: set the environment "
    "variable TF_USE_LEGACY_KERAS=1, or import bdd_tf's modules before tensorflow."
)


INSTALL = (
    "this needs TensorFlow and Larq, which are not part of the base install: "
    "pip install -r requirements.txt, or pip install 'bdd_tf[train]'."
)
#: What the wheel of TensorFlow 2.19 writes while its libraries load, before any log level can hold.
_NOISE = re.compile(
    rb"All log messages before absl::InitializeLog|Unable to register cu\w+ factory|"
    rb"computation placer already registered"
)


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Leave the lines of :data:`_NOISE` out of standard error; all others come, at the end."""
    try:
        terminal = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            caught.seek(0)
            for line in caught:
                if not _NOISE.search(line):
                    os.write(terminal, line)
            os.close(terminal)


def _import_tensorflow():  # noqa: ANN202 (a module)
    if "tensorflow" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _without_noise():
            import tensorflow
    except ImportError as error:
        raise BddError(INSTALL) from error
    # tf.keras is resolved lazily and does not carry a version: the home of its classes tells which it is.
    if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise BddError(KERAS_3_FIRST)
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    return tensorflow


def _import_larq():  # noqa: ANN202 (a module)
    try:
        import larq
    except ImportError as error:
        raise BddError(INSTALL) from error
    return larq


tf = _import_tensorflow()
larq = _import_larq()
