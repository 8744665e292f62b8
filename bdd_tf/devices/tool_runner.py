"""Runs LCE's benchmark tool on a device: whether it starts there, one contender's turns, and what its failures mean."""

from __future__ import annotations

import re
import shlex
import signal
from dataclasses import dataclass

from bdd_tf.benchmarking import Contender, Result, result_of
from bdd_tf.devices.base import MARK, Device, DeviceError, Done, last_words
from bdd_tf.devices.lce_output import (
    Operator,
    Report,
    UnknownOutputError,
    complaints,
    parse_profile,
    parse_report,
)
from bdd_tf.devices.lce_tool import OWN
from bdd_tf.devices.probe import mask

#: Runs of one turn: of three the tool's sums tell each single time (`lce_output.Stats.times`), of more they do not.
_RUNS = 3
#: Each turn is a process of its own: phones need this long to raise their clock.
_WARM_UP = "--warmup_runs=2 --warmup_min_secs=0.5"
_LONGEST = 600.0


@dataclass(frozen=True)
class DeviceResult(Result):
    """A line of the table, from a device; the times are in ms.

    Attributes:
        mean_ms: Mean of all runs that count.
        min_ms: The fastest.
        max_ms: The slowest.
        runs: How many.
        init_ms: Loading and preparing the model, as LCE's tool tells it.
        first_ms: Its first, cold run.
    """

    mean_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    runs: int = 0
    init_ms: float | None = None
    first_ms: float | None = None


def start_failure(done: Done, device: Device, folder: str) -> DeviceError | None:
    """Why a program did not start on a device; None if it did.

    Args:
        done: What was left by running it.
        device: Where.
        folder: Where it lies.
    """
    text, low, where = done.text, done.text.lower(), device.name
    if any(words in low for words in ("exec format error", "not executable:", "cannot execute binary file")):
        return DeviceError(
            f"LCE's tool is for another architecture than {where} (exec format error): name one for it with {OWN}=path."
        )
    if found := re.search(r"version [`'\"]?((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)['\"]? not found", text):
        return DeviceError(
            f"the system of {where} is too old for LCE's tool: it needs {found[1]}. Update the system, or build the tool "
            f"there and name it with {OWN}=path."
        )
    if "cannot link executable" in low or "error while loading shared libraries" in low:
        return DeviceError(f"LCE's tool lacks a library on {where}: {last_words(text)}.")
    if done.code == 126 and "permission denied" in low:
        return DeviceError(
            f"{where} may not run programs in {folder} (permission denied: mounted noexec, or forbidden by SELinux): "
            "give another folder with --device-folder DIR."
        )
    if done.code == 127 or (done.code == 126 and "no such file" in low):
        return DeviceError(
            f"{where} has no loader for LCE's tool ('not found', though it is there): its system is of another kind (32 bits "
            f"below a 64-bit kernel, or musl in place of glibc); name a tool for it with {OWN}=path."
        )
    if done.code == 128 + signal.SIGILL:
        return DeviceError(f"the processor of {where} lacks an instruction that LCE's tool uses (SIGILL).")
    return None


def run_failure(done: Done) -> str:
    """Why the tool, which starts, did not measure a model."""
    said = complaints(done.text)
    if done.code == 128 + signal.SIGKILL:
        return "the tool was killed (out of memory?)"
    if done.code > 128:
        try:
            name = signal.Signals(done.code - 128).name
        except ValueError:
            name = f"signal {done.code - 128}"
        return f"the tool crashed ({name}): {said[0] if said else last_words(done.text) or 'without a word'}"
    if done.code:
        return f"the tool refused the model: {said[0] if said else last_words(done.text) or f'exit code {done.code}'}"
    return f"the tool printed nothing known: {last_words(done.out) or 'nothing at all'}"


