"""Reading result files that may be old, partial, damaged or hostile: a value is either usable or None."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from bdd_tf.errors import BddError

#: Result files are kilobytes; what is larger is something else.
LIMIT = 4 << 20
_LONGEST = 64  # entries of a list among the settings


def one_line(value: object) -> str:
    """Text from a file as a short line that any terminal can print."""
    return " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())[:160]


def escaped(value: object) -> str:
    """Text from a file as a Markdown table cell."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", one_line(value))


def _content(path: Path) -> str:
    if path.stat().st_size > LIMIT:
        raise BddError(f"{path.name} cannot be read: {path.stat().st_size:,} bytes are too many for it")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict:
    """A JSON object.

    Raises:
        BddError: If the file is missing, damaged, too large, or holds anything else.
    """
    try:
        value = json.loads(_content(path))
    except (OSError, ValueError, RecursionError) as error:
        raise BddError(f"{path.name} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} holds no metrics")
    return value


def read_yaml(path: Path) -> dict:
    """A YAML mapping, its values as :func:`plain` gives them.

    Raises:
        BddError: If the file is missing, damaged, too large, or holds anything else.
    """
    import yaml

    try:
        value = yaml.safe_load(_content(path))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BddError(f"{path.name} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise BddError(f"{path.name} holds no settings")
    return {str(key)[:100]: plain(content) for key, content in value.items() if not isinstance(key, tuple)}


def number(values: dict, key: str) -> float | None:
    """A finite number of a file, or None: reports outlive the versions that wrote their runs."""
    value = values.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return value if usable and math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def interval(document: dict, key: str) -> list[float] | None:
    """Both ends of a measure's interval, where they are there."""
    found = document.get("intervals")
    found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or len(found) != 2:
        return None
    ends = [share({"": end}, "") for end in found]
    return None if None in ends else ends


def share(values: dict, key: str) -> float | None:
    """A number in [0, 1] of a file, or None."""
    value = number(values, key)
    return value if value is not None and 0 <= value <= 1 else None


def plain(value: object) -> object:
    """A setting as a scalar or a list of scalars; anything deeper is named by its type.

    A few lines of YAML can stand for a structure of any depth and size, which no setting of ours is.
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
    """A setting as text; lists joined by commas."""
    value = plain(value)
    if value is None:
        return None
    return ",".join(str(v) for v in value) if isinstance(value, list) else str(value)
