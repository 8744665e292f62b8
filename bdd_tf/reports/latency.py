"""Read latencies from the files of `bdd benchmark --output DIR` and from the output of `bdd benchmark --json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from bdd_tf.errors import BddError
from bdd_tf.reports.parsing import LIMIT, number, one_line, text
from bdd_tf.runs import Run

#: The contender that benchmarks are normalised by, so that different benchmarks can be compared.
YARDSTICK = "mobilenetv2 224"
UNKNOWN_MACHINE = "an unnamed machine"


@dataclass(frozen=True)
class Latency:
    """A contender's latency in a benchmark.

    Attributes:
        name: Name of the contender.
        engine: ``litert``, ``lce`` or ``torch``.
        kernels: Kernel set; None for XNNPACK.
        threads: Number of CPU threads.
        median_ms: Median time of one image in ms.
        machine: Description of the machine.
        owner: Name of the run that the file belongs to; None for other contenders.
        nbytes: Size of the file; None if it was not recorded.
        ratio: Median divided by that of :data:`YARDSTICK` in the same benchmark; None if that did not run.
        source: Name of the benchmark's file, whose contenders took turns; empty if it is unknown.
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
    source: str = ""

    def to_dict(self) -> dict:
        """Return the fields of the report's JSON."""
        return {key: getattr(self, key) for key in ("engine", "kernels", "threads", "median_ms", "machine")}


def _records(path: Path) -> tuple[str, list]:
    if path.stat().st_size > LIMIT:
        raise BddError(
            f"cannot read {path.name}: {path.stat().st_size:,} bytes are more than the limit of {LIMIT:,}"
        )
    content = path.read_text(encoding="utf-8")
    try:
        document = json.loads(content)
    except ValueError:  # `bdd benchmark --json` prints a line per contender
        document = [json.loads(line) for line in content.splitlines() if line.strip()]
    if isinstance(document, dict) and isinstance(document.get("results"), list):
        return one_line(document.get("machine") or UNKNOWN_MACHINE), document["results"]
    return UNKNOWN_MACHINE, document if isinstance(document, list) else [document]


def read_benchmark(path: Path, owner: str | None = None) -> list[Latency]:
    """Read the contenders that ran.

    Args:
        path: ``benchmark.json``, or the output of ``--json``.
        owner: Name of the run whose file was measured, which is the first contender.

    Raises:
        BddError: If the file is damaged.
    """
    try:
        machine, records = _records(path)
    except (OSError, ValueError, RecursionError) as error:
        raise BddError(f"cannot read {path.name}: {one_line(error)}") from error
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
                owner if (name, engine) == own else None, number(record, "bytes"), source=path.name,
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
    """Read the latencies in a run's folder.

    Returns:
        The latencies, and a message for each file that cannot be read.
    """
    found, notes = [], []
    for path in run.benchmarks():
        try:
            found += read_benchmark(path, run.name)
        except BddError as error:
            notes.append(str(error))
    return found, notes


def fastest(latencies: list[Latency]) -> Latency | None:
    """Return the fastest contender among those with the fewest threads; None if there is none."""
    return min(latencies, key=lambda found: (found.threads, found.median_ms), default=None)
