"""URLs among the inputs of `bdd detect`. Apart from `fetch`, whose imports take longer than scoring an image."""

from __future__ import annotations

import re


def is_url(text: str) -> bool:
    """Return whether an input is a URL of any scheme. A letter and a colon are a drive, not a scheme."""
    # The first test spares paths the compilation of the pattern.
    return "://" in text and re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None


def without_password(url: str) -> str:
    """Return a URL to print: a user name and password are replaced by dots."""
    return re.sub(r"(?<=://)[^/?#]*@", "...@", url)
