"""The walker of containers, which is part of the C++ library (``src/evidence``)."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np

from bdd_tf.edge.native_engine import load_library
from bdd_tf.edge.runtime import library_path
from bdd_tf.errors import BddError

_CAPACITY = 65536  # BDD_EVIDENCE_BYTES


def walk(content: bytes | bytearray | memoryview) -> list[dict[str, Any]]:
    """Return what the C++ library finds in a file.

    Args:
        content: The file, or its beginning.

    Returns:
        Items with ``kind``, ``says``, ``where`` and ``strength``; thumbnails also have ``at`` and ``bytes``, their place in
        the file.

    Raises:
        BddError: If the library is missing or too old.
    """
    function = getattr(load_library(library_path()), "bdd_evidence", None)
    if function is None:
        raise BddError(
            f"{library_path()} is of an older version, without the walker of metadata; compile it again."
        )
    function.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t) * 2, ctypes.c_void_p)
    view = np.frombuffer(content, np.uint8)
    text = ctypes.create_string_buffer(_CAPACITY)
    status = function(view.ctypes.data, view.size, text, _CAPACITY, None)
    if status != 0:  # the capacity is enough for every list
        raise BddError(f"the library refuses to walk a file of {view.size} bytes (status {status}).")
    items: list[dict[str, Any]] = json.loads(text.value)
    return items
