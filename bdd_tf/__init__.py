"""bdd_tf: binary neural networks that detect AI-made images on the device itself.

Importing this package loads nothing heavy: neither TensorFlow nor an inference runtime.
"""

__version__ = "0.1.0"
