"""Parsed options of `bdd benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure.

    Attributes:
        model: The .tflite file; None: an untrained BNext-T at 224 px.
        threads: Thread counts; None: the default.
        kernels: Kernel sets of our delegate; None: all except scalar.
        against: Value of ``--against``; None: the default selection.
        rounds: Number of turns of each contender; None: the default.
    """

    model: Path | None = None
    threads: list[int] | None = None
    kernels: list[str] | None = None
    against: str | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class DeviceOptions:
    """Where to measure.

    Attributes:
        device: ``adb``, ``adb:SERIAL`` or ``ssh:DESTINATION``.
        folder: Folder on the device in which the temporary folder is made; None: the default.
        python: Path of a Python on the device; None: ``python3``.
    """

    device: str
    folder: str | None = None
    python: str | None = None
