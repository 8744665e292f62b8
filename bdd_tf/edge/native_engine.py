"""The engine ``native``: this package's own runtime, which needs neither LiteRT nor TensorFlow."""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.tflite.file import TfliteModel
from bdd_tf.errors import BddError

_MESSAGE_BYTES = 256
#: Pixels of the images that a thread scores in one call, unless a single image has more. Larger maps of several images do not
#: stay in the second-level cache (BNext-N, 224 px: 8 images together take 1.2 times as long as one by one); of small images
#: several share the weights in it (BNext-T, 32 px: 0.89).
_PIXELS_TOGETHER = 8 * 32 * 32


class _Options(ctypes.Structure):
    _fields_ = (("threads", ctypes.c_int), ("batch", ctypes.c_int), ("kernels", ctypes.c_char_p))


@cache
def load_library(path: Path) -> ctypes.CDLL:
    """Load the library and declare its functions (``bdd_tf/edge/runtime/src/include/bdd.h``).

    Args:
        path: The result of `bdd_tf.edge.runtime.library_path`.

    Returns:
        The library; once per path.

    Raises:
        BddError: If this machine cannot load it.
    """
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BddError(f"this machine cannot load {path}: {error}") from None
    model, text = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t)
    library.bdd_open_memory.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.POINTER(_Options),
        ctypes.POINTER(model),
        *text,
    )
    library.bdd_set_batch.argtypes = (model, ctypes.c_int, *text)
    library.bdd_run.argtypes = (
        model,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_size_t,
        *text,
    )
    library.bdd_sizes.argtypes = (model, *[ctypes.POINTER(ctypes.c_size_t)] * 2)
    library.bdd_close.argtypes = (model,)
    library.bdd_close.restype = None
    return library


class NativeEngine:
    """Our own interpreter (``src/interpreter``), for files of binary detectors.

    Args:
        model: The file.
        num_threads: Threads per inference, 1 to 64.

    Raises:
        BddError: If the library is missing, or the file has operators that it lacks; names the first of them.
    """

    name = "native"

    def __init__(self, model: TfliteModel, num_threads: int = 1) -> None:
        self._library = load_library(library_path())
        self._model = ctypes.c_void_p()
        self._message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        options = _Options(num_threads, 1, None)
        content = bytes(model.content)
        self._check(
            self._library.bdd_open_memory(
                content,
                len(content),
                ctypes.byref(options),
                ctypes.byref(self._model),
                self._message,
                _MESSAGE_BYTES,
            ),
            "cannot run this model",
        )
        entry = model.inputs[0]
        self._shape, self._dtype = entry.shape[1:], np.dtype(entry.dtype)
        self._batch, self._batches = 1, True
        self._together = num_threads * max(1, _PIXELS_TOGETHER // math.prod(self._shape[:2]))

    def prepare(self) -> None:
        """Set the memory and threads up that batches need, which the first batch would do otherwise."""
        if self._together > 1:
            with suppress(BddError):  # a graph for a fixed batch of one: `run` copes with it
                self._set_batch(self._together)

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Score a batch; see :meth:`bdd_tf.edge.engines.Engine.run`."""
        if images.dtype != self._dtype or images.shape[1:] != self._shape:
            raise BddError(
                f"the native engine was given {images.dtype} {images.shape[1:]}; it needs {self._dtype} {self._shape}."
            )
        together = self._together
        if len(images) <= together:
            return self._run_several(images)
        return np.concatenate(
            [self._run_several(images[i : i + together]) for i in range(0, len(images), together)]
        )

    def _run_several(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if len(images) == 1:
            return self._run_batch(images)
        if self._batches:
            try:
                scores = self._run_batch(images)
                if scores.shape == (len(images),):
                    return scores
            except BddError:
                pass
            # Some graphs contain a reshape to a fixed batch of one; run those image by image from now on.
            self._batches = False
        return np.concatenate([self._run_batch(image[None]) for image in images])

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        self._set_batch(len(images))
        images = np.ascontiguousarray(images)
        count = ctypes.c_size_t()
        self._library.bdd_sizes(self._model, None, ctypes.byref(count))
        scores = np.empty(count.value, np.float32)
        self._check(
            self._library.bdd_run(
                self._model,
                images.ctypes.data,
                images.nbytes,
                scores.ctypes.data,
                scores.size,
                self._message,
                _MESSAGE_BYTES,
            ),
            "failed",
        )
        return scores

    def _set_batch(self, batch: int) -> None:
        if batch != self._batch:
            self._batch = 0
            self._check(
                self._library.bdd_set_batch(self._model, batch, self._message, _MESSAGE_BYTES), "failed"
            )
            self._batch = batch

    def _check(self, status: int, what: str) -> None:
        if status:
            text = self._message.value.decode(errors="replace")
            raise BddError(f"the native engine {what}: {text}.")

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.bdd_close(self._model)
            self._model = ctypes.c_void_p()
