"""Face detection with the Haar cascade that OpenCV's wheel includes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bdd_tf.edge.images.box import Box
from bdd_tf.edge.opencv import load_cv2
from bdd_tf.errors import BddError

MARGIN = 0.3
"""Margin on each side, as a fraction of the face's side: blending seams run along chin, hair and ears."""

MAX_FACES = 16
"""Maximum number of faces per image; the largest ones are kept."""

_CASCADE = "haarcascade_frontalface_default.xml"
_LONGEST = 1280  # px; faces are detected in a copy of at most this size, and cropped from the original
_SMALLEST = 32  # px; minimum side of a face in that copy


class FaceFinder:
    """Finds frontal faces. Instances are not thread-safe.

    Raises:
        BddError: If OpenCV is not installed, or its cascade file is missing.
    """

    def __init__(self) -> None:
        self._cv2 = load_cv2("--crop faces")
        path = Path(self._cv2.data.haarcascades) / _CASCADE
        self._cascade = self._cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise BddError(
                f"--crop faces needs {_CASCADE}, which this OpenCV lacks: pip install 'bdd_tf[video]'."
            )

    def __call__(self, image: NDArray[np.uint8]) -> list[Box]:
        """Return squares around the faces of an image.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            Squares within the image, largest face first; empty if no face was found.
        """
        cv2 = self._cv2
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        scale = min(1.0, _LONGEST / max(height, width))
        if scale < 1:
            small = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
        found = self._cascade.detectMultiScale(
            cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=6, minSize=(_SMALLEST, _SMALLEST)
        )
        largest = sorted(found, key=lambda face: (-face[2], face[0], face[1]))[:MAX_FACES]
        faces = ((float(value) / scale for value in face) for face in largest)
        return [_with_margin(left, top, w, h, (width, height)) for left, top, w, h in faces]


def _with_margin(left: float, top: float, w: float, h: float, image_size: tuple[int, int]) -> Box:
    """Return the square with margins; a square that leaves the image is moved inside rather than cut."""
    width, height = image_size
    side = min(round(max(w, h) * (1 + 2 * MARGIN)), width, height)
    x = min(max(0, round(left + w / 2 - side / 2)), width - side)
    y = min(max(0, round(top + h / 2 - side / 2)), height - side)
    return Box(x, y, side, side)
