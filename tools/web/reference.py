"""Scores of the native library with a given kernel set, through its C interface (``bdd.h``).

The scalar kernels of x86-64 and those of WebAssembly round every product; AVX2, AVX-512 and NEON round a product and its
sum once where the library allows it. A score of theirs may therefore differ, once rounding turns a sign.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.runtime import library_path
from bdd_tf.errors import BddError

_MESSAGE_BYTES = 256
_RGBA = 1


class Options(ctypes.Structure):
    _fields_ = (("threads", ctypes.c_int), ("batch", ctypes.c_int), ("kernels", ctypes.c_char_p))


class Image(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("planes", ctypes.c_void_p * 3),
        ("strides", ctypes.c_size_t * 3),
        ("chroma_step", ctypes.c_int),
    )


class Verdict(ctypes.Structure):
    _fields_ = (
        ("probability", ctypes.c_double),
        ("threshold", ctypes.c_double),
        *((name, ctypes.c_int) for name in ("fake", "crops", "highest", "deviation", "label")),
    )


class Reference:
    """A model of the native library.

    Args:
        model: Path of the file.
        kernels: Name of the kernel set; "auto" for the fastest one.
        batch: Images per call of `score_inputs`.
    """

    def __init__(self, model: Path, kernels: str = "scalar", batch: int = 1) -> None:
        self._library = ctypes.CDLL(str(library_path()))
        self._library.bdd_close.argtypes = (ctypes.c_void_p,)
        self._model = ctypes.c_void_p()
        self._why = ctypes.create_string_buffer(_MESSAGE_BYTES)
        options = Options(1, batch, kernels.encode())
        content = model.read_bytes()
        self._check(
            self._library.bdd_open_memory(
                content, ctypes.c_size_t(len(content)), ctypes.byref(options), ctypes.byref(self._model),
                self._why, ctypes.c_size_t(_MESSAGE_BYTES),
            )
        )  # fmt: skip
        self.batch = batch

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *exception: object) -> None:
        self._library.bdd_close(self._model)
        self._model = ctypes.c_void_p()

    def score_inputs(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores [N] of network inputs, uint8 [N, S, S, 3]; N is a multiple of the batch."""
        scores = np.empty(len(rgb), np.float32)
        for first in range(0, len(rgb), self.batch):
            part = np.ascontiguousarray(rgb[first : first + self.batch])
            self._check(
                self._library.bdd_score(
                    self._model, ctypes.c_void_p(part.ctypes.data),
                    ctypes.c_void_p(scores[first:].ctypes.data), self._why, ctypes.c_size_t(_MESSAGE_BYTES),
                )
            )  # fmt: skip
        return scores

    def score_image(self, rgba: NDArray[np.uint8]) -> tuple[float, list[tuple[int, int, int, int, float]]]:
        """Probability of an image of any size, uint8 [H, W, 4]; left, top, width, height and probability of each crop."""
        rgba = np.ascontiguousarray(rgba)
        image, verdict = Image(_RGBA, rgba.shape[1], rgba.shape[0]), Verdict()
        image.planes[0] = rgba.ctypes.data
        self._check(
            self._library.bdd_score_image(
                self._model, ctypes.byref(image), ctypes.byref(verdict), self._why,
                ctypes.c_size_t(_MESSAGE_BYTES),
            )
        )  # fmt: skip
        crops = []
        for i in range(verdict.crops):
            box, probability = (ctypes.c_int * 4)(), ctypes.c_float()
            self._check(self._library.bdd_crop(self._model, i, box, ctypes.byref(probability)))
            crops.append((*box, probability.value))
        return verdict.probability, crops

    def _check(self, status: int) -> None:
        if status:
            raise BddError(f"the native library says: {self._why.value.decode(errors='replace')}.")
