"""Faces, found by the cascade that ships in OpenCV's wheel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdd_tf.edge.crops import Box
from bdd_tf.edge.opencv import load_cv2
from bdd_tf.errors import BddError

MARGIN = 0.3
"""Added on each side, as a share of the face's side: blending seams lie at chin, hair and ears."""

MOST = 16
"""Faces of one image; the largest are taken."""

_CASCADE = "haarcascade_frontalface_default.xml"
_LONGEST = 1280  # px; larger images are shrunk to look for faces, whose crops are then cut at full size
_SMALLEST = 32  # px, in the image that is searched


class FaceFinder:
    """Finds frontal faces. Not to be shared between threads.

    Raises:
        BddError: If OpenCV is not installed, or without its cascades.
    """

    def __init__(self) -> None:
        self._cv2 = load_cv2("--crop faces")
        path = Path(self._cv2.data.haarcascades) / _CASCADE
        self._cascade = self._cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise BddError(
                f"--crop faces needs {_CASCADE}, which this OpenCV lacks: pip install 'bdd_tf[video]'."
            )

    def __call__(self, image: np.ndarray) -> list[Box]:
        """Squares around faces.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            Squares within the image, the largest first; empty if there is no face.
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
        largest = sorted(found, key=lambda face: (-face[2], face[0], face[1]))[:MOST]
        return [_widened(*(float(v) / scale for v in face), width, height) for face in largest]


def _widened(left: float, top: float, w: float, h: float, width: int, height: int) -> Box:
    """The square with margins, moved rather than cut where it leaves the image."""
    side = min(round(max(w, h) * (1 + 2 * MARGIN)), width, height)
    x = min(max(0, round(left + w / 2 - side / 2)), width - side)
    y = min(max(0, round(top + h / 2 - side / 2)), height - side)
    return Box(x, y, side, side)
