"""The walker of containers, which is part of the C++ library (``src/evidence``)."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from functools import cache
from typing import Any

import numpy as np

from bdd_tf.edge.native_engine import load_library
from bdd_tf.edge.runtime import library_path
from bdd_tf.errors import BddError

_CAPACITY = 65536  # BDD_EVIDENCE_BYTES
_buffers = threading.local()


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
    function, buffers = _function(os.environ.get("BDD_LCE_LIBRARY")), _buffers.__dict__
    text = buffers.get("text") or buffers.setdefault("text", ctypes.create_string_buffer(_CAPACITY))
    view = np.frombuffer(content, np.uint8)
    status = function(view.ctypes.data, view.size, text, _CAPACITY, None)
    if status != 0:  # the capacity is enough for every list
        raise BddError(f"the library refuses to walk a file of {view.size} bytes (status {status}).")
    items: list[dict[str, Any]] = json.loads(text.value)
    return items


@cache
def _function(given: str | None) -> Any:
    """The function of the C++ library; ``given`` is the variable that names another library."""
    path = library_path()
    function = getattr(load_library(path), "bdd_evidence", None)
    if function is None:
        raise BddError(f"{path} is of an older version, without the walker of metadata; compile it again.")
    function.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t) * 2, ctypes.c_void_p)
    return function
