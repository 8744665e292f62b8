"""Reads what LCE's benchmark tool prints.

The tool is TensorFlow Lite's `benchmark_model` (LCE 0.16.0: TensorFlow 2.16) with LCE's operators. It prints times of
runs as counts and moments, in microseconds; newer ones add percentiles. Numbers have six significant digits and may
be written like 1.2e+06.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
_PAIR = re.compile(rf"(\w+)=({_NUMBER})")
_STATS = re.compile(r"^(?:INFO: )?(count=\d+.*)$")
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})"
)
_DELTA = re.compile(
    rf"Memory footprint delta from the start of the tool \(MB\): init=({_NUMBER}) overall=({_NUMBER})"
)
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})")
#: What stands before the lines of a failure.
_FAILED = re.compile(r"^(?:ERROR|FATAL): (.*\S)")


@dataclass(frozen=True)
class Stats:
    """Times of a number of runs, in microseconds.

    Attributes:
        count: How many.
        first: The first one.
        last: The last one.
        least: Smallest.
        largest: Largest.
        mean: To six digits.
    """

    count: int
    first: float
    last: float
    least: float
    largest: float
    mean: float

    def times(self) -> list[float] | None:
        """Each single time, where the numbers tell them: up to three runs, or all alike; None otherwise.

        Of three, the sum less the first and the last is the second; six digits of the mean leave it uncertain by
        2e-5 of it at most, never beyond the smallest and the largest.
        """
        if self.count == 0:
            return []
        if self.least == self.largest:
            return [self.first] * self.count
        if self.count == 2:
            return [self.first, self.last]
        if self.count == 3:
            second = 3 * self.mean - self.first - self.last
            slack = 2e-5 * self.mean + 1
            if not self.least - slack <= second <= self.largest + slack:
                return None
            return [self.first, min(max(round(second), self.least), self.largest), self.last]
        return None


@dataclass(frozen=True)
class Operator:
    """A kind of operator in the profile.

    Attributes:
        kind: Its name.
        count: How many there are.
        milliseconds: All of them together, in a run.
        percent: Of the time of all operators.
    """

    kind: str
    count: int
    milliseconds: float
    percent: float


@dataclass(frozen=True)
class Report:
    """What the tool measured.

    Attributes:
        runs: Times of the runs that count.
        init_ms: Loading and preparing the model.
        first_ms: The first, cold run.
        mean_ms: Mean of the runs that count.
        peak_mib: Largest resident memory; None unless asked for.
        delta_mib: Growth of resident memory from the tool's start to its end; None where not told.
    """

    runs: Stats
    init_ms: float
    first_ms: float
    mean_ms: float
    peak_mib: float | None
    delta_mib: float | None


class UnknownOutputError(ValueError):
    """Not what the tool prints when it succeeds."""


def parse_stats(text: str) -> Stats:
    """Read one line of times, e.g. ``count=3 first=12 curr=10 min=9 max=12 avg=10.3333 std=1``.

    Raises:
        UnknownOutputError: If it is none.
    """
    said = {key: float(value) for key, value in _PAIR.findall(text)}
    if "count" not in said:
        raise UnknownOutputError(f"no line of times: {text!r}")
    count = int(said["count"])
    if count == 0:
        return Stats(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    try:
        if "avg" not in said:  # one run, or "(all same)"
            value = said["curr"]
            return Stats(count, value, value, value, value, value)
        return Stats(count, said["first"], said["curr"], said["min"], said["max"], said["avg"])
    except KeyError as missing:
        raise UnknownOutputError(f"{missing} is missing in {text!r}") from None


def parse_report(text: str) -> Report:
    """Read the whole output of a run that succeeded.

    Args:
        text: Standard output, or both outputs.

    Raises:
        UnknownOutputError: If it is not what the tool prints.
    """
    timings = _TIMINGS.search(text)
    # The first line of times is the warm-up's; those of the profile do not begin with "count".
    stats = [match[1] for line in text.splitlines() if (match := _STATS.match(line.strip()))]
    if not timings or len(stats) < 2:
        raise UnknownOutputError("the lines of times are missing")
    runs = parse_stats(stats[1])
    init, first, _, mean = (float(timings[i]) / 1e3 for i in range(1, 5))
    if runs.count < 1 or not 0 < mean < float("inf"):
        raise UnknownOutputError("no run was timed")
    delta, peak = _DELTA.search(text), _PEAK.search(text)
    return Report(
        runs, init, first, mean, float(peak[1]) if peak else None, float(delta[2]) if delta else None
    )


def parse_profile(text: str) -> list[Operator]:
    """Read the summary by kind of operator, from the CSV file or from the tables on standard output.

    Args:
        text: The file or the output. What concerns preparing the model, which comes first, is left out.

    Returns:
        Kinds of operators, the slowest first; empty where there is no profile.
    """
    _, _, runs = text.partition("Operator-wise Profiling Info for Regular Benchmark Runs:")
    _, _, summary = runs.partition("Summary by node type")
    lines = [line for line in summary.splitlines()[1:] if line.strip()]
    if not lines:
        return []
    rows = [_cells(line) for line in lines]
    columns = {name.strip("[]").lower().replace("_", " "): i for i, name in enumerate(rows[0])}
    try:
        kind, count, time, percent = (columns[name] for name in ("node type", "count", "avg ms", "avg %"))
    except KeyError:
        return []
    found = []
    for row in rows[1:]:
        try:
            found.append(
                Operator(row[kind], int(row[count]), float(row[time]), float(row[percent].rstrip("%")))
            )
        except (IndexError, ValueError):
            break  # the table is over
    return sorted(found, key=lambda o: -o.milliseconds)


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.strip().split("\t")]
    return [cell.strip() for cell in next(csv.reader(io.StringIO(line), skipinitialspace=True), [])]


def complaints(text: str) -> list[str]:
    """What the tool and the runtime complained about, the tool's own last words ("Benchmarking failed.") left out."""
    found = [match[1] for line in text.splitlines() if (match := _FAILED.match(line.strip()))]
    return [line for line in found if line != "Benchmarking failed."]
