"""The image functions of ``bdd.h`` through ctypes."""

import ctypes

import numpy as np

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.runtime import library_path
from tools.web.reference import Image, Options, Verdict

RGB, RGBA, BGR, BGRA, GREY, NV12, NV21, YUV420 = range(8)
CHANNELS = {RGB: 3, RGBA: 4, BGR: 3, BGRA: 4, GREY: 1}
USUAL, FEATURELESS, SMALLER, LARGER, CONTRAST, DETAIL, PADDED = range(7)


class CBox(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int) for name in ("left", "top", "width", "height"))


class Refused(Exception):
    """A status that is not 0; ``args`` are the status and the message."""


class Model:
    """A model that the C interface opened.

    Args:
        content: The .tflite file.
        threads: Threads.
        batch: Images per call of the network.
    """

    def __init__(self, content, threads=1, batch=1):
        self.library = ctypes.CDLL(str(library_path()))
        self.library.bdd_crop_pixels.restype = ctypes.c_void_p
        self.model, self.why = ctypes.c_void_p(), ctypes.create_string_buffer(256)
        options = Options(threads, batch, None)
        self._check(
            self.library.bdd_open_memory(
                bytes(content),
                ctypes.c_size_t(len(content)),
                ctypes.byref(options),
                ctypes.byref(self.model),
                self.why,
                256,
            )
        )
        _, side, _ = (ctypes.c_int() for _ in range(3))
        self.library.bdd_input_size(self.model, None, ctypes.byref(side), None)
        self.side = side.value

    def _check(self, status):
        if status:
            raise Refused(status, self.why.value.decode())

    def score(self, pixels, form=RGB):
        """Score an array [H, W, C] or [H, W] of an interleaved format; rows may have gaps."""
        height, width = pixels.shape[:2]
        return self.score_planes(form, width, height, [pixels], [pixels.strides[0]])

    def score_planes(self, form, width, height, planes, strides, chroma_step=0):
        image = Image(form, width, height, chroma_step=chroma_step)
        for i, plane in enumerate(planes):
            image.planes[i] = plane if plane is None else plane.ctypes.data
        for i, stride in enumerate(strides):
            image.strides[i] = stride
        verdict = Verdict()
        self._check(
            self.library.bdd_score_image(
                self.model, ctypes.byref(image), ctypes.byref(verdict), self.why, 256
            )
        )
        return verdict

    def reserve(self, width, height):
        self._check(self.library.bdd_reserve(self.model, width, height, self.why, 256))

    def crops(self, count):
        """Boxes, scores and pixels [K, S, S, 3] of the last image."""
        boxes, scores, pixels = [], [], []
        for i in range(count):
            box, score = CBox(), ctypes.c_float()
            self._check(self.library.bdd_crop(self.model, i, ctypes.byref(box), ctypes.byref(score)))
            boxes.append(Box(box.left, box.top, box.width, box.height))
            scores.append(score.value)
            address = self.library.bdd_crop_pixels(self.model, i)
            size = self.side * self.side * 3
            pixels.append(
                np.frombuffer(ctypes.string_at(address, size), np.uint8).reshape(self.side, self.side, 3)
            )
        assert self.library.bdd_crop(self.model, count, None, None) == 1
        assert self.library.bdd_crop_pixels(self.model, count) is None
        return boxes, scores, np.stack(pixels)

    def close(self):
        self.library.bdd_close(self.model)
