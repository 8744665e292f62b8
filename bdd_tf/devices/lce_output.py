"""Parse the output of LCE's benchmark tool.

The tool is TensorFlow Lite's `benchmark_model` (LCE 0.16.0: TensorFlow 2.16) with LCE's operators. It prints times as
aggregates in microseconds: count, first, last, minimum, maximum, mean and standard deviation; newer versions add
percentiles. Numbers have six significant digits, possibly in scientific notation (1.2e+06).
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
#: A line of an error message.
_FAILED = re.compile(r"^(?:ERROR|FATAL): (.*\S)")


@dataclass(frozen=True)
class Stats:
    """Aggregated times of a number of runs, in microseconds.

    Attributes:
        count: Number of runs.
        first: Time of the first run.
        last: Time of the last run.
        least: Minimum.
        largest: Maximum.
        mean: Mean, with six significant digits.
    """

    count: int
    first: float
    last: float
    least: float
    largest: float
    mean: float

    def times(self) -> list[float] | None:
        """Recover the individual times, which is possible for up to three runs, or if all times are equal.

        With three runs, the second time is the sum minus the first and the last. The rounding of the mean makes it
        uncertain by at most 2e-5 of its value; it is clipped to the minimum and maximum.

        Returns:
            The times, or None if they cannot be recovered.
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
    """A kind of operator in a profile.

    Attributes:
        kind: Name of the kind.
        count: Number of operators of that kind.
        milliseconds: Their total time in a run.
        percent: Their share of the time of all operators, in %.
    """

    kind: str
    count: int
    milliseconds: float
    percent: float


@dataclass(frozen=True)
class Report:
    """The report of a run of the tool.

    Attributes:
        runs: Times of the runs after the warm-up.
        init_ms: Time to load and prepare the model.
        first_ms: Time of the first, cold run.
        mean_ms: Mean time of the runs after the warm-up.
        peak_mib: Peak resident memory; None unless it was requested.
        delta_mib: Growth of the resident memory from the tool's start to its end; None if it is not printed.
    """

    runs: Stats
    init_ms: float
    first_ms: float
    mean_ms: float
    peak_mib: float | None
    delta_mib: float | None


class UnknownOutputError(ValueError):
    """The output is not that of a successful run of the tool."""


def parse_stats(text: str) -> Stats:
    """Parse a line of times, e.g. ``count=3 first=12 curr=10 min=9 max=12 avg=10.3333 std=1``.

    Raises:
        UnknownOutputError: If it is not such a line.
    """
    said = {key: float(value) for key, value in _PAIR.findall(text)}
    if "count" not in said:
        raise UnknownOutputError(f"not a line of times: {text!r}")
    count = int(said["count"])
    if count == 0:
        return Stats(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    try:
        if "avg" not in said:  # a single run, or "(all same)"
            value = said["curr"]
            return Stats(count, value, value, value, value, value)
        return Stats(count, said["first"], said["curr"], said["min"], said["max"], said["avg"])
    except KeyError as missing:
        raise UnknownOutputError(f"{missing} is missing in {text!r}") from None


def parse_report(text: str) -> Report:
    """Parse the output of a successful run.

    Args:
        text: Standard output, possibly with standard error.

    Raises:
        UnknownOutputError: If it is not the output of a successful run.
    """
    timings = _TIMINGS.search(text)
    # The first line of times is that of the warm-up. Lines of the profile do not begin with "count".
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
    """Parse the profile's summary by kind of operator, from the CSV file or from the tables on standard output.

    Args:
        text: The file or the output. The profile of the model's preparation, which comes first, is ignored.

    Returns:
        Kinds of operators, slowest first; empty if there is no profile.
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
            break  # end of the table
    return sorted(found, key=lambda o: -o.milliseconds)


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.strip().split("\t")]
    return [cell.strip() for cell in next(csv.reader(io.StringIO(line), skipinitialspace=True), [])]


def complaints(text: str) -> list[str]:
    """Return the error messages of tool and runtime, except the final "Benchmarking failed."."""
    found = [match[1] for line in text.splitlines() if (match := _FAILED.match(line.strip()))]
    return [line for line in found if line != "Benchmarking failed."]