class Tool:
    """LCE's tool in our folder on a device.

    Args:
        device: The device.
        folder: Ours.
        pin: Whether programs can be pinned there.

    Raises:
        DeviceError: If it does not start there.
    """

    def __init__(self, device: Device, folder: str, pin: bool) -> None:
        self.device, self.folder, self._pin = device, folder, pin
        self.path = f"{folder}/lce_benchmark_model"
        done = device.shell(f"chmod 700 {self.path} && {MARK}={folder} {self.path} --help")
        if failure := start_failure(done, device, folder):
            raise failure
        if "--graph=" not in done.text:
            raise DeviceError(
                f"what was to be LCE's tool is something else: it answers --help with {last_words(done.text) or 'nothing'!r}."
            )
        if "--use_reference_bconv=" not in done.text:
            raise DeviceError(
                f"that is TensorFlow Lite's own benchmark_model, which knows no binary operators; {OWN} must name LCE's."
            )

    def run(self, graph: str, contender: Contender, cores: list[int], flags: str) -> Done:
        """Run the tool on a model."""
        pinned = f"taskset {mask(cores[: contender.threads])} " if self._pin else ""
        indirect = " --use_indirect_bgemm=true" if contender.kernels == "indirect" else ""
        return self.device.shell(
            f"{MARK}={self.folder} {pinned}{self.path} --graph={shlex.quote(graph)} --num_threads={contender.threads} "
            f"--use_xnnpack=true{indirect} {flags}",
            _LONGEST,
        )


class ToolWorker:
    """A contender that LCE's tool runs; takes turns with others like `bdd_tf.benchmarking.Worker`.

    Args:
        contender: What it runs.
        cores: It may use as many of these as it has threads.
        tool: The tool.
        graph: The model's path on the device.
    """

    turn = _RUNS

    def __init__(self, contender: Contender, cores: list[int], tool: Tool, graph: str) -> None:
        self.contender, self._cores, self._tool, self._graph = contender, cores, tool, graph
        self.error: str | None = None
        self.times: list[float] = []
        self.reports: list[Report] = []
        self.operators: list[Operator] = []
        self._peak: float | None = None

    def run(self, runs: int, *, count: bool = True) -> None:
        """One turn; the first one, which does not count, tells the memory and the time of each operator."""
        if self.error is not None:
            return
        flags = f"{_WARM_UP} --num_runs={runs} --min_secs=0"
        if not count:
            # Both disturb the times. The file appears in our folder; without it the profile goes to the output.
            csv = f"{self._tool.folder}/operators.csv"
            flags += (
                f" --enable_op_profiling=true --profiling_output_csv_file={csv} --report_peak_memory_footprint=true; "
                f"c=$?; cat {csv} 2>/dev/null; rm -f {csv}; (exit $c)"
            )
        done = self._tool.run(self._graph, self.contender, self._cores, flags)
        if failure := start_failure(done, self._tool.device, self._tool.folder):
            raise failure
        try:
            if done.code:
                raise UnknownOutputError
            report = parse_report(done.out)
        except UnknownOutputError:
            self.error = run_failure(done)
            return
        if not count:
            self.operators, self._peak = parse_profile(done.out), report.peak_mib
            return
        times = report.runs.times()
        if times is None:
            self.error = f"the tool's times do not fit together: {report.runs}"
            return
        self.times += [t / 1e3 for t in times]
        self.reports.append(report)

    def close(self) -> None:
        """Nothing: its processes end by themselves."""

    def result(self) -> DeviceResult:
        """What was measured; the ratio comes later."""
        r = self.reports
        middle = {
            "init_ms": round(sorted(x.init_ms for x in r)[len(r) // 2], 3),
            "first_ms": round(sorted(x.first_ms for x in r)[len(r) // 2], 3),
        } if r else {}  # fmt: skip
        return device_result(
            result_of(self.contender, self.times, self._peak, self.error), self.times, **middle
        )


def device_result(result: Result, times: list[float], **more: float) -> DeviceResult:
    """A result with what a device's tells beside.

    Args:
        result: The result.
        times: Of each run that counts, in ms.
        more: Further attributes of `DeviceResult`.
    """
    if result.error is None:
        more = {"mean_ms": round(sum(times) / len(times), 3), "min_ms": round(min(times), 3),
                "max_ms": round(max(times), 3), "runs": len(times), **more}  # fmt: skip
    return DeviceResult(**vars(result), **more)
