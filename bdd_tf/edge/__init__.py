"""The detector for devices: needs NumPy, Pillow and a TFLite runtime, but no TensorFlow.

Each name is imported on first use, so that importing the package itself is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdd_tf.edge.detector import Detector
    from bdd_tf.edge.images.decode import load_image, read_image
    from bdd_tf.edge.images.errors import ImageError
    from bdd_tf.edge.images.find import find_images
    from bdd_tf.edge.images.out_of_distribution import OutOfDistributionWarning, UnfamiliarImageWarning
    from bdd_tf.edge.images.resize import ResizeRule
    from bdd_tf.edge.labels import FAKE, LABELS, REAL, UNSURE, verdict
    from bdd_tf.edge.runtime import available_kernels, lce_delegate

_MODULES = {
    "Detector": "detector",
    "FAKE": "labels",
    "ImageError": "images.errors",
    "LABELS": "labels",
    "REAL": "labels",
    "ResizeRule": "images.resize",
    "OutOfDistributionWarning": "images.out_of_distribution",
    "UNSURE": "labels",
    "UnfamiliarImageWarning": "images.out_of_distribution",  # former name of OutOfDistributionWarning
    "available_kernels": "runtime",
    "find_images": "images.find",
    "lce_delegate": "runtime",
    "load_image": "images.decode",
    "read_image": "images.decode",
    "verdict": "labels",
}

__all__ = [
    "FAKE",
    "LABELS",
    "REAL",
    "UNSURE",
    "Detector",
    "ImageError",
    "OutOfDistributionWarning",
    "ResizeRule",
    "UnfamiliarImageWarning",
    "available_kernels",
    "find_images",
    "lce_delegate",
    "load_image",
    "read_image",
    "verdict",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
