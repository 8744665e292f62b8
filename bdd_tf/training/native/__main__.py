"""Compiles the training kernels: ``python -m bdd_tf.training.native``."""

import sys

from bdd_tf.errors import BddError
from bdd_tf.training.native.library import build

try:
    print(build())
except BddError as error:
    print(f"bdd: training will use Keras alone and be slower: {error}", file=sys.stderr)
