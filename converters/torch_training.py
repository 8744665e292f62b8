"""Alias of `bdd_tf.pytorch.train`, kept because stored results and model cards name the module by this path."""

import sys

from bdd_tf.pytorch.train import main

if __name__ == "__main__":
    sys.exit(main())
