"""Score millions of images on Apache Spark; `bdd score` is the command line of this package.

Importing it loads neither pyspark nor TensorFlow. Executors need this package, `bdd_tf.edge`, and pandas and pyarrow.
"""

from __future__ import annotations

from bdd_tf.cluster.functions import score_images

__all__ = ["score_images"]
