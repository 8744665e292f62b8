"""Read result files that may be old, partial, damaged or malicious: each value is either valid or None."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from bdd_tf.errors import BddError

#: Largest accepted size of a result file in bytes. Valid files have kilobytes.
LIMIT = 4 << 20
#: Largest number of entries of a list in the settings.
_LONGEST = 64


def one_line(value: object) -> str:
    """Format text from a file as a line of at most 160 characters that any terminal can print."""
    return " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())[:160]


def escaped(value: object) -> str:
    """Format text from a file as a cell of a Markdown table."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", one_line(value))


def _content(path: Path) -> str:
    if path.stat().st_size > LIMIT:
        raise BddError(
            f"cannot read {path.name}: {path.stat().st_size:,} bytes are more than the limit of {LIMIT:,}"
        )
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        BddError: If the file is missing, damaged, too large, or not a JSON object.
    """
    try:
        value = json.loads(_content(path))
    except (OSError, ValueError, RecursionError) as error:
        raise BddError(f"cannot read {path.name}: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} is not a JSON object")
    return value


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping, with values as :func:`plain` returns them.

    Raises:
        BddError: If the file is missing, damaged, too large, or not a mapping.
    """
    import yaml

    try:
        value = yaml.safe_load(_content(path))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BddError(f"cannot read {path.name}: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} is not a mapping of settings")
    return {str(key)[:100]: plain(content) for key, content in value.items() if not isinstance(key, tuple)}


def number(values: dict, key: str) -> float | None:
    """Return a finite number from a file, or None if the key is missing or has another value."""
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def interval(document: dict, key: str) -> list[float] | None:
    """Return both ends of a metric's interval in [0, 1], or None."""
    found = document.get("intervals")
    found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or len(found) != 2:
        return None
    low, high = (share({"": end}, "") for end in found)
    return None if low is None or high is None else [low, high]


def share(values: dict, key: str) -> float | None:
    """Return a number in [0, 1] from a file, or None."""
    value = number(values, key)
    return value if value is not None and 0 <= value <= 1 else None


def plain(value: object) -> object:
    """Return a setting as a scalar or a list of scalars; replace deeper structures by the name of their type.

    Our settings have no deeper structures, and a few lines of YAML can describe one of any depth and size.
    """
    if isinstance(value, list | tuple):
        return [
            plain(v) if not isinstance(v, list | tuple | dict | set) else _kind(v) for v in value[:_LONGEST]
        ]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value[:1000] if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    return f"({type(value).__name__})"


def text(value: object) -> str | None:
    """Return a setting as text, with lists joined by commas."""
    value = plain(value)
    if value is None:
        return None
    return ",".join(str(v) for v in value) if isinstance(value, list) else str(value)
