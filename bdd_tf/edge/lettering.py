"""Text in pictures drawn with Pillow, such as file names, in as many scripts as the machine has fonts for.

Pillow's own font has ASCII only. Other text is drawn with the font that this package brings, which has the Latin, Greek
and Cyrillic alphabets and the smileys; what that lacks, with fonts of the system; and what these lack is escaped.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageDraw, ImageFont

from bdd_tf.edge.text import legible

Colour = str | tuple[int, int, int]

_OWN = Path(__file__).parent / "fonts" / "BddSans.ttf"
# Usual file names of fonts for other scripts, on Linux, Windows and macOS.
_SYSTEM = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
    "seguisym.ttf",
)
_NO_CHARACTER = "\U0010fffd"
_TEST_SIZE = 16


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    anchor: str = "la",
) -> None:
    """Write a line of text.

    Args:
        pen: Of the picture.
        at: x and y of the anchor, in pixels.
        text: Any text; what cannot be drawn is escaped (see `bdd_tf.edge.text.legible`).
        size: In pixels, at least 1.
        colour: As Pillow takes it.
        anchor: Pillow's anchor: ``l``, ``m`` or ``r``, and ``a`` (top of the line), ``m``, ``s``, ``d`` (its bottom),
            ``t`` or ``b``.
    """
    runs = _runs(legible(text, _drawable))
    if len(runs) <= 1:
        index, line = runs[0] if runs else (0, "")
        pen.text(at, line, colour, font=_font(index, size), anchor=anchor)
        return
    # Fonts differ in height: the parts stand on the line of the first one.
    x, y = at
    first = _font(runs[0][0], size)
    x -= _length(runs, size) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
    y += first.getbbox("x", anchor=f"l{anchor[1]}")[1] - first.getbbox("x", anchor="ls")[1]
    for index, part in runs:
        font = _font(index, size)
        pen.text((x, y), part, colour, font=font, anchor="ls")
        x += font.getlength(part)


def fitted(text: str, size: int, width: float) -> str:
    """Return text that is at most so wide, without its beginning if it is longer: a file name's end tells more.

    Args:
        text: Any text.
        size: Size of the letters, in pixels.
        width: In pixels.

    Returns:
        The text as it can be drawn, after ``...`` if it was cut.
    """
    whole = legible(text, _drawable)
    low, high = 0, len(whole)
    while low < high:
        middle = (low + high) // 2
        part = whole if middle == 0 else "..." + whole[middle:]
        low, high = (low, middle) if _length(_runs(part), size) <= width else (middle + 1, high)
    return whole if low == 0 else "..." + whole[low:]


def length(text: str, size: int) -> float:
    """Return the width of a line of text, in pixels, as `write` draws it."""
    return _length(_runs(legible(text, _drawable)), size)


def _length(runs: list[tuple[int, str]], size: int) -> float:
    return sum(_font(index, size).getlength(part) for index, part in runs)


def _runs(text: str) -> list[tuple[int, str]]:
    """Return parts of a drawable text with the index of the font for each, one font for all if possible."""
    for index in range(2):
        if all(_has(index, c) for c in text):
            return [(index, text)] if text else []
    runs: list[tuple[int, str]] = []
    for c in text:
        index = _first_font(c)
        if runs and (runs[-1][0] == index or c == " "):
            runs[-1] = runs[-1][0], runs[-1][1] + c
        else:
            runs.append((index, c))
    return runs


def _drawable(character: str) -> bool:
    return any(_has(index, character) for index in range(2 + len(_SYSTEM)))


@lru_cache(4096)
def _first_font(character: str) -> int:
    """Return the index of the first font for a character, this package's before Pillow's: words shall not mix them."""
    order = (1, 0, *range(2, 2 + len(_SYSTEM)))
    return next((index for index in order if _has(index, character)), 0)


@lru_cache(4096)
def _has(index: int, character: str) -> bool:
    """Return whether a font (0: Pillow's, 1: this package's, from 2: the system's) has a glyph for a character."""
    font = _font(index, _TEST_SIZE)
    if index and font is _font(0, _TEST_SIZE):  # not installed
        return False
    if character == " ":
        return True
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))


@lru_cache(256)
def _font(index: int, size: int) -> ImageFont.FreeTypeFont:
    """Return a font by index; Pillow's in place of one that is not there."""
    if index == 0:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    try:
        return ImageFont.truetype(str(_OWN) if index == 1 else _SYSTEM[index - 2], size)
    except (OSError, ImportError):
        return _font(0, size)
