"""OpenCV, loaded only when a video, a camera or a face needs it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from bdd_tf.errors import BddError


@cache
def load_cv2(need: str) -> ModuleType:
    """Import OpenCV, and keep it from writing to standard error what we say ourselves.

    Args:
        need: What needs it, for the error: ``"a video"``.

    Returns:
        The module ``cv2``.

    Raises:
        BddError: If it is not installed, or cannot be loaded.
    """
    # Read by OpenCV's FFmpeg when it opens its first file.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ModuleNotFoundError:
        raise BddError(f"{need} needs OpenCV, which is not installed: pip install 'bdd_tf[video]'.") from None
    except ImportError as error:
        raise BddError(
            f"{need} needs OpenCV, and the one installed cannot be loaded ({error}); opencv-python-headless "
            "needs no system library: pip install 'bdd_tf[video]'."
        ) from None
    cv2.setLogLevel(0)
    return cv2


def why_no_window() -> str | None:
    """None if a window can be shown; else the reason, as a part of a sentence."""
    cv2 = load_cv2("a window")
    lines = (line.partition(":") for line in cv2.getBuildInformation().splitlines())
    if next((value.strip() for name, _, value in lines if name.strip() == "GUI"), "NONE") == "NONE":
        return "this build of OpenCV has no windows (opencv-python instead of -headless has)"
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return "there is no display (DISPLAY is not set)"
    return None


@contextmanager
def openable(path: Path) -> Iterator[str]:
    """A name for a file that OpenCV takes: absolute, so that none reads like an address, and UTF-8.

    Other names crash OpenCV; such a file is reached through a link.

    Args:
        path: Of a file to be read, or to be written.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="bdd-") as folder:
            link = Path(folder) / f"video{path.suffix if path.suffix.isascii() else ''}"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield name
