"""OpenCV, imported only when a video, a camera or face detection needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from bdd_tf.errors import BddError


@cache
def load_cv2(need: str) -> ModuleType:
    """Import OpenCV and silence its log; this package reports the errors itself.

    Args:
        need: Feature that needs OpenCV, for the error message: ``"a video"``.

    Returns:
        The module ``cv2``.

    Raises:
        BddError: If OpenCV is not installed, or cannot be loaded.
    """
    # OpenCV's FFmpeg reads this variable when it opens its first file.
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
    """Return None if a window can be shown; otherwise the reason, as part of a sentence."""
    cv2 = load_cv2("a window")
    lines = (line.partition(":") for line in cv2.getBuildInformation().splitlines())
    if next((value.strip() for name, _, value in lines if name.strip() == "GUI"), "NONE") == "NONE":
        return "this build of OpenCV has no windows (opencv-python instead of -headless has)"
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return "there is no display (DISPLAY is not set)"
    return None


@contextmanager
def openable(path: Path) -> Iterator[str]:
    """Yield a name under which OpenCV can open a file: absolute, so that it is never taken for a URL, and UTF-8.

    OpenCV crashes on names that are not valid UTF-8; for those, the yielded name is that of a temporary symbolic link.

    Args:
        path: Path of a file to read or to write.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="bdd-") as folder:
            link = Path(folder) / f"video{path.suffix if path.suffix.isascii() else ''}"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield name
