"""Reading result files that may be old, partial, damaged or hostile: a value is either usable or None."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from bdd_tf.errors import BddError

#: Result files are kilobytes; what is larger is something else.
LIMIT = 4 << 20


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
    """A YAML mapping of plain types.

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
    return value


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
    ends = [number({"": end}, "") for end in found]
    return None if None in ends else ends


def text(value: object) -> str | None:
    """A setting as text; lists joined by commas."""
    if value is None:
        return None
    return ",".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
