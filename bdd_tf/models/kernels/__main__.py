"""Compiles the training kernels: ``python -m bdd_tf.models.kernels``."""

import sys

from bdd_tf.errors import BddError
from bdd_tf.models.kernels import build

try:
    print(build())
except BddError as error:
    print(f"bdd: training will be slower, by Keras alone: {error}", file=sys.stderr)
