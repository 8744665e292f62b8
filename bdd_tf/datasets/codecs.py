"""Image codecs and filters of the degradation chain: encode and decode in memory, resize, blur.

OpenCV does the work: it is two to three times as fast as Pillow on small images and decodes JPEG to the same pixels
(both use libjpeg-turbo's accurate integer transform and smooth chroma upsampling). All functions take and return
uint8 RGB [H, W, 3] and release the interpreter lock.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bdd_tf.errors import BddError

Pixels = NDArray[np.uint8]
#: Chroma subsamplings by name, with OpenCV's codes for them.
SUBSAMPLINGS = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
_OPENCV = {"cv-linear": cv2.INTER_LINEAR, "cv-cubic": cv2.INTER_CUBIC, "cv-lanczos": cv2.INTER_LANCZOS4,
           "cv-area": cv2.INTER_AREA}  # fmt: skip
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
           "lanczos": Image.Resampling.LANCZOS, "hamming": Image.Resampling.HAMMING}  # fmt: skip
#: Resize filters by name: Pillow's blur before they shrink, OpenCV's (``cv-``) do not, but for ``cv-area``.
FILTERS = (*_PILLOW, *_OPENCV)


def decode(content: bytes, name: str = "image") -> Pixels:
    """Decode an encoded image.

    Args:
        content: A JPEG, PNG or WebP file.
        name: What an error calls it.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        BddError: If it cannot be decoded.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise BddError(f"{name} cannot be decoded; the file is damaged. Unpack the data set again.")
    return pixels


def _encoded(image: Pixels, suffix: str, options: list[int]) -> bytes:
    done, buffer = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise BddError(f"OpenCV could not encode {image.shape} pixels as {suffix}.")
    return buffer.tobytes()


def jpeg_bytes(image: Pixels, quality: int, subsampling: str = "4:2:0") -> bytes:
    """A JPEG file of the image: libjpeg quality 1 to 100, a key of :data:`SUBSAMPLINGS`."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SUBSAMPLINGS[subsampling]]
    return _encoded(image, ".jpg", options)


def jpeg(image: Pixels, quality: int, subsampling: str = "4:2:0") -> Pixels:
    """Encode as JPEG and decode again; arguments as for :func:`jpeg_bytes`."""
    return decode(jpeg_bytes(image, quality, subsampling))


def webp(image: Pixels, quality: int, method: int = 0) -> Pixels:
    """Encode as lossy WebP and decode again.

    Args:
        image: uint8 [H, W, 3].
        quality: 0 to 100.
        method: Effort, 0 to 6. 0 takes half of the time of the usual 4.

    Returns:
        uint8 [H, W, 3].
    """
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "WEBP", quality=quality, method=method)
        return decode(file.getvalue())


def resize(image: Pixels, width: int, height: int, filter: str) -> Pixels:
    """Resize with one of :data:`FILTERS`."""
    if image.shape[:2] == (height, width):
        return image
    if filter in _OPENCV:
        return cv2.resize(image, (width, height), interpolation=_OPENCV[filter])
    return np.asarray(Image.fromarray(image).resize((width, height), _PILLOW[filter]))


def pad(image: Pixels, size: int) -> Pixels:
    """The image with sides of at least ``size`` pixels: reflected at its borders, as often as that takes."""
    height, width = image.shape[:2]
    down, across = max(size - height, 0), max(size - width, 0)
    if not (down or across):
        return image
    borders = (down // 2, down - down // 2, across // 2, across - across // 2)
    return cv2.copyMakeBorder(image, *borders, cv2.BORDER_REFLECT)
