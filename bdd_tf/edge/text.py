"""Text from untrusted sources, such as file names, made safe to display.

The functions for pages and pictures import what they need: every start of `bdd detect` imports this module.
"""

from __future__ import annotations

from collections.abc import Callable

_JOINER = "\u200d"
# Choose between the coloured and the plain form of the character before.
_STYLES = ("\ufe0e", "\ufe0f")


def visible(text: str) -> str:
    """Return text on one line, with control characters escaped; a file name may hold terminal control sequences.

    The joiner of emoji such as the family stays, between other characters than ASCII.
    """
    return "".join(
        c if c.isprintable() or _joins(text, i) else c.encode("unicode_escape").decode()
        for i, c in enumerate(text)
    )


def legible(text: str, has: Callable[[str], bool]) -> str:
    """Return text that can be drawn with a font, on one line, with an escape for each character that cannot.

    Args:
        text: Any text, also with bytes that are not valid UTF-8, as Python reads them from file names.
        has: Tells whether the font has a glyph for a character.

    Returns:
        The text with composed letters, as far as Unicode has them. A character without a glyph, or a control
        character, becomes ``<U+1F389>``, and a byte that is not valid UTF-8 ``<0xFC>``.

    Example:
        >>> legible("gr\\u00fcn \\U0001f389.jpg", lambda c: ord(c) < 256) == "gr\\u00fcn <U+1F389>.jpg"
        True
    """
    import unicodedata

    composed = unicodedata.normalize("NFC", text)
    return "".join(
        c if c.isprintable() and has(c) else _escape(c)
        for i, c in enumerate(composed)
        if c not in _STYLES and not _joins(composed, i)
    )


def _joins(text: str, at: int) -> bool:
    around = text[max(at - 1, 0) : at] + text[at + 1 : at + 2]
    return text[at] == _JOINER and len(around) == 2 and not any(c.isascii() for c in around)


def _escape(character: str) -> str:
    code = ord(character)
    return f"<0x{code - 0xDC00:02X}>" if 0xDC80 <= code <= 0xDCFF else f"<U+{code:04X}>"


def escaped(text: str) -> str:
    """Return text from outside for an HTML page: on one line, control characters and markup escaped."""
    import html

    # Bytes of a file name that are not valid UTF-8 cannot be written to the file.
    return html.escape(visible(text).encode("utf-8", "backslashreplace").decode())


def policy_hash(text: str) -> str:
    """Return the source of an embedded style or script for a Content-Security-Policy: ``sha256-`` and its digest."""
    import base64
    import hashlib

    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
