"""Run LCE's benchmark tool on a device and explain its failures."""

from __future__ import annotations

import re
import shlex
import signal
from dataclasses import dataclass
from typing import Any

from bdd_tf.benchmark.contenders import Contender, Result, result_of
from bdd_tf.devices.base import MARK, Device, DeviceError, Done, last_line
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

#: Runs per turn. The tool prints aggregates only, from which the times of at most three runs can be recovered
#: (`bdd_tf.devices.lce_output.Stats.times`).
_RUNS = 3
#: Each turn is a process of its own, and phones need this time to raise their clock.
_WARM_UP = "--warmup_runs=2 --warmup_min_secs=0.5"
#: Longest time of a run of the tool in seconds.
_LONGEST = 600.0


@dataclass(frozen=True)
class DeviceResult(Result):
    """A row of the table, from a device. Times are in ms.

    Attributes:
        mean_ms: Mean of the recorded runs.
        min_ms: Their minimum.
        max_ms: Their maximum.
        runs: Their number.
        init_ms: Time to load and prepare the model, from LCE's tool.
        first_ms: Time of the first, cold run, from LCE's tool.
    """

    mean_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    runs: int = 0
    init_ms: float | None = None
    first_ms: float | None = None


def start_failure(done: Done, device: Device, folder: str) -> DeviceError | None:
    """Explain why LCE's tool did not start on a device; return None if it did.

    Args:
        done: Outcome of the command.
        device: The device.
        folder: The tool's folder on it.
    """
    text, low, where = done.text, done.text.lower(), device.name
    if any(words in low for words in ("exec format error", "not executable:", "cannot execute binary file")):
        return DeviceError(
            f"LCE's tool is built for another architecture than that of {where} (exec format error): name a suitable one "
            f"with {OWN}=path."
        )
    if found := re.search(r"version [`'\"]?((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)['\"]? not found", text):
        return DeviceError(
            f"the system of {where} is too old for LCE's tool: it needs {found[1]}. Update the system, or build the tool "
            f"on the device and name it with {OWN}=path."
        )
    if "cannot link executable" in low or "error while loading shared libraries" in low:
        return DeviceError(f"LCE's tool lacks a library on {where}: {last_line(text)}.")
    if done.code == 126 and "permission denied" in low:
        return DeviceError(
            f"{where} does not run programs in {folder} (permission denied: mounted noexec, or forbidden by SELinux): "
            "choose another folder with --device-folder DIR."
        )
    if done.code == 127 or (done.code == 126 and "no such file" in low):
        return DeviceError(
            f"{where} has no loader for LCE's tool ('not found', although the file exists): its system differs (32-bit "
            f"programs on a 64-bit kernel, or musl instead of glibc); name a suitable tool with {OWN}=path."
        )
    if done.code == 128 + signal.SIGILL:
        return DeviceError(f"the processor of {where} lacks an instruction that LCE's tool uses (SIGILL).")
    return None


def run_failure(done: Done) -> str:
    """Explain why the tool, once started, did not measure a model."""
    said = complaints(done.text)
    if done.code == 128 + signal.SIGKILL:
        return "the tool was killed (out of memory?)"
    if done.code > 128:
        try:
            name = signal.Signals(done.code - 128).name
        except ValueError:
            name = f"signal {done.code - 128}"
        return f"the tool crashed ({name}): {said[0] if said else last_line(done.text) or 'no message'}"
    if done.code:
        return f"the tool refused the model: {said[0] if said else last_line(done.text) or f'exit code {done.code}'}"
    return f"the tool's output could not be parsed: {last_line(done.out) or 'it is empty'}"


class Tool:
    """LCE's benchmark tool in the temporary folder on a device.

    Args:
        device: The device.
        folder: The temporary folder.
        pin: Whether to pin the tool to cores.

    Raises:
        DeviceError: If the tool does not start on the device, or is another program.
    """

    def __init__(self, device: Device, folder: str, pin: bool) -> None:
        self.device, self.folder, self._pin = device, folder, pin
        self.path = f"{folder}/lce_benchmark_model"
        done = device.shell(f"chmod 700 {self.path} && {MARK}={folder} {self.path} --help")
        if failure := start_failure(done, device, folder):
            raise failure
        if "--graph=" not in done.text:
            raise DeviceError(
                f"the program is not LCE's benchmark tool: its answer to --help is {last_line(done.text) or 'empty'!r}."
            )
        if "--use_reference_bconv=" not in done.text:
            raise DeviceError(
                f"the program is TensorFlow Lite's benchmark_model, which has no binary operators; {OWN} must name LCE's."
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
    """A contender that LCE's tool runs; it can take turns like `bdd_tf.benchmark.worker.Worker`.

    Args:
        contender: The contender.
        cores: Cores to use, fastest first; one per thread is used.
        tool: The tool.
        graph: Path of the model on the device.

    Attributes:
        error: Reason for a failure, or None.
        times: Time of each recorded run in ms.
        reports: Report of each recorded turn.
        operators: Profile by kind of operator, from the warm-up.
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
        """Run a turn; without `count`, measure memory and the time of each operator instead."""
        if self.error is not None:
            return
        flags = f"{_WARM_UP} --num_runs={runs} --min_secs=0"
        if not count:
            # Both affect the times. If the tool writes no CSV file, its profile is in the output.
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
            self.error = f"the tool's times are inconsistent: {report.runs}"
            return
        self.times += [t / 1e3 for t in times]
        self.reports.append(report)

    def close(self) -> None:
        """Do nothing: each turn's process ends by itself."""

    def result(self) -> DeviceResult:
        """Return the result, without the ratio."""
        r = self.reports
        middle = {
            "init_ms": round(sorted(x.init_ms for x in r)[len(r) // 2], 3),
            "first_ms": round(sorted(x.first_ms for x in r)[len(r) // 2], 3),
        } if r else {}  # fmt: skip
        return device_result(
            result_of(self.contender, self.times, self._peak, self.error), self.times, **middle
        )


def device_result(result: Result, times: list[float], **more: Any) -> DeviceResult:
    """Extend a result by the statistics of a `DeviceResult`.

    Args:
        result: The result.
        times: Time of each recorded run in ms.
        more: Further attributes of `DeviceResult`.
    """
    if result.error is None:
        more = {"mean_ms": round(sum(times) / len(times), 3), "min_ms": round(min(times), 3),
                "max_ms": round(max(times), 3), "runs": len(times), **more}  # fmt: skip
    return DeviceResult(**vars(result), **more)
