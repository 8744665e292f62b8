"""The detector as it runs on a device: numpy, Pillow and a TFLite runtime, no TensorFlow.

Names are loaded when first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdd_tf.edge.detector import Detector
    from bdd_tf.edge.familiarity import UnfamiliarImageWarning
    from bdd_tf.edge.images import ImageError, ResizeRule, find_images, load_image, read_image
    from bdd_tf.edge.labels import FAKE, LABELS, REAL, verdict
    from bdd_tf.edge.runtime import available_kernels, lce_delegate

_HOMES = {
    "Detector": "detector",
    "FAKE": "labels",
    "ImageError": "images",
    "LABELS": "labels",
    "REAL": "labels",
    "ResizeRule": "images",
    "UnfamiliarImageWarning": "familiarity",
    "available_kernels": "runtime",
    "find_images": "images",
    "lce_delegate": "runtime",
    "load_image": "images",
    "read_image": "images",
    "verdict": "labels",
}

__all__ = [
    "FAKE",
    "LABELS",
    "REAL",
    "Detector",
    "ImageError",
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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
