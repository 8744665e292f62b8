"""Measured latency, out of what `bdd benchmark --output DIR` and `bdd benchmark --json` have written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from bdd_tf.errors import BddError
from bdd_tf.reports.reading import LIMIT, number, one_line, text
from bdd_tf.runs import Run

#: The contender by which times of different runs can be compared, whatever else the machine did.
YARDSTICK = "mobilenetv2 224"
UNKNOWN_MACHINE = "an unnamed machine"


@dataclass(frozen=True)
class Latency:
    """One contender of one benchmark.

    Attributes:
        name: Of the contender.
        engine: ``litert``, ``lce`` or ``torch``.
        kernels: Set of kernels; None for XNNPACK.
        threads: CPU threads.
        median_ms: Of one image, in ms.
        machine: Where.
        owner: The run whose file it is; None for any other contender.
        nbytes: Of its file; None where that was not noted.
        ratio: Its median over that of :data:`YARDSTICK` in the same run; None where that did not run.
    """

    name: str
    engine: str | None
    kernels: str | None
    threads: int
    median_ms: float
    machine: str
    owner: str | None = None
    nbytes: float | None = None
    ratio: float | None = None

    def to_dict(self) -> dict:
        """Plain values for the report's JSON."""
        return {key: getattr(self, key) for key in ("engine", "kernels", "threads", "median_ms", "machine")}


def _records(path: Path) -> tuple[str, list]:
    if path.stat().st_size > LIMIT:
        raise BddError(f"{path.name} cannot be read: {path.stat().st_size:,} bytes are too many for it")
    content = path.read_text(encoding="utf-8")
    try:
        document = json.loads(content)
    except ValueError:  # `--json` prints a line per contender
        document = [json.loads(line) for line in content.splitlines() if line.strip()]
    if isinstance(document, dict) and isinstance(document.get("results"), list):
        return one_line(document.get("machine") or UNKNOWN_MACHINE), document["results"]
    return UNKNOWN_MACHINE, document if isinstance(document, list) else [document]


def read_benchmark(path: Path, owner: str | None = None) -> list[Latency]:
    """Contenders that ran.

    Args:
        path: ``benchmark.json``, or the lines of ``--json``.
        owner: The run whose .tflite file was measured: the first contender, and those named like it.

    Raises:
        BddError: If the file is damaged.
    """
    try:
        machine, records = _records(path)
    except (OSError, ValueError, RecursionError) as error:
        raise BddError(f"{path.name} cannot be read: {one_line(error)}") from error
    found, own = [], None
    for i, record in enumerate(r for r in records if isinstance(r, dict)):
        name, engine = text(record.get("name")), text(record.get("engine"))
        median, threads = number(record, "median_ms"), number(record, "threads")
        if i == 0:
            own = name, engine
        if name is None or median is None or median <= 0 or threads is None:
            continue
        found.append(
            Latency(
                one_line(name), engine, text(record.get("kernels")), int(threads), float(median), machine,
                owner if (name, engine) == own else None, number(record, "bytes"),
            )
        )  # fmt: skip
    yardstick = fastest([one for one in found if one.name == YARDSTICK and one.engine == "litert"])
    if yardstick is None:
        return found
    return [
        replace(one, ratio=one.median_ms / yardstick.median_ms) if one.threads == yardstick.threads else one
        for one in found
    ]


def measured(run: Run) -> tuple[list[Latency], list[str]]:
    """Everything benchmarked in a run's folder, and sentences on files that cannot be read."""
    found, notes = [], []
    for path in run.benchmarks():
        try:
            found += read_benchmark(path, run.name)
        except BddError as error:
            notes.append(str(error))
    return found, notes


def fastest(latencies: list[Latency]) -> Latency | None:
    """The best of one image on one thread; where nothing ran on one, on the fewest."""
    return min(latencies, key=lambda found: (found.threads, found.median_ms), default=None)
