"""Run the command line as ``python -m bdd_tf``."""

import sys

from bdd_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
